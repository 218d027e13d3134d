"""B3: fine-tuning every weight of ResNet-50, against torch's defaults and against timm's best settings."""

import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F

from bench.harness.benchmarks import DEFAULTS, TIMM
from bench.harness.hardware import RESNET50 as FLOPS
from bench.harness.hardware import product_rate
from bench.harness.isolated_process import Apart
from bench.harness.timing import Comparison, Limit, compare
from bench.peers import timm_loop
from bench.workloads.paced_training import RESNET50, SIZE, TURNED, Paced, arithmetic, classifier, passing, size
from bench.workloads.prepared_images import generated
from twofold.data.prepared import PreparedDataset
from twofold.model.classifier import Classifier, build_classifier
from twofold.model.device import autocast, device, has_bf16, make_deterministic
from twofold.model.inference import normalise
from twofold.training.data_loader import TrainingBatches

BATCH = {"a": 32, "b": 256}  # of the peers: what most people write, and what a GPU likes
LIKE = 0.01  # of their norm that bf16 may move the logits by
WORSE = 2  # times as far as torch's own autocast, whose rounding is another, moves the gradients


def run() -> list[Comparison]:
    """One epoch of the product's own loop, which has begun long ago, a round."""
    make_deterministic()
    trained = classifier()
    each = size()
    with tempfile.TemporaryDirectory(prefix="twofold-bench-") as place:
        data = generated(Path(place) / "data", each.images, 2, SIZE)
        rows = data.rows("train")
        equal = difference(trained, data)
        shown = TrainingBatches(
            trained, data, rows, TURNED, mean=RESNET50.mean, std=RESNET50.std, batch_size=each.batch
        )
        ours = Paced(trained, shown.inputs, data.target[rows], each.batch, shown.forward)
        limit = Limit(
            3 * FLOPS * each.images / (rate := product_rate()),
            f"3 x 8.2 GFLOP an image at the {rate / 1e12:,.2f} TFLOP/s of a large product of matrices",
        )
        found = []
        for part, words in (("a", DEFAULTS), ("b", TIMM)):
            batch = BATCH[part] if part == "a" or device().type == "cuda" else each.batch
            other = Apart(peer, data.directory, part, each.images, batch)
            found.append(
                compare(
                    "B3",
                    f"{each.images} images of {SIZE} px through a training step, all layers of ResNet-50",
                    part=part,
                    ours=(
                        f"{'bf16' if has_bf16(device()) else 'fp32'}, channels_last, batch {each.batch}, frozen norms "
                        "folded, images turned at random, gradients clipped, weights averaged",
                        ours,
                    ),
                    peer=(f"{words}; batch {batch}, live norms, images as they are", other),
                    # The first steps of a process are up to twice as slow, until its memory is mapped.
                    warm_up=partial(_in_turn, ours, other, other),
                    images=each.images,
                    limit=limit,
                    equal=equal,
                )
            )
            other.close()
        ours.close()
    return found


def _in_turn(*calls: Callable[[], object]) -> None:
    for call in calls:
        call()


def peer(directory: Path, part: str, images: int, batch: int) -> Callable[[], None]:
    """The same images through torch's defaults, or as timm's train.py does with its best settings."""
    torch.manual_seed(0)
    data = PreparedDataset.open(directory)
    rows = data.rows("train")[:images]
    step = defaults() if part == "a" else timms()

    def work() -> None:
        for start in range(0, len(rows), batch):
            chosen = rows[start : start + batch]
            pixels = torch.from_numpy(data.pixels(chosen)).to(device())
            images = normalise(pixels, RESNET50.mean, RESNET50.std)
            step(images, torch.from_numpy(data.target[chosen]).to(device()))

    return work


def defaults() -> Callable[[torch.Tensor, torch.Tensor], None]:
    """fp32 as torch ships it, NCHW, AdamW."""
    network = passing(build_classifier("resnet50", 0.5)).to(device()).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-6)

    def step(images: torch.Tensor, wanted: torch.Tensor) -> None:
        loss = F.cross_entropy(network(images.contiguous()), wanted)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def timms() -> Callable[[torch.Tensor, torch.Tensor], None]:
    """Timm's model and optimizer in bf16 and channels_last."""
    network = passing(timm_loop.model())
    rule = timm_loop.optimizer(network, 1e-6)
    return lambda images, wanted: timm_loop.step(network, images, wanted, rule)


def difference(trained: Classifier, data: PreparedDataset) -> str:
    """How far logits, and the last layer's gradients, are from fp32's with the same weights, norms frozen in both.

    A random head's gradient is a small difference, of which bf16 leaves few digits: what torch's own autocast makes of
    it is the measure.

    Raises:
        SystemExit: the logits are further apart than LIKE, or the gradients than torch's own autocast makes them.
    """
    plain = build_classifier("resnet50", 0.5)
    plain.load_state_dict(trained.state_dict())
    plain.to(device())
    pixels = torch.from_numpy(data.pixels(data.rows("train")[:16])).to(device())
    wanted = torch.from_numpy(data.target[:16]).to(device())
    batch = normalise(pixels, RESNET50.mean, RESNET50.std)

    def found(network: Classifier, images: torch.Tensor, mixed: bool) -> tuple[torch.Tensor, torch.Tensor]:
        network.eval()
        with autocast(device()) if mixed else nullcontext():
            logits = network(images).float()
        last = dict(network.named_parameters())["head.3.weight"]
        return logits.detach(), torch.autograd.grad(F.cross_entropy(logits, wanted), last)[0]

    exact = found(plain, batch.contiguous(), mixed=False)
    torchs = found(plain, batch.contiguous(), mixed=True)
    with arithmetic(trained):
        ours = found(trained, batch, mixed=True)
    outputs, gradients = (apart(one, other) for one, other in zip(ours, exact, strict=True))
    allowed = max(WORSE * apart(torchs[1], exact[1]), LIKE)
    words = (
        f"with norms frozen, the logits are {outputs:.1e} of their norm from fp32's (at most {LIKE:g}), "
        f"the last layer's gradients {gradients:.1e} (at most {allowed:.1e}, {WORSE:g} times torch's autocast)"
    )
    if outputs > LIKE or gradients > allowed:
        raise SystemExit(f"bench: B3: {words}; that is not the same work")
    return words


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """The norm of the difference of two tensors of one shape, over that of the second."""
    return float((one - other).norm() / other.norm())
