import os
import socket
import time

import pytest
import torch

from twofold.core.drafts import LEASE
from twofold.core.errors import ArtifactError
from twofold.training.checkpoint import CHECKPOINT_AGE, Checkpoint, dependencies

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


def test_an_unusable_folder_is_an_error_before_any_epoch(alone, monkeypatch):
    (alone / "file").write_text("")
    monkeypatch.setenv("TWOFOLD_CHECKPOINTS", str(alone / "file" / "checkpoints"))
    with pytest.raises(ArtifactError, match=r"file/checkpoints/\w+-\w+\.pt: cannot be written: Not a directory"):
        again().load()
    for folder in ("/sys", "/proc"):  # root may write anywhere else
        monkeypatch.setenv("TWOFOLD_CHECKPOINTS", folder)
        with pytest.raises(ArtifactError, match=rf"{folder}/\w+-\w+\.pt: cannot be written: "):
            again().load()


@pytest.mark.parametrize("part", PARTS)
def test_another_part_is_rejected_and_named(saved, capsys, part):
    assert again(**{part: "other"}).load() is None
    assert f"of another training (its {part} differ" in capsys.readouterr().err


def test_a_truncated_file_is_no_checkpoint(saved, capsys):
    data = saved.path.read_bytes()
    saved.path.write_bytes(data[: len(data) // 2])
    assert saved.load() is None
    assert "not readable as a checkpoint" in capsys.readouterr().err


def test_a_failed_save_leaves_the_old_one(saved, monkeypatch):
    def conflicts(value, stream):
        stream.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", conflicts)
    os.utime(saved.path, (time.time() - 2 * CHECKPOINT_AGE,) * 2)
    with pytest.raises(OSError, match="disk full"):
        saved.save({"weights": torch.zeros(3)})
    assert torch.equal(saved.load()["weights"], torch.arange(3.0))
    assert list(saved.folder.iterdir()) == [saved.path]


def test_removed_after_success(saved):
    saved.remove()
    saved.remove()
    assert saved.load() is None
    assert list(saved.path.parent.iterdir()) == []


def test_two_trainings_have_two_checkpoints_in_the_folder_of_the_environment(alone, monkeypatch):
    monkeypatch.setenv("TWOFOLD_CHECKPOINTS", str(alone / "kept"))
    first, other = again(), again(data="9")
    assert first.path.parent == alone / "kept"
    assert first.path == again().path != other.path
    assert first.key == again().key != other.key
    first.save({"a": 1})
    other.save({"a": 2})
    assert (first.load(), other.load()) == ({"a": 1}, {"a": 2})


def test_two_pods_write_separate_drafts(saved, monkeypatch):
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


def test_abandoned_checkpoints_are_removed_and_nothing_else(alone):
    old, fresh, saved = again(data="old"), again(data="fresh"), again()
    old.save({"a": 1})
    fresh.save({"a": 1})
    draft, step = old.path.with_name(f".{old.path.name}.0123abcd-7-9-0123abcd"), old.path.with_name("train_head-0.pt")
    for path, age in ((old.path, CHECKPOINT_AGE), (draft, LEASE), (step, 2 * CHECKPOINT_AGE)):
        path.touch()
        os.utime(path, (time.time() - age - 60,) * 2)
    saved.save({"a": 1})
    assert sorted(saved.folder.iterdir()) == sorted([saved.path, fresh.path, step])


def test_dependencies_follow_inputs_and_parameters(alone):
    data = alone / "data"
    data.mkdir()
    (data / "part").write_bytes(b"1")
    before = dependencies("train_head", {"epochs": 6}, data=data)
    assert {"data", "train_head.epochs", "code", "torch", "threads", "processor"} <= before.keys()
    (data / "part").write_bytes(b"2")
    after = dependencies("train_head", {"epochs": 7}, data=data)
    assert {name for name in before if before[name] != after[name]} == {"data", "train_head.epochs"}
