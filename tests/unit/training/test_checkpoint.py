import os
import socket
import time

import pytest
import torch

from twofold.core.errors import ArtifactError
from twofold.training.checkpoint import ABANDONED, TORN, Checkpoint, dependencies

PARTS = {"data": "1", "head": "2", "finetune_all.epochs": "6", "code": "3", "threads": "2"}


@pytest.fixture
def saved(alone):
    checkpoint = Checkpoint("finetune_all", PARTS)
    checkpoint.save({"weights": torch.arange(3.0), "history": [{"epoch": 0, "lr": None}]})
    return checkpoint


def again(**changes):
    return Checkpoint("finetune_all", PARTS | changes)


def test_the_state_comes_back_for_the_same_parts(saved):
    state = again().load()
    assert torch.equal(state["weights"], torch.arange(3.0))
    assert state["history"] == [{"epoch": 0, "lr": None}]
    assert saved.path.parent.name == "checkpoints"


def test_a_place_that_takes_no_checkpoint_is_refused_before_any_epoch(alone, monkeypatch):
    (alone / "file").write_text("")
    monkeypatch.setenv("TWOFOLD_CHECKPOINTS", str(alone / "file" / "checkpoints"))
    with pytest.raises(ArtifactError, match=r"file/checkpoints: Not a directory; see TWOFOLD_CHECKPOINTS"):
        again().load()
    monkeypatch.setenv("TWOFOLD_CHECKPOINTS", str(alone))
    monkeypatch.setattr("os.access", lambda path, mode: False)  # root may write anywhere
    with pytest.raises(ArtifactError, match="cannot be written; see TWOFOLD_CHECKPOINTS"):
        again().load()


@pytest.mark.parametrize("part", PARTS)
def test_another_part_is_refused_and_named(saved, capsys, part):
    assert again(**{part: "other"}).load() is None
    assert f"of another training (its {part} differ" in capsys.readouterr().err


def test_a_torn_file_is_no_checkpoint(saved, capsys):
    data = saved.path.read_bytes()
    saved.path.write_bytes(data[: len(data) // 2])
    assert saved.load() is None
    assert "not readable as a checkpoint" in capsys.readouterr().err


def test_a_failed_save_leaves_the_old_one(saved, monkeypatch):
    def torn(value, stream):
        stream.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", torn)
    os.utime(saved.path, (time.time() - 2 * ABANDONED,) * 2)
    with pytest.raises(OSError, match="disk full"):
        saved.save({"weights": torch.zeros(3)})
    assert torch.equal(saved.load()["weights"], torch.arange(3.0))
    assert list(saved.folder.iterdir()) == [saved.path]


def test_removed_after_success(saved):
    saved.remove()
    saved.remove()
    assert saved.load() is None
    assert list(saved.path.parent.iterdir()) == []


def test_two_trainings_have_two_checkpoints_wherever_their_outputs_go_and_the_folder_is_environment(alone, monkeypatch):
    monkeypatch.setenv("TWOFOLD_CHECKPOINTS", str(alone / "kept"))
    first, other = Checkpoint("finetune_all", PARTS), Checkpoint("finetune_all", PARTS | {"data": "9"})
    assert first.path.parent == alone / "kept"
    assert first.path == Checkpoint("finetune_all", PARTS).path != other.path
    assert first.key == Checkpoint("finetune_all", PARTS).key != other.key
    first.save({"a": 1})
    other.save({"a": 2})
    assert (first.load(), other.load()) == ({"a": 1}, {"a": 2})


def test_a_training_under_way_in_another_pod_is_not_written_into(saved, monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "another-pod")
    other = again()
    real = torch.save

    def meanwhile(value, stream):
        real(value, stream)
        monkeypatch.setattr(torch, "save", real)
        saved.save({"a": "whole"})
        saved.remove()

    monkeypatch.setattr(torch, "save", meanwhile)
    other.save({"a": "its own"})
    assert other.load() == {"a": "its own"}


def test_what_nobody_goes_on_with_is_swept_away_and_nothing_else(alone):
    left = {name: Checkpoint("finetune_all", PARTS | {"data": name}) for name in ("old", "fresh")}
    for checkpoint in left.values():
        checkpoint.save({"a": 1})
    draft = left["old"].path.with_suffix(".pod-1.draft")
    step = left["old"].path.with_name("train_head-0.pt")
    for path in (draft, step):
        path.write_bytes(b"half")
    for path, age in ((left["old"].path, ABANDONED), (draft, TORN), (step, 2 * ABANDONED)):
        os.utime(path, (time.time() - age - 60,) * 2)
    saved = Checkpoint("finetune_all", PARTS)
    saved.save({"a": 1})
    assert sorted(saved.folder.iterdir()) == sorted([saved.path, left["fresh"].path, step])


def test_dependencies_follow_inputs_parameters_and_numerics(alone, monkeypatch):
    (alone / "data").mkdir()
    (alone / "data" / "part").write_bytes(b"1")
    values = {"epochs": 6}

    def made(**changes):
        return dependencies("train_head", values | changes, data=alone / "data")

    before = made()
    assert {"data", "train_head.epochs", "code", "torch", "threads", "processor"} <= before.keys()
    assert made(epochs=7)["train_head.epochs"] != before["train_head.epochs"]
    (alone / "data" / "part").write_bytes(b"2")
    assert made()["data"] != before["data"]
