import sqlite3

import numpy as np
import pytest
import torch

from twofold.data.prepared import PreparedDataset
from twofold.model.classifier import BACKBONES
from twofold.model.device import autocast, inference_batch_size
from twofold.model.inference import apply_view, normalise
from twofold.storage import cache, cache_sqlite
from twofold.training import feature_extraction
from twofold.training.feature_extraction import extract_features
from twofold.training.pretrained_weights import pretrained

NAME = "resnet50"


@pytest.fixture
def images(prepared):
    return PreparedDataset.open(prepared)


@pytest.fixture
def base(alone):
    return pretrained(NAME, "random", dropout=0.5)


@pytest.fixture
def extract(base, images):
    classifier, sha256 = base
    return lambda rows, view=0, base=sha256: extract_features(classifier, NAME, base, images, rows, view)


@pytest.fixture
def seen(monkeypatch):
    """The batch sizes that the base has been run on."""
    counted = []
    batch = feature_extraction._batch
    monkeypatch.setattr(feature_extraction, "_batch", lambda *a: counted.append(len(a[2])) or batch(*a))
    return counted


@pytest.mark.parametrize("mixed", [False, True])
def test_logits_through_the_features_equal_logits_through_the_whole_model(base, extract, images, monkeypatch, mixed):
    monkeypatch.setattr("twofold.model.device.has_bf16", lambda where: mixed)
    classifier, _ = base
    rows = images.rows("train")
    batch = normalise(torch.from_numpy(images.pixels(rows)), BACKBONES[NAME].mean, BACKBONES[NAME].std)
    for number in (0, 1, 4):
        vectors = extract(rows, number)
        with torch.inference_mode():
            through = classifier.head(torch.from_numpy(vectors))
            with autocast(torch.device("cpu")):
                whole = classifier(apply_view(batch, number))
        torch.testing.assert_close(through, whole.float(), atol=3e-3 if mixed else 1e-5, rtol=0)
    assert whole.std(dim=0).min() > 1e-3 if not mixed else True  # the images differ at all


def test_the_base_runs_once_per_image_and_view(extract, images, seen):
    rows = images.rows("train")
    first = extract(rows)
    mirrored = extract(rows, 1)
    assert sum(seen) == 2 * len(rows)
    assert np.array_equal(extract(rows), first)
    assert np.array_equal(extract(rows[::-1], 1), mirrored[::-1])
    assert sum(seen) == 2 * len(rows)
    assert not np.array_equal(first, mirrored)
    extract(rows, base="another base")
    assert sum(seen) == 3 * len(rows)


def test_more_data_runs_the_base_on_new_images_only(extract, images, seen, monkeypatch):
    rows = np.arange(len(images))
    whole = extract(rows)
    monkeypatch.setenv("TWOFOLD_CACHE", "other")
    extract(rows[:7])
    seen.clear()
    grown = extract(rows)
    assert sum(seen) == len(rows) - 7
    assert np.array_equal(grown, whole)


def test_features_looked_up_in_parts_are_the_same(extract, images, seen, monkeypatch):
    rows = np.arange(len(images))
    whole = extract(rows)
    cache.forget_image(images.sha256[4])
    cache.forget_image(images.sha256[len(images) - 1])
    seen.clear()
    monkeypatch.setattr(feature_extraction, "_LOOKUP_ROWS", 3)
    assert np.array_equal(extract(rows), whole)
    assert sum(seen) == 2


def test_every_batch_has_the_same_size(base, extract, images):
    sizes = []
    base[0].backbone.register_forward_pre_hook(
        lambda module, inputs: None if inputs[0].is_meta else sizes.append(len(inputs[0]))
    )
    rows = images.rows("train")
    assert extract(rows[:3]).shape == (3, 2048)
    extract(np.arange(len(images)))
    assert set(sizes) == {inference_batch_size(torch.device("cpu"), images.size)}


def test_a_damaged_or_forgotten_vector_is_computed_again(extract, images, seen):
    rows = images.rows("train")
    first = extract(rows)
    with sqlite3.connect(cache_sqlite.database()) as database:
        database.execute("UPDATE entries SET value = zeroblob(8192) WHERE image = ?", (images.sha256[rows[2]],))
    database.close()
    assert cache.forget_image(images.sha256[rows[4]]) == 1
    seen.clear()
    assert np.array_equal(extract(rows), first)
    assert sum(seen) == 2


def test_features_depend_on_numerics_and_code(extract, images, seen, monkeypatch):
    rows = images.rows("train")[:3]
    extract(rows)
    monkeypatch.setattr(feature_extraction, "device_description", lambda: {"threads": "99"})
    extract(rows)
    assert sum(seen) == 6
    monkeypatch.setattr(feature_extraction, "code_digest", lambda module: "edited")
    extract(rows)
    assert sum(seen) == 9


def test_features_depend_on_pixels_and_channels(extract, images, seen, monkeypatch):
    rows = images.rows("train")[:4]
    extract(rows)
    column = images.column

    def changed(name):
        values = column(name)
        if name == "pixels":
            values[rows[1]] = "0" * 64
        return values

    monkeypatch.setattr(images, "column", changed)
    extract(rows)
    assert sum(seen) == 5
    monkeypatch.setattr(images, "channels", 3)
    extract(rows)
    assert sum(seen) == 9
