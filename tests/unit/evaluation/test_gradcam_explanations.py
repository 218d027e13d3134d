"""Explanations of answers: which images, in which colours, and in which words."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from tests.unit.evaluation.test_error_analysis import LABELS, NAMES, table
from twofold.evaluation import gradcam, predictions
from twofold.evaluation.error_analysis import sample_correct
from twofold.model.classifier import build_classifier

ABOUT = {"backbone": "efficientnet_lite0", "mean": [0.5] * 3, "std": [0.5] * 3}


def pixels(name):
    return np.random.default_rng(NAMES.index(name)).integers(0, 256, (96, 96, 1), np.uint8)


def decode(address):
    data = base64.b64decode(address.removeprefix("data:image/jpeg;base64,"))
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


@pytest.fixture(scope="module")
def classifier():
    torch.manual_seed(1)
    return build_classifier("efficientnet_lite0", 0.5)


@pytest.fixture(scope="module")
def found(classifier):
    return gradcam.explain_answers(classifier, ABOUT, table(), LABELS, pixels)


def test_errors_and_correct_answers_have_a_map_and_a_description(found):
    assert [case.answer.sha256 for case in found.errors] == ["aa", "cc", "dd"]
    assert [(case.answer.sha256, case.answer.answer) for case in found.hits] == [("ee", "bad"), ("bb", "good")]
    for case in [*found.errors, *found.hits]:
        assert decode(case.overlay).shape == (96, 96, 3)
        assert case.words.startswith(f"What speaks for the answer {case.answer.answer} in test image ")
    assert (found.positions, found.missing) == ((3, 3), "")
    assert -1 <= found.untrained <= 1
    assert found == gradcam.explain_answers(build_again(), ABOUT, table(), LABELS, pixels)


def build_again():
    torch.manual_seed(1)
    return build_classifier("efficientnet_lite0", 0.5)


def test_an_image_is_explained_for_the_answer_that_was_given(classifier, monkeypatch):
    asked = []

    def maps(model, pool, images, answers, **scale):
        asked.append((pool, list(answers), [image.sum() for image in images], scale))
        return np.ones((len(images), 2, 2), np.float32)

    monkeypatch.setattr(gradcam, "gradcam_maps", maps)
    gradcam.explain_answers(classifier, ABOUT, table(), LABELS, pixels)
    # The answers to aa, cc, dd (wrong), ee and bb (correct), for the model and for the untrained network.
    sums = [pixels(name).sum() for name in ("aa", "cc", "dd", "ee", "bb")]
    assert asked == [("global_pool.pool", [1, 0, 1, 1, 0], sums, {"mean": [0.5] * 3, "std": [0.5] * 3})] * 2


def test_the_network_compared_with_is_untrained(classifier, monkeypatch):
    seen = []
    monkeypatch.setattr(
        gradcam, "median_rank_correlation", lambda some, others: seen.append(np.array_equal(some, others)) or 0.25
    )
    assert gradcam.explain_answers(classifier, ABOUT, table(), LABELS, pixels).untrained == 0.25
    assert seen == [False]


@pytest.mark.parametrize(
    ("about", "shown", "why"),
    [
        (ABOUT, None, "evaluate.pictures: false"),
        (ABOUT, lambda name: pixels(name)[:32, :32], "a single position at images of 32 pixels"),
    ],
)
def test_without_maps_there_is_a_reason_and_no_overlay(classifier, about, shown, why):
    found = gradcam.explain_answers(classifier, about, table(), LABELS, shown)
    assert why in found.missing
    assert [case.answer.sha256 for case in found.errors] == ["aa", "cc", "dd"]
    assert {case.overlay for case in [*found.errors, *found.hits]} == {None}
    assert (found.legend, found.untrained, found.positions) == (None, None, None)


def test_correct_answers_are_evenly_spaced_and_half_of_each_class():
    names = [f"{number:02}" for number in range(20)]
    columns = {
        "sha256": names,
        "split": ["test"] * 20,
        "label": ["good"] * 10 + ["bad"] * 10,
        "target": [0] * 10 + [1] * 10,
        "probability": [0.1] * 10 + [0.9] * 7 + [0.2] * 3,
        "predicted": [0] * 10 + [1] * 7 + [0] * 3,
        "group": [None] * 20,
    }
    test = predictions.build_predictions(columns, {})
    found = sample_correct(test, LABELS, None, most=6)
    assert [case.sha256 for case in found] == ["10", "13", "16", "00", "04", "09"]
    assert {case.label == case.answer for case in found} == {True}
    assert len(sample_correct(test, LABELS, None, most=40)) == 17


def test_no_support_stays_grey_and_the_strongest_support_is_lightest():
    grey = np.full((1, 3), 100, np.uint8)
    nothing, middle, most = gradcam.colour_map(grey, np.array([[0.0, 0.5, 1.0]]))[0].astype(int)
    assert nothing.tolist() == [100, 100, 100]
    # 0.4 of the grey and 0.6 of the ramp's colour
    assert middle.tolist() == [173, 84, 102]
    assert most.tolist() == [192, 174, 112]


def test_the_overlay_has_the_orientation_of_the_map():
    heat = np.zeros((4, 4), np.float32)
    heat[0, 3] = 1.0
    image = decode(gradcam.overlay_map(np.full((64, 64, 1), 60, np.uint8), heat)).astype(int)
    colour = image.max(axis=2) - image.min(axis=2)
    assert colour[:16, 48:].mean() > 20
    assert max(colour[32:].mean(), colour[:, :32].mean()) < 3


def test_the_overlay_has_the_orientation_of_the_image():
    picture = np.zeros((64, 64, 1), np.uint8)
    picture[:32, :16] = 200
    image = decode(gradcam.overlay_map(picture, np.zeros((4, 4), np.float32))).astype(int)
    assert image[4:28, 4:12].min() > 190
    assert max(image[36:].max(), image[:, 20:].max()) < 10


def test_a_large_image_is_shown_small_and_its_colours_become_grey():
    image = decode(gradcam.overlay_map(np.full((512, 512, 3), (255, 0, 0), np.uint8), np.zeros((7, 7), np.float32)))
    assert image.shape == (256, 256, 3)
    assert np.ptp(image.reshape(-1, 3).astype(int), axis=1).max() <= 2
    assert image.mean() == pytest.approx(76, abs=2)  # Rec. 601 luma of red: 0.299 * 255


@pytest.mark.parametrize(
    ("at", "words"),
    [
        ((0, 0), "strongest in the upper left"),
        ((0, 3), "strongest in the upper middle"),
        ((3, 6), "strongest in the middle right"),
        ((3, 3), "strongest in the middle"),
        ((6, 2), "strongest in the lower middle"),
        ((6, 1), "strongest in the lower left"),
    ],
)
def test_the_strongest_position_is_described_in_words(at, words):
    heat = np.zeros((7, 7), np.float32)
    heat[at] = 1.0
    assert gradcam.describe_location(heat) == words


def test_an_empty_map_is_described_as_empty():
    assert gradcam.describe_location(np.zeros((7, 7), np.float32)) == "nothing in the map speaks for it"


def test_a_network_without_a_map_to_average_has_a_reason():
    classifier = build_classifier("timm/vit_tiny_patch16_224", 0.5, 96)
    about = ABOUT | {"backbone": "timm/vit_tiny_patch16_224"}
    found = gradcam.explain_answers(classifier, about, table(), LABELS, pixels)
    assert found.missing.endswith("averaged at the end, and timm/vit_tiny_patch16_224 has none")
    assert {case.overlay for case in [*found.errors, *found.hits]} == {None}
