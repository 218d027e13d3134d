"""The training loop on a network of a few weights."""

import csv
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from tests.support.training_maker import CONFIG
from twofold.core.errors import TrainingError
from twofold.training.checkpoint import Checkpoint
from twofold.training.history import TrainingHistory, validation_metrics, write_history
from twofold.training.loop import class_weights, train
from twofold.training.optimizer import decay_groups

TARGETS = np.array([0, 1] * 6)
POINTS = torch.stack([torch.tensor([2.0 * int(t) - 1, i / 10]) for i, t in enumerate(TARGETS)])


def network(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Dropout(0.2), nn.Linear(4, 2))


def validation(made):
    """The validation metrics of a network as it is."""
    with torch.inference_mode():
        return validation_metrics(TARGETS, made.eval()(POINTS).double().softmax(dim=1)[:, 1].numpy())


def run(made=None, inputs=lambda batch, random: POINTS[batch], metrics=None, rate=0.05, **changes):
    made = made or network()
    scripted = iter(metrics) if metrics else None

    def judge():
        return {"log_loss": 1.0, "roc_auc": 0.5, "accuracy": 0.5} | next(scripted) if scripted else validation(made)

    options = {name: changes.pop(name) for name in ("checkpoint", "log") if name in changes}
    rates = decay_groups(list(made.parameters()), rate, 0.01)

    def inputs_of(epoch):
        return ((inputs(batch, epoch.random(step)),) for step, batch in enumerate(epoch.batches))

    return train(made, inputs_of, TARGETS, rates, replace(CONFIG, **changes), judge=judge, label="test", **options)


def test_training_learns_and_epoch_0_is_before_the_first_step():
    outcome = run(epochs=20)
    assert [row["epoch"] for row in outcome.history] == list(range(21))
    assert outcome.history[0]["train_loss"] is None
    assert outcome.metrics(0) == validation(network())
    assert outcome.metrics(20)["log_loss"] < 0.2 < outcome.metrics(0)["log_loss"]
    assert outcome.history[20]["train_loss"] < outcome.history[1]["train_loss"]


@pytest.mark.parametrize(
    ("select_by", "values", "best", "trained"),
    [
        ("log_loss", [0.9, 0.5, 0.4, 0.4], 2, 2),
        ("log_loss", [0.4, 0.5, 0.4, 0.6], 0, 2),
        ("roc_auc", [0.6, 0.5, 0.9, 0.7], 2, 2),
        ("accuracy", [0.6, 0.6, 0.6, 0.6], 0, 1),
    ],
)
def test_the_first_of_the_best_epochs_is_kept_with_its_weights(select_by, values, best, trained):
    states = []

    def log(epoch, metrics):
        states.append({name: tensor.clone() for name, tensor in made.state_dict().items()})

    made = network()
    outcome = run(made, metrics=[{select_by: value} for value in values], select_by=select_by, log=log)
    assert outcome.best_epoch == best
    assert all(torch.equal(outcome.best[name], states[best][name]) for name in states[best])
    assert outcome.best_after(1, select_by) == trained


def test_patience_ends_the_training():
    outcome = run(metrics=[{"log_loss": v} for v in (1, 0.5, 0.6, 0.7, 0.4)], epochs=4, patience=2)
    assert (outcome.epoch, outcome.best_epoch) == (3, 1)


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_the_metrics_are_those_of_the_kept_weights(decay):
    outcome = run(epochs=3, ema_decay=decay)
    kept = network(seed=9)
    kept.load_state_dict(outcome.best)
    assert outcome.best_epoch > 0
    assert outcome.metrics(outcome.best_epoch) == validation(kept)
    assert decay == 0.0 or not all(torch.equal(t, run(epochs=3).best[n]) for n, t in outcome.best.items())


@pytest.mark.parametrize("mode", ["loss", "gradient"])
def test_a_value_that_is_not_finite_stops_with_epoch_and_step(mode):
    calls = []

    def inputs(batch, random):
        calls.append(1)
        return POINTS[batch] * (math.nan if mode == "loss" and len(calls) == 5 else 1)  # three steps per epoch

    def explode(module, inputs, output):
        if mode == "gradient" and len(calls) == 5:
            output.register_hook(lambda gradient: gradient * math.inf)

    made = nn.Sequential(nn.Linear(2, 2), network())
    made[0].register_forward_hook(explode)
    with pytest.raises(TrainingError, match=r"test: loss .* in epoch 2, step 2 of 3; lower the learning rate"):
        run(made, inputs)


