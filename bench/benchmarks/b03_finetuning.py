"""B3: fine-tuning all weights of ResNet-50, against torch's defaults and against timm's best settings."""

import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch
import torch.nn.functional as F

from bench.harness.benchmarks import DEFAULTS, TIMM
from bench.harness.hardware import RESNET50_FLOPS, matmul_time
from bench.harness.isolated_process import IsolatedProcess
from bench.harness.timing import Comparison, Limit, compare
from bench.peers import timm_loop
from bench.workloads.paced_training import (
    RESNET50,
    SIZE,
    epoch_size,
    finetune_epochs,
    finetuning_numerics,
    random_resnet50,
    scale_residual_branches,
)
from bench.workloads.prepared_images import generated
from twofold.data.prepared import PreparedDataset
from twofold.model.classifier import Classifier, build_classifier
from twofold.model.device import autocast, device, has_bf16, make_deterministic
from twofold.model.inference import normalise

BATCH = {"a": 32, "b": 256}  # of the peers: the usual one, and one that suits a GPU
MAX_LOGIT_ERROR = 0.01  # of bf16 against fp32, relative to the norm
GRADIENT_FACTOR = 2  # largest gradient error, relative to that of torch's own autocast, which rounds differently


def run() -> list[Comparison]:
    """Compare epochs of the product's own training loop, which started long before."""
    make_deterministic()
    classifier = random_resnet50()
    size = epoch_size()
    with tempfile.TemporaryDirectory(prefix="twofold-bench-") as folder:
        data = generated(Path(folder) / "data", size.images, 2, SIZE)
        equal = _check_numerics(classifier, data)
        ours = finetune_epochs(classifier, data, size.batch)
        seconds, rate = matmul_time(3 * RESNET50_FLOPS * size.images)
        comparisons = []
        for part, words in (("a", DEFAULTS), ("b", TIMM)):
            batch = BATCH[part] if part == "a" or device().type == "cuda" else size.batch
            peer = IsolatedProcess(_peer, data.directory, part, size.images, batch)
            comparisons.append(
                compare(
                    "B3",
                    f"{size.images} images of {SIZE} px through a training step, all layers of ResNet-50",
                    part=part,
                    ours=(
                        f"{'bf16' if has_bf16(device()) else 'fp32'}, channels_last, batch {size.batch}, frozen norms "
                        "folded, random rotations and flips, gradient clipping, weight EMA",
                        ours,
                    ),
                    peer=(f"{words}; batch {batch}, live norms, no augmentation", peer),
                    # The first steps of a process are up to twice as slow, until its memory is mapped.
                    warm_up=lambda peer=peer: [ours(), peer(), peer()],  # type: ignore[func-returns-value, misc]
                    images=size.images,
                    limit=Limit(seconds, f"3 x 8.2 GFLOP per image at {rate}"),
                    equal=equal,
                )
            )
            peer.close()
        ours.close()
    return comparisons


def _peer(directory: Path, part: str, images: int, batch: int) -> Callable[[], None]:
    """Prepare a peer: torch's defaults (a), or timm's train.py with its best settings (b)."""
    torch.manual_seed(0)
    data = PreparedDataset.open(directory)
    rows = data.rows("train")[:images]
    step = _default_step() if part == "a" else _timm_step()

    def work() -> None:
        for start in range(0, len(rows), batch):
            chosen = rows[start : start + batch]
            pixels = torch.from_numpy(data.pixels(chosen)).to(device())
            step(normalise(pixels, RESNET50.mean, RESNET50.std), torch.from_numpy(data.target[chosen]).to(device()))

    return work


def _default_step() -> Callable[[torch.Tensor, torch.Tensor], None]:
    network = scale_residual_branches(build_classifier("resnet50", 0.5)).to(device()).train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-6)

    def step(images: torch.Tensor, targets: torch.Tensor) -> None:
        loss = F.cross_entropy(network(images.contiguous()), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def _timm_step() -> Callable[[torch.Tensor, torch.Tensor], None]:
    network = scale_residual_branches(timm_loop.model())
    optimizer = timm_loop.optimizer(network, 1e-6)
    return lambda images, targets: timm_loop.step(network, images, targets, optimizer)


def _check_numerics(classifier: Classifier, data: PreparedDataset) -> str:
    """Compare logits and gradients of the last layer with those of fp32, with the same weights and frozen norms.

    The gradient of a random head is a small difference, of which bf16 keeps few digits, so its error is compared with
    that of torch's own autocast.

    Raises:
        SystemExit: an error is larger than MAX_LOGIT_ERROR and GRADIENT_FACTOR allow.
    """
    plain = build_classifier("resnet50", 0.5)
    plain.load_state_dict(classifier.state_dict())
    plain.to(device())
    pixels = torch.from_numpy(data.pixels(data.rows("train")[:16])).to(device())
    targets = torch.from_numpy(data.target[:16]).to(device())
    batch = normalise(pixels, RESNET50.mean, RESNET50.std)

    def compute(network: Classifier, images: torch.Tensor, mixed: bool) -> tuple[torch.Tensor, torch.Tensor]:
        network.eval()
        with autocast(device()) if mixed else nullcontext():
            logits = network(images).float()
        last = dict(network.named_parameters())["head.3.weight"]
        return logits.detach(), torch.autograd.grad(F.cross_entropy(logits, targets), last)[0]

    exact = compute(plain, batch.contiguous(), mixed=False)
    torch_mixed = compute(plain, batch.contiguous(), mixed=True)
    with finetuning_numerics(classifier):
        ours = compute(classifier, batch, mixed=True)
    logits, gradients = (_relative_error(one, other) for one, other in zip(ours, exact, strict=True))
    allowed = max(GRADIENT_FACTOR * _relative_error(torch_mixed[1], exact[1]), MAX_LOGIT_ERROR)
    words = (
        f"relative to fp32 and with frozen norms, the logits differ by {logits:.1e} (at most {MAX_LOGIT_ERROR:g}), the "
        f"last layer's gradients by {gradients:.1e} (at most {allowed:.1e}, {GRADIENT_FACTOR:g} times torch's autocast)"
    )
    if logits > MAX_LOGIT_ERROR or gradients > allowed:
        raise SystemExit(f"bench: B3: {words}; this is not the same work")
    return words


def _relative_error(tensor: torch.Tensor, reference: torch.Tensor) -> float:
    return float((tensor - reference).norm() / reference.norm())
