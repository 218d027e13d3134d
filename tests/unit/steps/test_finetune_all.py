import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from tests.support import poison
from tests.support.training_maker import FINETUNE, HEAD, make_finetuned, make_head
from twofold.core.artifacts import digest
from twofold.core.errors import ArtifactError, ParameterError, TrainingError, WeightsError
from twofold.core.params import check_section
from twofold.model.classifier import load_classifier
from twofold.steps.finetune_all import FinetuneAll
from twofold.training.augmentation import augment
from twofold.training.pretrained_weights import pretrained

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module")
def head(prepared, tmp_path_factory):
    folder = tmp_path_factory.mktemp("head")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("TWOFOLD_LIVE", "off")
        return make_head(prepared, folder)


@pytest.fixture(scope="module")
def whole(prepared, head, tmp_path_factory):
    """The model of an uninterrupted training."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("TWOFOLD_LIVE", "off")
        return make_finetuned(prepared, head, folder)


@pytest.fixture
def scripted(monkeypatch):
    """Script the validation log loss of each epoch."""

    def script(*values):
        losses = iter(values)
        figures = "twofold.training.history.validation_metrics"
        monkeypatch.setattr(
            figures, lambda targets, probability, weights: {"log_loss": next(losses), "roc_auc": 0.5, "accuracy": 0.5}
        )

    return script


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(prepared, head, whole, alone):
    assert digest(make_finetuned(prepared, head, alone / "again")) == digest(whole)
    assert digest(make_finetuned(prepared, head, alone / "other", seed=1)) != digest(whole)


def test_the_artifact_is_the_whole_model_and_says_what_it_is(prepared, head, whole):
    classifier, meta = load_classifier(whole)
    assert sorted(path.name for path in whole.iterdir()) == ["history.csv", "meta.json", "model.safetensors"]
    from_head = json.loads((head / "meta.json").read_text())
    for name in ("backbone", "weights", "base_sha256", "image_size", "channels", "mean", "std", "labels", "positive"):
        assert meta[name] == from_head[name]
    assert meta["data_digest"] == from_head["data_digest"] == digest(prepared)
    assert meta["params"] == FINETUNE
    assert set(meta["validation"]) == {"head_only", "finetuned"}
    assert all(tensor.dtype in (torch.float32, torch.int64) for tensor in classifier.state_dict().values())
    # No metadata: safetensors would write its keys in any order.
    header = (whole / "model.safetensors").read_bytes()
    assert b"__metadata__" not in header[: 8 + int.from_bytes(header[:8], "little")]


def test_every_parameter_trains_from_the_heads_weights_and_frozen_statistics_stay(prepared, head, alone, scripted):
    scripted(0.9, 0.5, 0.4)
    trained, meta = load_classifier(make_finetuned(prepared, head, alone, ema_decay=0.0))
    assert meta["winner"] == "finetuned"
    base, _ = pretrained("efficientnet_lite0", "random", dropout=0.5)
    start = {f"backbone.{n}": t for n, t in base.backbone.state_dict().items()}
    start |= {f"head.{n}": t for n, t in load_file(head / "head.safetensors").items()}
    found = trained.state_dict()
    parameters = dict(trained.named_parameters())
    for name, tensor in start.items():
        assert torch.equal(found[name], tensor) == (name not in parameters), name
        assert torch.allclose(found[name], tensor, atol=0.05), name


def test_live_batch_norm_moves_the_statistics(prepared, head, alone, scripted):
    scripted(0.9, 0.5, 0.4)
    trained, _ = load_classifier(make_finetuned(prepared, head, alone, batch_norm="live"))
    base, _ = pretrained("efficientnet_lite0", "random", dropout=0.5)
    assert not torch.equal(trained.backbone.bn1.running_mean, base.backbone.bn1.running_mean)


def test_the_head_alone_is_kept_if_fine_tuning_is_not_better(prepared, head, alone, scripted, capsys):
    scripted(0.5, 0.6, 0.5)
    model, meta = load_classifier(make_finetuned(prepared, head, alone))
    assert (meta["winner"], meta["best_epoch"]) == ("head_only", 0)
    assert meta["validation"]["head_only"]["log_loss"] == 0.5
    assert meta["validation"]["finetuned"]["log_loss"] == 0.5
    kept = load_file(head / "head.safetensors")
    assert all(torch.equal(tensor, kept[name]) for name, tensor in model.head.state_dict().items())
    base, _ = pretrained("efficientnet_lite0", "random", dropout=0.5)
    assert torch.equal(model.backbone.conv_head.weight, base.backbone.conv_head.weight)
    assert json.loads((alone / "model.json").read_text())["winner"] == "head_only"
    assert "kept: head only, epoch 0 of 2" in capsys.readouterr().err


KILLED = """
import os, signal, sys
from pathlib import Path
from twofold.training import optimizer
from tests.support import poison
from tests.support.training_maker import make_finetuned

