"""The classifier: a pretrained backbone, average pool, flatten, dense 256 + ReLU, dropout, two-way softmax.

Builds it by the name of its backbone, or loads it from the folder of a trained model. A sealed model carries a copy of
this file, so it imports nothing else of Twofold but the errors.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from twofold.core.errors import ArtifactError

KIND, SCHEMA_VERSION = "model", 1
HIDDEN = 256  # width of the head's first dense layer
IMAGE_SIZE = 224  # pixels, where none is given; only some networks of timm are made for one size
TIMM = "timm/"  # how the name of a backbone begins that is a model of timm


@dataclass(frozen=True)
class Backbone:
    """The facts of an architecture, without building it.

    Attributes:
        features: length of the pooled feature vector.
        mean, std: of its pretraining images, per channel, pixels in 0..1.
        stages: prefixes of its parameters' names, up to a dot, from input to output; each stage has one learning rate.
        make: builds the network, randomly initialised, from images to pooled features.
    """

    features: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    stages: tuple[tuple[str, ...], ...]
    make: Callable[[], nn.Module]


def _resnet50() -> nn.Module:
    from torchvision.models import resnet50

    # Residual branches that start at zero keep an untrained network's activations in range under frozen batch norm.
    network: nn.Module = resnet50(weights=None, zero_init_residual=True)
    network.fc = nn.Identity()
    return network


def make_timm(name: str, image_size: int = IMAGE_SIZE, state: dict[str, Tensor] | None = None) -> nn.Module:
    """A network of timm, random or with a published state, which timm adapts to it and which must have every tensor."""
    from timm import create_model, get_pretrained_cfg  # takes seconds to import, and not every backbone needs it

    published: Any = get_pretrained_cfg(name)
    # timm requires all tensors where the published number of classes is the network's.
    config: dict[str, Any] = {"num_classes": 0, "label_offset": 0, "input_size": (3, image_size, image_size)}
    options: dict[str, Any] = {"img_size": image_size} if getattr(published, "fixed_input_size", False) else {}
    if state:
        heads = getattr(published, "classifier", None) or ()
        prefixes = tuple(f"{head}." for head in ([heads] if isinstance(heads, str) else heads))
        config["state_dict"] = {key: tensor for key, tensor in state.items() if not key.startswith(prefixes)}
    network: Any = create_model(name, pretrained=bool(state), pretrained_cfg_overlay=config, **options)
    network.pretrained_cfg.pop("state_dict", None)  # a copy of the network would copy it
    return network  # type: ignore[no-any-return]


BACKBONES = {
    "resnet50": Backbone(
        features=2048,
        mean=(0.485, 0.456, 0.406),
        std=(0.229, 0.224, 0.225),
        stages=(("conv1.", "bn1."), ("layer1.",), ("layer2.",), ("layer3.",), ("layer4.",)),
        make=_resnet50,
    ),
    "efficientnet_lite0": Backbone(
        features=1280,
        mean=(0.5, 0.5, 0.5),
        std=(0.5, 0.5, 0.5),
        stages=(("conv_stem.", "bn1.", "blocks.0."), *((f"blocks.{i}.",) for i in range(1, 7)), ("conv_head.", "bn2.")),
        make=partial(make_timm, "tf_efficientnet_lite0"),
    ),
}


def find_backbone(name: str, image_size: int = IMAGE_SIZE) -> Backbone:
    """The facts of an architecture; raises ArtifactError if it is unknown, or not for images of this side, pixels."""
    if name in BACKBONES:
        return BACKBONES[name]
    if not str(name).startswith(TIMM):
        raise ArtifactError(f"backbone: found {name!r}, allowed are {', '.join(BACKBONES)} and {TIMM}NAME")
    return _timm_backbone(name, image_size)


@cache
def _timm_backbone(backbone: str, image_size: int) -> Backbone:
    from timm import is_model
    from timm.models import group_parameters

    make = partial(make_timm, backbone.removeprefix(TIMM), image_size)
    try:
        if not is_model(make.args[0]):
            raise ValueError("timm has no model of this name")
        with torch.device("meta"):
            network: Any = make()
        about = network.pretrained_cfg
        (_, features) = run_on_meta(network, about["input_size"])[1].shape
    except Exception as error:  # each model has its own checks
        raise ArtifactError(
            f"{backbone}: gives no feature vector of images of {image_size} px: {_describe(error)}; choose another "
            "preprocess.image_size or another backbone"
        ) from None
    try:
        groups = group_parameters(network, network.group_matcher(coarse=True))
    except (AttributeError, AssertionError):  # a few models name no stages: one for all
        groups = {0: [key for key, _ in network.named_parameters()]}
    stages = tuple(tuple(f"{key}." for key in groups[depth]) for depth in sorted(groups))
    return Backbone(features, about["mean"], about["std"], stages, make)


def run_on_meta(network: nn.Module, size: Sequence[int]) -> tuple[dict[str, Tensor], Tensor]:
    """Shapes and types without values (torch's meta device): the network's tensors, and its output for two images."""
    tensors = dict([*network.named_parameters(), *network.named_buffers()])
    state = {name: torch.empty_like(tensor, device="meta") for name, tensor in tensors.items()}
    with torch.no_grad():
        return state, torch.func.functional_call(network, state, (torch.empty(2, *size, device="meta"),))


class Classifier(nn.Module):
    """Maps images to two logits; index 1 is the positive class."""

    def __init__(self, backbone: nn.Module, features: int, dropout: float) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = make_head(features, dropout)

    def features(self, images: Tensor) -> Tensor:
        """(N, 3, S, S) normalised -> (N, F): the backbone's last feature map, averaged over its positions."""
        pooled: Tensor = self.backbone(images)
        return pooled

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, S, S) normalised -> logits (N, 2)."""
        logits: Tensor = self.head(self.features(images))
        return logits


def make_head(features: int, dropout: float) -> nn.Sequential:
    """Pooled features (N, F) -> logits (N, 2)."""
    return nn.Sequential(nn.Linear(features, HIDDEN), nn.ReLU(), nn.Dropout(dropout), nn.Linear(HIDDEN, 2))


def build_classifier(backbone: str, dropout: float, image_size: int = IMAGE_SIZE) -> Classifier:
    """A randomly initialised classifier; image size and errors as for `find_backbone`."""
    architecture = find_backbone(backbone, image_size)
    return Classifier(architecture.make(), architecture.features, dropout)


def load_classifier(directory: Path) -> tuple[Classifier, dict[str, Any]]:
    """The trained classifier of a model folder, in evaluation mode on the CPU, and its meta.json.

    Raises:
        ArtifactError: a file is missing or damaged, or has another kind or architecture.
    """
    path = directory / "meta.json"
    try:
        meta: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        found = (meta.get("kind"), meta.get("schema_version")) if isinstance(meta, dict) else type(meta).__name__
        if found != (KIND, SCHEMA_VERSION):
            raise ArtifactError(f"{path}: kind and schema version: found {found}, expected {(KIND, SCHEMA_VERSION)}")
        classifier = build_classifier(meta["backbone"], meta["dropout"], meta.get("image_size", IMAGE_SIZE))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArtifactError(f"{path}: cannot be read as a model's: {_describe(error)}; make the model again") from None
    copy_weights(classifier, directory / "model.safetensors")
    return classifier.to(memory_format=torch.channels_last).eval(), meta


def copy_weights(module: nn.Module, path: Path) -> None:
    """Copy the tensors of a safetensors file into a module; the names must be exactly the module's.

    Raises:
        ArtifactError: the file is missing, damaged, of another format (such as a pickle), or of another network.
    """
    try:
        module.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        raise ArtifactError(f"{path}: cannot be read as a model's weights: {_describe(error)}; make it again") from None


def _describe(error: Exception) -> str:
    # Only the first lines: for another network torch lists every tensor.
    lines = " ".join(line.strip() for line in str(error).splitlines()[:2])
    return f"{type(error).__name__}: {lines}" if isinstance(error, KeyError | TypeError) else lines
