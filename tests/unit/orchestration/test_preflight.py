"""The preflight checks of a pod: each condition fulfilled, and not."""

import hashlib
import os
from pathlib import Path

import pytest

from tests.support.dvc_case import make_repository
from twofold.core.errors import ParameterError
from twofold.orchestration import preflight
from twofold.orchestration.preflight_findings import failure, from_log, ok
from twofold.training import pretrained_weights
from twofold.training.pretrained_weights import WeightsSource

EXPECTATIONS = {
    "task": "finetune_all",
    "gpus": 0.0,  # Kubeflow sends whole numbers as floats
    "shm": 0.0,
    "checkpoints": True,
    "source": "/nowhere",
    "bucket": "",
    "experiment": "of-the-runs",
    "backbone": "resnet50",
    "weights": "random",
}


@pytest.fixture
def place(alone, monkeypatch):
    for name in ("MLFLOW_TRACKING_URI", "AWS_ACCESS_KEY_ID"):
        monkeypatch.delenv(name, raising=False)
    return alone


def test_every_finding_is_printed_and_is_on_the_page(place, capsys, monkeypatch):
    monkeypatch.setenv("TWOFOLD_CHECKPOINTS", str(place / "checkpoints"))
    preflight.run_preflight(EXPECTATIONS, str(place / "page.md"))
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


def test_files_are_tried_where_the_run_writes_them_if_mlflow_accepts_the_login(place, capsys, monkeypatch):
    tried = []
    monkeypatch.setenv("TWOFOLD_CACHE", "s3://cache/team")
    monkeypatch.setattr(preflight, "mlflow", lambda: [ok("MLflow", "answers")])
    monkeypatch.setattr(preflight, "mlflow_files", lambda *words, **named: tried.append((words, named)) or ok("a", "b"))
    monkeypatch.setattr(preflight, "test_reuse", lambda name: tried.append(name) or [])
    monkeypatch.setattr(preflight, "s3_buckets", lambda *words: tried.append(words) or [])
    preflight.run_preflight(EXPECTATIONS | {"bucket": "parts/a"}, str(place / "page.md"))
    assert tried == [(("of-the-runs",), {"create": True}), "of-the-runs", ("/nowhere", "parts/a", "s3://cache/team")]
    monkeypatch.setattr(preflight, "mlflow", lambda: [failure("MLflow", "refuses", "log in")])
    preflight.run_preflight(EXPECTATIONS, str(place / "page.md"))
    assert tried[3:] == [("/nowhere", "", "s3://cache/team")]


def test_the_checks_of_the_data_image_need_no_torch(place, capsys, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch", None)
    preflight.run_preflight(EXPECTATIONS | {"task": "ingest"}, str(place / "page.md"))
    checks = [each.check for each in from_log(capsys.readouterr().out)]
    assert checks == ["ingest: user in the pod", "ingest: ingest.source", "ingest: S3"]


def test_checkpoints_are_checked_only_if_they_were_requested(place, capsys):
    preflight.run_preflight(EXPECTATIONS | {"checkpoints": False}, str(place / "page.md"))
    assert "finetune_all: checkpoints" not in [each.check for each in from_log(capsys.readouterr().out)]


def test_expectations_with_a_missing_key_are_refused(place):
    with pytest.raises(ParameterError, match="gpus"):
        preflight.run_preflight({key: EXPECTATIONS[key] for key in EXPECTATIONS if key != "gpus"}, "page.md")


def test_root_fails_and_a_plain_user_does_not(monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 0)
    assert preflight.check_user().level == "failure"
    monkeypatch.setattr(os, "getuid", lambda: 10001)
    assert preflight.check_user().level == "ok"


@pytest.mark.parametrize(("count", "requested", "level"), [(0, 0, "ok"), (0, 1, "failure"), (1, 1, "ok"), (2, 1, "ok")])
def test_gpus_are_those_that_torch_sees(monkeypatch, count, requested, level):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda number: f"GPU {number}")
    assert preflight.check_gpus(requested).level == level


def test_shared_memory_that_is_too_small_or_missing_fails(tmp_path):
    assert preflight.check_shared_memory(1 << 20, tmp_path).level == "ok"
    assert preflight.check_shared_memory(1 << 60, tmp_path).level == "failure"
    assert preflight.check_shared_memory(0, tmp_path / "none").level == "failure"


