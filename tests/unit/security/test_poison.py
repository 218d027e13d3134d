"""Poisoned weights and models: no code in them is executed, the error names the file, and no files are left behind."""

import hashlib
from contextlib import suppress

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from tests.support import poison
from twofold.core.artifacts import read_json, write_json, write_meta
from twofold.core.errors import ArtifactError, WeightsError
from twofold.model import classifier as models
from twofold.serving import sealed_model_writer
from twofold.serving.sealed_model import open_sealed
from twofold.training import pretrained_weights

FILE = "dot-01234567.pth"
KEY = ("dot", "published")
PIXELS = {
    "image_size": 32,
    "fit": "squash",
    "limits": {"max_bytes": 1 << 20, "max_pixels": 1 << 20, "min_side": 8},
}


class Dot(nn.Module):
    """A backbone of four features."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 1)

    def forward(self, images):
        return self.conv1(images).mean(dim=(2, 3))


@pytest.fixture(autouse=True)
def dot(alone, monkeypatch):
    known = models.Backbone(features=4, mean=(0, 0, 0), std=(1, 1, 1), stages=(), make=Dot)
    monkeypatch.setitem(models.BACKBONES, "dot", known)


def everything(root):
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*"))


def published(path):
    path.parent.mkdir(parents=True)
    torch.save(Dot().state_dict(), path)
    return path


def record(monkeypatch, path, digits=64):
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    url = "http://127.0.0.1:9/nothing.pth"
    monkeypatch.setitem(
        pretrained_weights.SOURCES, KEY, pretrained_weights.WeightsSource(path.name, sha256[:digits], url)
    )


def trained(folder):
    """A model folder."""
    folder.mkdir(parents=True)
    save_file(models.build_classifier("dot", 0.5).state_dict(), folder / "model.safetensors")
    write_meta(folder, "model", 1, backbone="dot", dropout=0.5, mean=[0.0] * 3, std=[1.0] * 3)
    return folder


def sealed(root):
    write_json(root / "decision.json", {"labels": ["good", "bad"], "positive": "bad", "threshold": 0.5, "views": 1})
    return sealed_model_writer.write_sealed_model(
        trained(root / "model"), root / "decision.json", PIXELS, root / "sealing"
    )


def forge(folder, leave=()):
    """Write a new seal over the folder's files, except those in `leave`; returns its digest."""
    seal = read_json(folder / "seal.json")
    seal["files"] = {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.name not in ("seal.json", *leave)
    }
    write_json(folder / "seal.json", seal)
    return hashlib.sha256((folder / "seal.json").read_bytes()).hexdigest()


@pytest.mark.filterwarnings("ignore:Python 3.14 will, by default, filter:DeprecationWarning")  # torch's reader of tar
@pytest.mark.parametrize("kind", poison.WITH_CODE)
def test_a_careless_reader_executes_the_poison(kind, alone, canary):
    path = published(alone / "given" / FILE)
    poison.plant(kind, path, canary)
    assert not canary.exists()
    poison.careless(kind, path)
    assert canary.exists()


@pytest.mark.parametrize("trusted", [False, True], ids=["its digest in the table", "the digest of a poisoned file"])
@pytest.mark.parametrize("place", ["file", "folder", "torch cache"])
@pytest.mark.parametrize("kind", poison.KINDS)
def test_pretrained_weights(kind, place, trusted, alone, canary, monkeypatch):
    cache = alone / "torch" / "hub" / "checkpoints"
    path = published((cache if place == "torch cache" else alone / "given") / FILE)
    if place != "torch cache":
        monkeypatch.setenv("TWOFOLD_WEIGHTS", str(path if place == "file" else path.parent))
    record(monkeypatch, path)
    poison.plant(kind, path, canary)
    if trusted:
        record(monkeypatch, path)
    before = everything(alone)
    if kind in poison.WITH_GOOD_WEIGHTS:
        pretrained_weights.pretrained(*KEY, dropout=0.5)
    else:
        with pytest.raises(WeightsError, match=f"{FILE}: {'refused' if trusted else 'its SHA-256 is'}") as caught:
            pretrained_weights.pretrained(*KEY, dropout=0.5)
        assert "weights_only" not in str(caught.value)  # torch's advice to disable the protection
    assert not canary.exists()
    assert everything(alone) == before


