"""Tests that need a GPU; without one they are skipped."""

from dataclasses import replace
from itertools import count

import numpy as np
import pytest
import torch
from torch import nn

from bench.workloads.prepared_images import generated
from tests.support import training_maker
from twofold.core.errors import TrainingError
from twofold.model.classifier import BACKBONES, build_classifier
from twofold.model.device import make_deterministic
from twofold.model.fused_classifier import FusedClassifier
from twofold.model.inference import exact_float32
from twofold.model.torch_compile import compiled
from twofold.training import loop, train_step
from twofold.training.augmentation import Augmentation, AugmentationDraws, augment, draw_augmentation, seeded_generator
from twofold.training.checkpoint import Checkpoint
from twofold.training.conv_bn_folding import folded_batchnorm
from twofold.training.data_loader import Prefetcher, TrainingBatches
from twofold.training.loop import train
from twofold.training.optimizer import decay_groups

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
GPU = torch.device("cuda")
RESNET50 = BACKBONES["resnet50"]
TARGETS = np.arange(50) % 2
# Seven batches, the last ones of seven images.
SMALL = {"epochs": 4, "batch_size": 8, "warmup_epochs": 0.5, "ema_decay": 0.9, "seed": 3}
CONFIG = replace(training_maker.CONFIG, **SMALL, label_smoothing=0.05, class_weights=(0.8, 1.3))


@pytest.fixture(autouse=True)
def settled(monkeypatch, tmp_path):
    monkeypatch.setenv("TWOFOLD_CHECKPOINTS", str(tmp_path / "checkpoints"))
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", {})
    make_deterministic()


def run(points, config=CONFIG, checkpoint=None, first=0, stopped_at=None):
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(6, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 2)).to(GPU)
    epochs = count(first)

    def inputs(epoch):
        for chosen in epoch.batches:
            yield (points[torch.from_numpy(chosen).to(GPU)],)

    def judge():
        epoch = next(epochs)
        if epoch == stopped_at:
            raise KeyboardInterrupt
        return {"log_loss": 1.0 / (1 + epoch), "roc_auc": 0.5, "accuracy": 0.5}

    rates = decay_groups(list(network.parameters()), 0.01, 0.01)
    found = train(network, inputs, TARGETS, rates, config, judge=judge, label="gpu", checkpoint=checkpoint)
    return [row["train_loss"] for row in found.history[1:]], found.best


@pytest.fixture
def points():
    return torch.randn(50, 6, generator=torch.Generator().manual_seed(1)).to(GPU)


@pytest.mark.parametrize("weights", [None, (0.8, 1.3)])
@pytest.mark.parametrize("frozen", [True, False])
def test_a_replayed_graph_trains_like_single_kernels(points, monkeypatch, frozen, weights):
    config = replace(CONFIG, frozen_norms=frozen, class_weights=weights)
    losses, best = run(points, config)
    monkeypatch.setattr(train_step, "WARM_UP", 10**9)
    expected, theirs = run(points, config)
    assert losses == pytest.approx(expected, rel=1e-5)
    for name, tensor in best.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-4, atol=1e-6)


def test_the_same_seed_gives_the_same_bits_and_another_others(points):
    losses, best = run(points)
    again, same = run(points)
    assert losses == again
    assert all(torch.equal(tensor, same[name]) for name, tensor in best.items())
    assert run(points, replace(CONFIG, seed=4))[0] != losses


def test_a_resumed_training_ends_with_the_same_bits(points, capsys):
    losses, best = run(points)
    parts = {"of": "this"}
    with pytest.raises(KeyboardInterrupt):
        run(points, checkpoint=Checkpoint("finetune_all", parts), stopped_at=3)
    again, same = run(points, checkpoint=Checkpoint("finetune_all", parts), first=3)
    assert "resumes after epoch 2 of 4" in capsys.readouterr().err
    assert again == losses
    assert all(torch.equal(tensor.cpu(), same[name].cpu()) for name, tensor in best.items())


def test_a_value_that_is_not_finite_stops_with_its_step(points):
    points[17] = float("nan")
    with pytest.raises(TrainingError, match=r"gpu: loss nan, .* in epoch 1, step [1-7] of 7"):
        run(points)


@pytest.fixture
def images(tmp_path):
    return generated(tmp_path / "data", 200, 10, 32)


