"""The most confident errors: selection, order and pictures."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from twofold.evaluation import error_analysis, predictions

LABELS = ("good", "bad")
#              correct, wrong (.6), wrong (.8), correct, wrong (.8); in parentheses the confidence
PROBABILITY = [0.9, 0.6, 0.2, 0.1, 0.8]
TARGET = [1, 0, 1, 0, 0]
NAMES = ["ee", "dd", "cc", "bb", "aa"]


def table():
    columns = {
        "sha256": NAMES,
        "split": ["test"] * 5,
        "label": [LABELS[value] for value in TARGET],
        "target": TARGET,
        "probability": PROBABILITY,
        "predicted": np.array(PROBABILITY) >= 0.5,
        "group": [None] * 5,
    }
    return predictions.build_predictions(columns, {"type": ["mono", "poly", None, "mono", "poly"]})


def test_the_most_confident_error_comes_first_and_ties_are_ordered_by_sha256():
    found = error_analysis.most_confident_errors(table(), LABELS, None)
    assert [(case.sha256, case.label, case.answer, case.sure) for case in found] == [
        ("aa", "good", "bad", 0.8),
        ("cc", "bad", "good", 0.8),
        ("dd", "good", "bad", 0.6),
    ]
    assert [case.slices for case in found] == [["type: poly"], [], ["type: poly"]]
    assert {case.image for case in found} == {None}
    assert [case.sha256 for case in error_analysis.most_confident_errors(table(), LABELS, None, most=1)] == ["aa"]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_picture_contains_the_exact_pixels(channels):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 6, channels), dtype=np.uint8)
    found = error_analysis.most_confident_errors(table(), LABELS, lambda name: pixels)[0]
    assert found.size == 6
    data = base64.b64decode(found.image.removeprefix("data:image/png;base64,"))
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(np.asarray(image).reshape(pixels.shape), pixels)


def test_only_the_returned_pictures_are_read():
    asked = []
    error_analysis.most_confident_errors(
        table(), LABELS, lambda name: (asked.append(name), np.zeros((2, 2, 1), np.uint8))[1], most=2
    )
    assert asked == ["aa", "cc"]
