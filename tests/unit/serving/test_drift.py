"""`twofold drift`: a reference sealed with the model, two tests, and exit codes for a schedule."""

import json
import re

import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import save_file

from tests.support import sealed_case
from tests.support.registered_case import images
from twofold.cli import main
from twofold.core.errors import ArtifactError
from twofold.evaluation import drift_reference
from twofold.evaluation.drift_reference import REFERENCE, ReferenceSample, first_of_each_group, read, write
from twofold.serving import drift
from twofold.serving.sealed_model import open_sealed
from twofold.sources.unlabelled import list_unlabelled


def fill(folder, count, seed, change=None):
    """Write a folder of images, each passed through `change`."""
    folder.mkdir(parents=True)
    for number, data in enumerate(images(count, seed)):
        path = folder / f"{number:03d}.png"
        path.write_bytes(data)
        if change is not None:
            with Image.open(path) as image:
                array = np.asarray(image.convert("L"))
            Image.fromarray(change(array)).save(path)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A sealed model with a reference of 60 images."""
    root = tmp_path_factory.mktemp("drift")
    bare = sealed_case.make(root / "bare")
    fill(root / "old", 60, seed=1)
    found = list_unlabelled(str(root / "old"))
    sample, refused = drift.sample_images(open_sealed(bare), found.source, [key for key, _ in found.images])
    assert (len(sample.scores), refused) == (60, [])
    write(root / REFERENCE, sample)
    return sealed_case.make(root / "whole", further={REFERENCE: root / REFERENCE})


@pytest.fixture
def call(capsys, model):
    """Runs the command; returns (exit status, stdout, stderr)."""

    def run(*words, model=model):
        with pytest.raises(SystemExit) as caught:
            main.main(["drift", str(model), *map(str, words)])
        return caught.value.code, *capsys.readouterr()

    return run


def test_images_of_the_same_kind_show_no_drift(call, tmp_path):
    status, text, _ = call(fill(tmp_path / "new", 50, seed=2))
    assert status == 0
    assert "50 of 50 images compared" in text
    assert text.splitlines()[-1] == (
        "no drift found (drift: a p-value of at most 0.025, which is alpha 0.05 over 2 tests)"
    )


def test_changed_images_show_drift_and_set_the_exit_code(call, tmp_path):
    folder = fill(tmp_path / "new", 50, seed=2, change=lambda array: array // 2)
    status, text, _ = call(folder)
    assert status == 3
    assert text.splitlines()[-1].startswith("drift found")
    status, text, _ = call(folder, "--json")
    found = json.loads(text)
    assert (status, found["drift"], found["new"], found["old"], found["offered"]) == (3, True, 50, 60, 50)
    assert found["features"]["p"] == 0.001
    assert found["features"]["roc_auc"] > 0.9
    assert found["p_limit"] == 0.025
    assert call(folder, "--json")[1] == text


def test_classes_are_ignored_and_one_image_of_a_group_counts(call, tmp_path):
    folder = tmp_path / "new"
    for label, seed in (("good", 3), ("bad", 4)):
        fill(folder / label, 40, seed)
    assert call(folder)[0] == 0
    keys = [f"{label}/{number:03d}.png" for label in ("good", "bad") for number in range(40)]
    lines = [f"{key},{key.split('/')[0]},{place // 2}" for place, key in enumerate(keys)]
    (folder / "labels.csv").write_text("\n".join(["path,label,group", *lines]) + "\n")
    found = json.loads(call(folder, "--json")[1])
    assert (found["offered"], found["new"]) == (80, 40)


def test_files_that_are_not_images_are_counted_and_named(call, tmp_path):
    folder = fill(tmp_path / "new", 40, seed=5)
    (folder / "broken.png").write_bytes(b"not an image")
    status, text, _ = call(folder)
    assert status == 0
    assert "40 of 41 images compared" in text
    assert "refused   1 files" in text
    assert "broken.png: " in text


def test_at_most_a_sample_is_compared_and_the_same_each_time(call, tmp_path, monkeypatch):
    folder = fill(tmp_path / "new", 60, seed=6)
    monkeypatch.setattr(drift, "MOST", 35)
    first = json.loads(call(folder, "--json")[1])
    assert (first["offered"], first["new"]) == (60, 35)
    assert json.loads(call(folder, "--json")[1]) == first


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("few",), r"few: 29 images, at least 30 are needed"),
        (("nothing",), r"nothing: no such folder"),
        (("broken",), r"broken: 0 of 40 images can be read, at least 30 are needed; .*\.png: "),
        (("few", "--alpha", "0.6"), r"--alpha: found 0\.6; allowed are 0\.002 to 0\.5"),
        (("few", "--alpha", "0.001"), r"--alpha: found 0\.001"),
        (("few", "--alpha", "nan"), r"--alpha: found nan"),
    ],
)
def test_a_source_that_cannot_be_compared_is_an_error(call, tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    fill(tmp_path / "few", 29, seed=7)
    for path in fill(tmp_path / "broken", 40, seed=8).iterdir():
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"no more")
    status, text, err = call(*words)
    assert (status, text) == (1, "")
    assert re.search(message, err)
    assert "Traceback" not in err


def test_a_model_sealed_without_a_reference_is_an_error(call, tmp_path):
    status, _, err = call(fill(tmp_path / "new", 30, seed=9), model=sealed_case.make(tmp_path / "bare"))
    assert status == 1
    assert f"the model was sealed without {REFERENCE}, by an earlier version; run evaluate and register again" in err


def test_the_first_image_of_a_group_counts_and_every_image_without_a_group():
    assert first_of_each_group(["a", None, "b", "a", None, "b"]) == [0, 1, 2, 4]


def sample(n=5):
    return ReferenceSample(np.arange(n * 3, dtype=np.float16).reshape(n, 3), np.linspace(0, 1, n, dtype=np.float32))


def test_a_reference_is_read_as_it_was_written_and_equal_ones_are_equal_files(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write(tmp_path / name / REFERENCE, sample())
    back = read(tmp_path / "one")
    assert np.array_equal(back.features, sample().features)
    assert np.array_equal(back.scores, sample().scores)
    assert (tmp_path / "one" / REFERENCE).read_bytes() == (tmp_path / "two" / REFERENCE).read_bytes()


@pytest.mark.parametrize(
    "values",
    [
        {"features": sample().features},
        {"features": sample().features, "scores": sample().scores[:4]},
        {"features": sample().features.astype(np.float32), "scores": sample().scores},
        {"features": np.full((5, 3), np.inf, np.float16), "scores": sample().scores},
        {"features": sample().features, "scores": np.full(5, np.nan, np.float32)},
        {"features": sample().features.ravel(), "scores": sample().scores},
    ],
)
def test_a_reference_with_other_tensors_is_refused(tmp_path, values):
    save_file(values, tmp_path / REFERENCE)
    with pytest.raises(ArtifactError, match=REFERENCE):
        read(tmp_path)


def test_a_reference_that_is_not_safetensors_is_refused(tmp_path):
    (tmp_path / REFERENCE).write_bytes(b"\x80\x05not tensors")
    with pytest.raises(ArtifactError, match=rf"{REFERENCE}: cannot be read"):
        read(tmp_path)


def test_features_too_large_for_half_precision_are_clipped(monkeypatch):
    import torch

    class Loud(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def features(self, pixels):
            return pixels.mean(dim=(2, 3)) * 1e9

    found = drift_reference.pooled_features(
        Loud(), [np.full((2, 4, 4, 1), 255, np.uint8)], mean=[0.5] * 3, std=[0.5] * 3
    )
    assert found.dtype == np.float16
    assert np.isfinite(found).all()
    assert found.max() == 65504