def test_resident_and_prefetched_pixels_are_the_same(images):
    rows = images.rows("train")[::-1].copy()
    batches = np.array_split(np.arange(150), 19)
    resident, ring = (Prefetcher(images, rows, GPU, 8, resident=kept) for kept in (True, False))
    assert (resident.resident, ring.resident) == (True, False)
    for one, other, chosen in zip(resident(batches), ring(batches), batches, strict=True):
        torch.cuda._sleep(10**6)
        expected = torch.from_numpy(images.pixels(rows[chosen]))
        assert torch.equal(one.cpu(), expected)
        assert torch.equal(other.cpu(), expected)


def test_a_prefetcher_that_is_closed_early_ends_its_thread_and_raises_errors(images):
    rows = images.rows("train")
    ring = Prefetcher(images, rows, GPU, 8, resident=False)
    batches = np.array_split(np.arange(160), 20)
    begun = ring(batches)
    next(begun)
    begun.close()
    with pytest.raises(IndexError):
        list(ring([*batches[:3], np.array([10**6])]))


def test_augmentation_equals_that_of_the_cpu():
    images = torch.randint(0, 256, (40, 24, 24, 3), dtype=torch.uint8)
    settings = Augmentation(flips=True, orientation_free=True, crop_min_area=0.5, brightness=0.2, contrast=0.2)
    draws = draw_augmentation(40, settings, seeded_generator(1))
    expected = augment(images, settings, draws)
    on_gpu = AugmentationDraws(*(tensor.to(GPU) for tensor in draws))
    torch.testing.assert_close(augment(images.to(GPU), settings, on_gpu).cpu(), expected, atol=0.05, rtol=0)
    only = replace(settings, crop_min_area=1, brightness=0, contrast=0)
    assert torch.equal(augment(images.to(GPU), only, on_gpu).cpu(), augment(images, only, draws))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the compiler's own parts
def test_compiled_kernels_train_like_torchs_own(images, monkeypatch):
    monkeypatch.setenv("TWOFOLD_COMPILE", "on")
    turned = Augmentation(flips=True, orientation_free=True, crop_min_area=0.7, brightness=0.1, contrast=0.1)
    rows = images.rows("train")[:60]
    found = []
    for fuse in (True, False):
        torch.manual_seed(0)
        network = build_classifier("resnet50", 0.0).to(GPU).to(memory_format=torch.channels_last)
        batches = TrainingBatches(network, images, rows, turned, mean=RESNET50.mean, std=RESNET50.std, batch_size=16)
        rates = decay_groups(list(network.parameters()), 1e-4, 0.01)
        still = {"log_loss": 1.0, "roc_auc": 0.5, "accuracy": 0.5}
        with folded_batchnorm(network.backbone):
            outcome = train(
                network,
                batches.inputs,
                images.target[rows],
                rates,
                replace(CONFIG, epochs=3, batch_size=16, mixed_precision=True, class_weights=None),
                judge=lambda still=still: still,
                label="gpu",
                forward=compiled(batches.forward, "gpu") if fuse else batches.forward,
            )
        found.append([row["train_loss"] for row in outcome.history[1:]])
    assert found[0] == pytest.approx(found[1], rel=0.02)


@pytest.mark.parametrize(("precision", "like"), [("float32", 1e-4), ("bfloat16", 0.03)])
def test_a_fused_classifier_has_the_classifiers_features(precision, like):
    classifier = alive(build_classifier("resnet50", 0.5)).eval()
    shown = torch.randn(8, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    with torch.inference_mode():
        expected = classifier.features(shown)
        fused = FusedClassifier(classifier.to(GPU), precision)
        with exact_float32():
            found = fused.features(shown.to(GPU).contiguous(memory_format=torch.channels_last)).cpu()
        assert expected.norm() > 0.1
        assert (found - expected).norm() < like * expected.norm()
        assert not torch.equal(fused.backbone.layer1[0].conv3.weight, torch.zeros(()).to(GPU))


def alive(classifier):
    """Set batch norms as after training: not zero at the end of a residual branch, with different statistics."""
    random = seeded_generator(5)
    for module in classifier.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.data.uniform_(0.2, 0.6, generator=random)
            module.bias.data.uniform_(-0.1, 0.1, generator=random)
            module.running_mean.uniform_(-0.1, 0.1, generator=random)
            module.running_var.uniform_(0.5, 1.5, generator=random)
    return classifier
