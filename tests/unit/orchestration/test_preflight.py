"""What a pod finds around it: each thing there, and missing."""

import hashlib
import os
from pathlib import Path

import pytest

from tests.support.dvc_case import make_repository
from twofold.core.errors import ParameterError
from twofold.orchestration import preflight
from twofold.orchestration.preflight_findings import from_log
from twofold.training import pretrained_weights
from twofold.training.pretrained_weights import WeightsSource

PROMISE = {
    "task": "finetune_all",
    "gpus": 0.0,  # as Kubeflow hands whole numbers over
    "shm": 0.0,
    "checkpoints": True,
    "source": "/nowhere",
    "bucket": "",
    "backbone": "resnet50",
    "weights": "random",
}


@pytest.fixture
def place(alone, monkeypatch):
    for name in ("MLFLOW_TRACKING_URI", "AWS_ACCESS_KEY_ID"):
        monkeypatch.delenv(name, raising=False)
    return alone


def test_every_finding_is_printed_as_it_comes_and_stands_on_the_page(place, capsys, monkeypatch):
    monkeypatch.setenv("TWOFOLD_CHECKPOINTS", str(place / "checkpoints"))
    preflight.run_preflight(PROMISE, str(place / "page.md"))
    found = from_log(capsys.readouterr().out)
    assert [each.check for each in found] == [
        "finetune_all: user in the pod",
        "finetune_all: GPU in the pod",
        "finetune_all: /dev/shm",
        "finetune_all: checkpoints",
        "finetune_all: weights resnet50 random",
        "finetune_all: MLflow",
        "finetune_all: S3",
    ]
    page = (place / "page.md").read_text()
    assert all(each.check in page for each in found)
    assert found[5].level == "failure"
    assert "MLFLOW_TRACKING_URI is not set" in found[5].seen


def test_the_data_image_is_asked_for_nothing_that_needs_torch(place, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    preflight.run_preflight(PROMISE | {"task": "ingest"}, str(place / "page.md"))
    checks = [each.check for each in from_log(capsys.readouterr().out)]
    assert checks == ["ingest: user in the pod", "ingest: ingest.source", "ingest: S3"]


def test_who_asked_for_no_place_for_checkpoints_does_not_lack_one(place, capsys):
    preflight.run_preflight(PROMISE | {"checkpoints": False}, str(place / "page.md"))
    assert "finetune_all: checkpoints" not in [each.check for each in from_log(capsys.readouterr().out)]


def test_a_promise_with_an_unknown_or_missing_key_is_refused(place):
    with pytest.raises(ParameterError, match="gpus"):
        preflight.run_preflight({key: PROMISE[key] for key in PROMISE if key != "gpus"}, "page.md")


def test_root_fails_and_a_plain_user_does_not(monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 0)
    assert preflight.user().level == "failure"
    monkeypatch.setattr(os, "getuid", lambda: 10001)
    assert preflight.user().level == "ok"


@pytest.mark.parametrize(("there", "asked", "level"), [(0, 0, "ok"), (0, 1, "failure"), (1, 1, "ok"), (2, 1, "ok")])
def test_gpus_are_those_that_torch_sees(monkeypatch, there, asked, level):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: there > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: there)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: f"GPU {number}")
    assert preflight.gpus(asked).level == level


def test_shared_memory_that_is_smaller_than_asked_or_missing_fails(tmp_path):
    assert preflight.shared_memory(1 << 20, tmp_path).level == "ok"
    assert preflight.shared_memory(1 << 60, tmp_path).level == "failure"
    assert preflight.shared_memory(0, tmp_path / "none").level == "failure"


def test_checkpoints_need_a_folder_that_can_be_written(place, monkeypatch):
    assert preflight.checkpoints().level == "failure"
    monkeypatch.setenv("TWOFOLD_CHECKPOINTS", str(place / "new" / "folder"))
    assert preflight.checkpoints().level == "ok"
    assert list((place / "new" / "folder").iterdir()) == []
    monkeypatch.setattr(preflight, "ROOM", 1 << 60)
    assert preflight.checkpoints().level == "warning"
    (place / "file").write_text("")
    monkeypatch.setenv("TWOFOLD_CHECKPOINTS", str(place / "file"))
    found = preflight.checkpoints()
    assert (found.level, "File exists" in found.seen) == ("failure", True), found


def test_the_source_is_a_folder_with_content_or_in_s3(tmp_path):
    assert preflight.source(str(tmp_path / "none")).level == "failure"
    assert preflight.source(str(tmp_path)).level == "failure"
    (tmp_path / "good").mkdir()
    assert preflight.source(str(tmp_path)).level == "ok"
    assert preflight.source("s3://parts/2026").level == "ok"


def test_the_source_is_a_version_of_a_dvc_repository(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    root = make_repository(tmp_path / "repository", "../remote", per_class=2)
    # Beside its clone there is no remote.
    found = preflight.source(f"dvc+file://{root}@v1:data/images")
    assert (found.level, "not in the DVC remote" in found.seen) == ("failure", True)
    assert preflight.source(f"dvc+{root}@v1:data/images").seen.endswith("4 images are listed there")
    assert "unknown Git revision" in preflight.source(f"dvc+{root}@v9:data/images").seen
    assert preflight.bucket_of("s3://parts/2026") == "parts"
    assert preflight.bucket_of("/data/parts") is None


@pytest.fixture
def published(place, monkeypatch):
    """A table in which ResNet-50's weights are a small file."""
    content = b"weights"
    sha256 = hashlib.sha256(content).hexdigest()
    entry = WeightsSource(file="resnet50.pth", sha256=sha256, url="http://127.0.0.1:9/resnet50.pth")
    monkeypatch.setitem(pretrained_weights.SOURCES, ("resnet50", "imagenet1k_v1"), entry)
    return content


def look():
    return preflight.weights("resnet50", "imagenet1k_v1")


def test_weights_are_at_hand_where_training_looks_for_them(published, place, monkeypatch):
    folder = place / "baked"
    folder.mkdir()
    (folder / "resnet50.pth").write_bytes(published)
    for given in (folder, folder / "resnet50.pth"):
        monkeypatch.setenv("TWOFOLD_WEIGHTS", str(given))
        assert look().level == "ok"
    monkeypatch.delenv("TWOFOLD_WEIGHTS")
    cached = place / "torch" / "hub" / "checkpoints" / "resnet50.pth"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(published)
    assert str(cached) in look().seen
    cached.write_bytes(published + b"!")
    found = look()
    assert (found.level, "another file" in found.seen) == ("failure", True), found


def test_weights_that_are_nowhere_warn_where_they_can_be_fetched_and_fail_in_a_closed_network(published, monkeypatch):
    found = look()
    assert (found.level, "out of reach" in found.seen) == ("failure", True), found
    monkeypatch.setattr(preflight, "_out_of_reach", lambda url: "")
    assert look().level == "warning"


def test_weights_of_a_package_are_found_in_it_or_it_is_named(place, monkeypatch):
    source = WeightsSource(file="some.pth", sha256="0" * 64, package=("no_such_package", "models"))
    monkeypatch.setitem(pretrained_weights.SOURCES, ("efficientnet_lite0", "packaged"), source)
    found = preflight.weights("efficientnet_lite0", "packaged")
    assert (found.level, "no-such-package" in found.seen) == ("failure", True), found
    assert preflight.weights("resnet50", "imagenet9k").level == "failure"


def test_the_door_of_the_weights_publisher_is_knocked_at_without_fetching(place):
    assert preflight._out_of_reach("http://127.0.0.1:9/x")
    assert Path.cwd() == place