steps = 0
update = optimizer.WeightEMA.update

def update_and_die(self):
    global steps
    steps += 1
    update(self)
    if steps == int(sys.argv[4]):
        os.kill(os.getpid(), signal.SIGKILL)

optimizer.WeightEMA.update = update_and_die
make_finetuned(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))
"""


def test_a_killed_step_continues_and_ends_with_the_same_bytes(prepared, head, whole, alone, capsys):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": str(torch.get_num_threads())}
    train = int(np.sum(list(json.loads((prepared / "meta.json").read_text())["counts"]["train"].values())))
    epoch_steps = -(-train // FINETUNE["batch_size"])
    arguments = [str(prepared), str(head), str(alone), str(epoch_steps + 1)]
    killed = subprocess.run([sys.executable, "-c", KILLED, *arguments], env=environment, capture_output=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr.decode()
    assert not (alone / "model").exists()
    assert len(list((alone / ".twofold" / "checkpoints").glob("*.pt"))) == 1
    assert digest(make_finetuned(prepared, head, alone)) == digest(whole)
    assert "fine-tuning: resumes after epoch 1 of 2" in capsys.readouterr().err
    assert list((alone / ".twofold" / "checkpoints").iterdir()) == []


def test_a_checkpoint_of_other_parameters_is_refused(prepared, head, whole, alone, monkeypatch, capsys):
    def stop(path, history):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("twofold.training.history.write_history", stop)
        with pytest.raises(KeyboardInterrupt):
            make_finetuned(prepared, head, alone, learning_rate=0.0001)
    assert digest(make_finetuned(prepared, head, alone)) == digest(whole)
    errors = capsys.readouterr().err
    assert "its finetune_all.learning_rate differ); training starts from scratch" in errors


def test_a_loss_that_is_not_finite_ends_the_step_and_leaves_no_model(prepared, head, alone, monkeypatch):
    calls = []

    def broken(images, settings, draws):
        calls.append(1)
        return augment(images, settings, draws) * (float("nan") if len(calls) == 4 else 1.0)

    monkeypatch.setattr("twofold.training.data_loader.augment", broken)
    with pytest.raises(TrainingError, match=r"fine-tuning: loss nan, .* in epoch 2, step 2 of 2"):
        make_finetuned(prepared, head, alone)
    assert not (alone / "model").exists()


def test_a_head_of_another_size_or_base_is_refused(prepared, head, alone):
    meta = json.loads((head / "meta.json").read_text())
    for change, error, message in (
        ({"image_size": 64}, ArtifactError, "64 px, .* has 32"),
        ({"base_sha256": "0" * 64}, WeightsError, "fits the base 0000"),
        ({"data_digest": "0" * 64}, ArtifactError, "trained on other data"),
        ({"kind": "model"}, ArtifactError, "kind"),
    ):
        other = alone / str(*change)
        other.mkdir()
        (other / "head.safetensors").write_bytes((head / "head.safetensors").read_bytes())
        (other / "meta.json").write_text(json.dumps(meta | change))
        with pytest.raises(error, match=message):
            make_finetuned(prepared, other, alone)


@pytest.mark.parametrize("kind", ["pickle by reduce", "header too long", "truncated"])
def test_a_poisoned_head_is_refused_by_its_name_and_not_run(prepared, head, alone, kind):
    canary, other = alone / "canary", shutil.copytree(head, alone / "head")
    poison.plant(kind, other / "head.safetensors", canary)
    with pytest.raises(ArtifactError, match=r"head/head\.safetensors: cannot be read as a model's weights"):
        make_finetuned(prepared, other, alone)
    assert not canary.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"views": 3}, r"finetune_all\.views: found 3"),
        ({"views": True}, r"finetune_all\.views: found True"),
        ({"views": 4, "orientation_free": False}, r"finetune_all\.views: found 4.*need orientation_free: true"),
        ({"views": 2, "orientation_free": False, "flips": False}, r"finetune_all\.views: found 2.*needs flips: true"),
        ({"crop_min_area": 0.0}, r"finetune_all\.crop_min_area: found 0\.0.*0\.05 to 1"),
        ({"select_by": "f1"}, r"finetune_all\.select_by: found 'f1'"),
        ({"seed": -1}, r"finetune_all\.seed: found -1"),
    ],
)
def test_a_wrong_parameter_is_refused(changes, message):
    with pytest.raises(ParameterError, match=message):
        check_section(FinetuneAll, "finetune_all", FINETUNE | changes)


def test_parameters_with_floats_from_kubeflow_are_accepted():
    floats = {name: float(v) if type(v) is int else v for name, v in FINETUNE.items()}
    assert check_section(FinetuneAll, "finetune_all", floats).model_dump() == FINETUNE
    assert HEAD["epochs"] == 4