@pytest.mark.parametrize("kind", [kind for kind in poison.KINDS if kind not in ("wrong SHA", "code path")])
def test_poison_with_the_known_digits_of_the_digest_is_neither_recorded_nor_kept(kind, alone, canary, monkeypatch):
    path = published(alone / "given" / FILE)
    poison.plant(kind, path, canary)
    record(monkeypatch, path, digits=8)
    monkeypatch.setenv("TWOFOLD_WEIGHTS", str(path))
    with pytest.raises(WeightsError, match=f"{FILE}: refused"):
        pretrained_weights.pretrained(*KEY, dropout=0.5)
    monkeypatch.setattr(pretrained_weights, "download", lambda *words, **options: path.read_bytes())
    before = everything(alone)
    with pytest.raises(WeightsError, match=f"{FILE}: refused"):
        pretrained_weights.fetch_weights("dot")
    assert everything(alone) == before
    assert not canary.exists()


@pytest.mark.parametrize("kind", poison.KINDS)
def test_a_model_folder(kind, alone, canary):
    folder = trained(alone / "model")
    expected = models.load_classifier(folder)[0].state_dict()
    poison.plant(kind, folder / "model.safetensors", canary)
    before = everything(alone)
    if kind in (*poison.WITH_GOOD_WEIGHTS, "wrong SHA"):
        # safetensors does not detect a flipped bit; the seal does, and `register` does by the folder's digest.
        assert models.load_classifier(folder)[0].state_dict().keys() == expected.keys()
    else:
        with pytest.raises(ArtifactError, match=r"model\.safetensors: cannot be read as a model's weights"):
            models.load_classifier(folder)
    assert not canary.exists()
    assert everything(alone) == before


@pytest.mark.parametrize(
    "content",
    [
        "[" * 100_000,
        "[]",
        "null",
        '{"kind": "model", "schema_version": 1, "backbone": [], "dropout": 0.5}',
        '{"kind": "model", "schema_version": 1, "backbone": "dot", "dropout": "half"}',
        "\x80",
    ],
    ids=["deep", "list", "null", "backbone", "dropout", "no text"],
)
def test_an_invalid_meta_json(content, alone):
    (trained(alone / "model") / "meta.json").write_text(content, encoding="latin-1")
    with pytest.raises(ArtifactError, match=r"model/meta\.json: "):
        models.load_classifier(alone / "model")


@pytest.mark.parametrize("known", [True, False], ids=["digest known", "digest not known"])
@pytest.mark.parametrize("forged", [False, True], ids=["seal left", "seal forged"])
@pytest.mark.parametrize("kind", poison.KINDS)
def test_a_sealed_model(kind, forged, known, alone, canary):
    made = sealed(alone)
    folder = made.directory / "sealed"
    poison.plant(kind, folder / "model.safetensors", canary)
    if forged:
        forge(folder)
    before = everything(alone)
    if forged and not known and kind == "wrong SHA":
        open_sealed(folder)  # another model with another seal, which only a known digest reveals
    else:
        with pytest.raises(ArtifactError, match=str(folder)) as caught:
            open_sealed(folder, made.digest if known else None)
        assert "do not use this model" in str(caught.value) or not known or kind == "symlink"
    assert not canary.exists()
    assert everything(alone) == before


def test_a_calibrator_that_decision_json_names_is_rejected_or_ignored(alone, canary):
    folder = sealed(alone).directory / "sealed"
    poison.plant("joblib calibrator", folder / "model.safetensors", canary)
    save_file(models.build_classifier("dot", 0.5).state_dict(), folder / "model.safetensors")
    write_json(folder / "decision.json", read_json(folder / "decision.json") | {"calibrator": "calibrator.joblib"})
    with pytest.raises(ArtifactError, match=r"calibrator\.joblib: added"):
        forge(folder, leave=["calibrator.joblib"])
        open_sealed(folder)
    forge(folder)
    with suppress(ArtifactError):  # listed in the seal, it may be accepted, but it is not read
        open_sealed(folder)
    (folder / "calibrator.joblib").rename(folder.parent / "calibrator.joblib")
    forge(folder)
    assert open_sealed(folder).decision["calibrator"] == "calibrator.joblib"
    assert not canary.exists()


def test_a_seal_that_names_a_file_outside_the_folder_is_invalid(alone):
    folder = sealed(alone).directory / "sealed"
    seal = read_json(folder / "seal.json")
    for name in ("/etc/passwd", "../model/model.safetensors"):
        write_json(folder / "seal.json", seal | {"files": seal["files"] | {name: "0" * 64}})
        with pytest.raises(ArtifactError, match=r"seal\.json: "):
            open_sealed(folder)


@pytest.mark.parametrize("content", ["[" * 100_000, "{}", "\x80"], ids=["deep", "empty", "no text"])
@pytest.mark.parametrize("name", ["seal.json", "decision.json", "preprocessing.json"])
def test_invalid_json(name, content, alone):
    folder = sealed(alone).directory / "sealed"
    (folder / name).write_text(content, encoding="latin-1")
    if name != "seal.json":
        forge(folder)
    with pytest.raises(ArtifactError, match=str(folder)):
        open_sealed(folder)