def test_a_validation_metric_that_is_not_finite_stops():
    with pytest.raises(TrainingError, match="validation_log_loss not finite after epoch 1"):
        run(metrics=[{}, {"log_loss": math.nan}])
    assert math.isnan(validation_metrics(TARGETS, np.full(12, np.nan))["roc_auc"])


def test_frozen_norms_keep_their_statistics_and_live_ones_do_not():
    for frozen in (True, False):
        outcome = run(frozen_norms=frozen)
        assert torch.equal(outcome.best["1.running_mean"], torch.zeros(4)) == frozen
        assert not torch.equal(outcome.best["1.weight"], torch.ones(4))  # scale and shift learn either way


def test_every_image_comes_once_per_epoch_in_a_new_order():
    seen = []
    run(inputs=lambda batch, random: seen.append(batch.tolist()) or POINTS[batch])
    epochs = [[position for batch in seen[start : start + 3] for position in batch] for start in (0, 3, 6)]
    assert [len(batch) for batch in seen[:3]] == [4, 4, 4]
    assert all(sorted(epoch) == list(range(12)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]


def test_the_same_seed_gives_the_same_weights_and_another_others():
    first, second, other = run(seed=4), run(seed=4), run(seed=5)
    assert all(torch.equal(first.best[name], second.best[name]) for name in first.best)
    assert not torch.equal(first.best["0.weight"], other.best["0.weight"])


@pytest.mark.parametrize("epoch", [0, 1, 2])
@pytest.mark.parametrize("changes", [{"ema_decay": 0.9}, {"frozen_norms": False, "warmup_epochs": 1.5}])
def test_a_resumed_training_ends_with_the_same_weights_and_history(alone, epoch, changes):
    whole = run(**changes)
    checkpoint = Checkpoint("step", {"data": "1"})
    calls = []

    def stopping(batch, random):
        calls.append(1)
        if len(calls) == 3 * epoch + 2:
            raise KeyboardInterrupt
        return POINTS[batch]

    with pytest.raises(KeyboardInterrupt):
        run(inputs=stopping, checkpoint=checkpoint, **changes)
    logged, steps = [], []
    resumed = run(
        network(seed=9 if epoch else 0),  # other weights, which a checkpoint replaces
        inputs=lambda batch, random: steps.append(1) or POINTS[batch],
        checkpoint=checkpoint,
        log=lambda epoch, metrics: logged.append(epoch),
        **changes,
    )
    assert len(steps) == 3 * (3 - epoch)
    assert logged == [0, 1, 2, 3]
    assert resumed.history == whole.history
    assert resumed.best_epoch == whole.best_epoch
    assert all(torch.equal(resumed.best[name], whole.best[name]) for name in whole.best)


def test_class_weights_balance_by_count():
    targets = np.array([0] * 6 + [1] * 2)
    assert class_weights("none", targets) is None
    assert class_weights("balanced", targets) == (8 / 12, 8 / 4)
    heavy = run(class_weights=(0.01, 10.0), epochs=10, rate=0.01)
    light = run(class_weights=(10.0, 0.01), epochs=10, rate=0.01)
    shift = [o.best["3.bias"][1] - o.best["3.bias"][0] for o in (heavy, light)]
    assert shift[0] > shift[1]


def test_validation_metrics_by_hand():
    found = validation_metrics(np.array([0, 0, 1, 1]), np.array([0.1, 0.6, 0.5, 0.9]))
    assert found["log_loss"] == pytest.approx(-np.log([0.9, 0.4, 0.5, 0.9]).mean())
    assert found["roc_auc"] == 0.75  # three of four pairs in order
    assert found["accuracy"] == 0.75
    weighted = validation_metrics(np.array([0, 0, 0, 1]), np.array([0.1, 0.6, 0.5, 0.9]), (2 / 3, 2.0))
    assert weighted["accuracy"] == 1.0  # from .75 on, without the weights .5
    assert weighted["log_loss"] == pytest.approx(-(np.log([0.9, 0.4, 0.5]).mean() + np.log(0.9)) / 2)


def test_the_history_is_a_csv_table(tmp_path):
    rows = [
        {"epoch": 0, "lr": None, "train_loss": None, "validation_log_loss": 0.5},
        {"epoch": 1, "lr": 0.1, "train_loss": 0.25, "validation_log_loss": 1 / 3},
    ]
    write_history(tmp_path / "history.csv", rows)
    with (tmp_path / "history.csv").open(newline="") as stream:
        found = list(csv.DictReader(stream))
    assert found[0]["lr"] == ""
    assert float(found[1]["validation_log_loss"]) == 1 / 3


def test_a_history_without_epochs_is_before_the_first():
    assert TrainingHistory().epoch == -1