def test_checkpoints_need_a_folder_that_can_be_written(place, monkeypatch):
    assert preflight.check_checkpoints().level == "failure"
    monkeypatch.setenv("TWOFOLD_CHECKPOINTS", str(place / "new" / "folder"))
    assert preflight.check_checkpoints().level == "ok"
    assert list((place / "new" / "folder").iterdir()) == []
    monkeypatch.setattr(preflight, "MIN_FREE", 1 << 60)
    assert preflight.check_checkpoints().level == "warning"
    (place / "file").write_text("")
    monkeypatch.setenv("TWOFOLD_CHECKPOINTS", str(place / "file"))
    found = preflight.check_checkpoints()
    assert (found.level, "File exists" in found.seen) == ("failure", True), found


def test_the_source_is_a_folder_with_content_or_in_s3(tmp_path):
    assert preflight.check_source(str(tmp_path / "none")).level == "failure"
    assert preflight.check_source(str(tmp_path)).level == "failure"
    (tmp_path / "good").mkdir()
    assert preflight.check_source(str(tmp_path)).level == "ok"
    assert preflight.check_source("s3://parts/2026").level == "ok"


def test_the_source_is_a_version_of_a_dvc_repository(tmp_path, monkeypatch):
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    root = make_repository(tmp_path / "repository", "../remote", per_class=2)
    # The remote is relative to the repository, so it is missing beside the clone.
    found = preflight.check_source(f"dvc+file://{root}@v1:data/images")
    assert (found.level, "not in the DVC remote" in found.seen) == ("failure", True)
    assert preflight.check_source(f"dvc+{root}@v1:data/images").seen.endswith("4 images are listed there")
    assert "unknown Git revision" in preflight.check_source(f"dvc+{root}@v9:data/images").seen
    assert preflight.bucket_of("s3://parts/2026") == "parts"
    assert preflight.bucket_of("/data/parts") is None


@pytest.fixture
def published(place, monkeypatch):
    """Make ResNet-50's published weights a small file."""
    content = b"weights"
    sha256 = hashlib.sha256(content).hexdigest()
    entry = WeightsSource(file="resnet50.pth", sha256=sha256, url="http://127.0.0.1:9/resnet50.pth")
    monkeypatch.setitem(pretrained_weights.SOURCES, ("resnet50", "imagenet1k_v1"), entry)
    return content


def check():
    return preflight.check_weights("resnet50", "imagenet1k_v1")


def test_weights_are_found_where_training_finds_them(published, place, monkeypatch):
    folder = place / "baked"
    folder.mkdir()
    (folder / "resnet50.pth").write_bytes(published)
    for given in (folder, folder / "resnet50.pth"):
        monkeypatch.setenv("TWOFOLD_WEIGHTS", str(given))
        assert check().level == "ok"
    monkeypatch.delenv("TWOFOLD_WEIGHTS")
    cached = place / "torch" / "hub" / "checkpoints" / "resnet50.pth"
    cached.parent.mkdir(parents=True)
    cached.write_bytes(published)
    assert str(cached) in check().seen
    cached.write_bytes(published + b"!")
    found = check()
    assert (found.level, "another file" in found.seen) == ("failure", True), found


def test_missing_weights_warn_if_they_can_be_downloaded_and_fail_otherwise(published, monkeypatch):
    found = check()
    assert (found.level, "cannot be reached" in found.seen) == ("failure", True), found
    monkeypatch.setattr(preflight, "_request_error", lambda url: "")
    assert check().level == "warning"


def test_weights_of_a_missing_package_fail_and_name_it(place, monkeypatch):
    source = WeightsSource(file="some.pth", sha256="0" * 64, package=("no_such_package", "models"))
    monkeypatch.setitem(pretrained_weights.SOURCES, ("efficientnet_lite0", "packaged"), source)
    found = preflight.check_weights("efficientnet_lite0", "packaged")
    assert (found.level, "no-such-package" in found.seen) == ("failure", True), found
    assert preflight.check_weights("resnet50", "imagenet9k").level == "failure"


def test_the_address_of_the_weights_is_checked_without_a_download(place):
    assert preflight._request_error("http://127.0.0.1:9/x")
    assert Path.cwd() == place


def test_weights_on_s3_are_fetched_and_verified(published, place, monkeypatch):
    asked = []
    monkeypatch.setenv("TWOFOLD_WEIGHTS", "s3://bucket/weights/")
    monkeypatch.setattr(pretrained_weights, "download", lambda *given: asked.append(given) or published)
    found = check()
    assert (found.level, "resnet50.pth" in found.seen) == ("ok", True), found
    assert asked == [("s3://bucket/weights/resnet50.pth", hashlib.sha256(published).hexdigest())]
