import json

import pytest
import torch
from safetensors.torch import load_file

from tests.support.training_maker import HEAD, make_head
from twofold.core.artifacts import digest
from twofold.core.errors import ParameterError
from twofold.core.params import check_section
from twofold.steps.train_head import TrainHead


def test_the_same_seed_gives_the_same_bytes_with_and_without_the_cache(prepared, alone, monkeypatch):
    first = digest(make_head(prepared, alone / "first"))
    assert digest(make_head(prepared, alone / "second")) == first
    monkeypatch.setenv("TWOFOLD_CACHE", str(alone / "empty"))
    assert digest(make_head(prepared, alone / "third")) == first
    assert digest(make_head(prepared, alone / "other", seed=1)) != first


def test_the_artifact_says_what_it_is(prepared, alone):
    head = make_head(prepared, alone)
    assert sorted(path.name for path in head.iterdir()) == ["head.safetensors", "history.csv", "meta.json"]
    shapes = {name: tuple(tensor.shape) for name, tensor in load_file(head / "head.safetensors").items()}
    assert shapes == {"0.weight": (256, 1280), "0.bias": (256,), "3.weight": (2, 256), "3.bias": (2,)}
    meta = json.loads((head / "meta.json").read_text())
    assert (meta["kind"], meta["schema_version"]) == ("head", 1)
    assert meta["params"] == {name: value for name, value in HEAD.items() if name != "audit"}
    assert len(meta["base_sha256"]) == 64
    expected = {
        "backbone": "efficientnet_lite0",
        "weights": "random",
        "image_size": 32,
        "channels": 1,
        "positive": "bad",
    }
    assert {name: meta[name] for name in expected} == expected
    assert meta["labels"] == ["good", "bad"]
    metrics = json.loads((alone / "head.json").read_text())
    assert metrics["validation"] == meta["validation"]
    lines = (head / "history.csv").read_text().splitlines()
    assert lines[0] == "epoch,lr,train_loss,validation_log_loss,validation_roc_auc,validation_accuracy"
    assert len(lines) == 2 + metrics["epochs"]


def test_the_base_processes_every_image_once_and_each_cached_view_once_more(prepared, alone, monkeypatch):
    from twofold.training import feature_extraction

    seen = []
    batch = feature_extraction._batch
    monkeypatch.setattr(feature_extraction, "_batch", lambda *a: seen.extend([a[3]] * len(a[2])) or batch(*a))
    for switches, views in (
        ({"flips": False}, {0}),
        ({"flips": True}, {0, 1}),
        ({"flips": True, "orientation_free": True}, {0, 3, 5, 6}),
    ):
        seen.clear()
        monkeypatch.setenv("TWOFOLD_CACHE", str(alone / f"cache{len(views)}"))
        make_head(prepared, alone, epochs=1, **switches)
        meta = json.loads((prepared / "meta.json").read_text())["counts"]
        train, validation, test = (sum(meta[split].values()) for split in ("train", "validation", "test"))
        assert set(seen) == views
        # The audit uses the test images too, for a head that is discarded.
        assert len(seen) == train * len(views) + validation + test


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": "imagenet1k_v1"}, r"train_head\.weights: found 'imagenet1k_v1'.*lite0 has packaged"),
        ({"backbone": "vgg"}, r"train_head\.backbone: found 'vgg'.*resnet50\|efficientnet_lite0\|timm/"),
        ({"backbone": "timm/hf-hub:some/model"}, r"train_head\.backbone: found 'timm/hf-hub:some/model'"),
        ({"backbone": "timm/resnet18", "weights": "packaged"}, r"timm/resnet18 has sha256:DIGEST, random"),
        ({"backbone": "timm/resnet18", "weights": "sha256:12"}, r"train_head\.weights: found 'sha256:12'"),
        ({"weights": "sha256:" + "0" * 64}, r"lite0 has packaged, random"),
        ({"epochs": 3.5}, r"train_head\.epochs: found 3\.5"),
        ({"dropout": 1.0}, r"train_head\.dropout: found 1\.0.*0 to below 1"),
        ({"learning_rate": 0}, r"train_head\.learning_rate: found 0"),
    ],
)
def test_a_wrong_parameter_is_refused(changes, message):
    with pytest.raises(ParameterError, match=message):
        check_section(TrainHead, "train_head", HEAD | changes)


def test_training_writes_no_other_files(prepared, alone):
    make_head(prepared, alone)
    assert sorted(path.name for path in alone.iterdir()) == [".twofold", "audit", "head", "head.json"]
    assert torch.get_num_threads() >= 1


def test_a_model_of_timm_is_a_backbone(alone):
    section = HEAD | {"backbone": "timm/resnet18.a1_in1k", "weights": "sha256:" + "0" * 64}
    assert check_section(TrainHead, "train_head", section).backbone == "timm/resnet18.a1_in1k"
