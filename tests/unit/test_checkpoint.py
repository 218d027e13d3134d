import pytest
import torch

from twofold.checkpoint import Checkpoint, dependencies

PARTS = {"data": "1", "head": "2", "finetune_all.epochs": "6", "code": "3", "threads": "2"}


@pytest.fixture
def saved(alone):
    checkpoint = Checkpoint("finetune_all", alone / "models" / "finetuned", PARTS)
    checkpoint.save({"weights": torch.arange(3.0), "history": [{"epoch": 0, "lr": None}]})
    return checkpoint


def again(checkpoint, **changes):
    made = Checkpoint("finetune_all", "unused", PARTS | changes)
    made.path = checkpoint.path
    return made


def test_the_state_comes_back_for_the_same_parts(saved):
    state = again(saved).load()
    assert torch.equal(state["weights"], torch.arange(3.0))
    assert state["history"] == [{"epoch": 0, "lr": None}]
    assert saved.path.parent.name == "checkpoints"


@pytest.mark.parametrize("part", PARTS)
def test_another_part_is_refused_and_named(saved, capsys, part):
    assert again(saved, **{part: "other"}).load() is None
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
    with pytest.raises(OSError, match="disk full"):
        saved.save({"weights": torch.zeros(3)})
    assert torch.equal(saved.load()["weights"], torch.arange(3.0))


def test_removed_after_success(saved):
    saved.remove()
    saved.remove()
    assert saved.load() is None
    assert list(saved.path.parent.iterdir()) == []


def test_two_outputs_have_two_checkpoints_and_the_folder_is_environment(alone, monkeypatch):
    monkeypatch.setenv("TWOFOLD_CHECKPOINTS", str(alone / "kept"))
    first, second = (Checkpoint("finetune_all", alone / name, PARTS) for name in ("a", "b"))
    assert first.path != second.path
    assert first.path.parent == alone / "kept"
    assert first.key == second.key != Checkpoint("finetune_all", alone / "a", PARTS | {"data": "9"}).key


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
