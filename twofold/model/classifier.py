"""The classifier: a pretrained backbone, average pool, flatten, dense 256 + ReLU, dropout, two-way softmax.

Builds it by the name of its backbone, or loads it from the folder of a trained model. A sealed model carries a copy of
this file, so it imports nothing else of Twofold but the errors.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from twofold.core.errors import ArtifactError

KIND, SCHEMA_VERSION = "model", 1
HIDDEN = 256  # width of the head's first dense layer


@dataclass(frozen=True)
class Backbone:
    """The facts of an architecture, without building it.

    Attributes:
        features: length of the pooled feature vector.
        mean, std: of its pretraining images, per channel, pixels in 0..1.
        stages: name prefixes of its parameters, from input to output; each stage has one learning rate.
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


def _efficientnet_lite0() -> nn.Module:
    from timm import create_model  # takes seconds to import, and only this backbone needs it

    network: nn.Module = create_model("tf_efficientnet_lite0", pretrained=False, num_classes=0)
    return network


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
        make=_efficientnet_lite0,
    ),
}


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


def build_classifier(backbone: str, dropout: float) -> Classifier:
    """A randomly initialised classifier; raises ArtifactError if the backbone is unknown."""
    if backbone not in BACKBONES:
        raise ArtifactError(f"backbone: found {backbone!r}, allowed are {', '.join(BACKBONES)}")
    architecture = BACKBONES[backbone]
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
        classifier = build_classifier(meta["backbone"], meta["dropout"])
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
