"""The classifier: a pretrained backbone, average pool, flatten, dense 256 + ReLU, dropout, two-way softmax.

In: the name of a backbone, or the folder of a trained model. Out: a module that maps normalised images to logits.
A sealed model carries a copy of this file, so it imports nothing else of Twofold but the errors.
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
    """What is known of an architecture without building it.

    Attributes:
        features: length of the pooled feature vector.
        mean, std: of the images that it was pretrained on, per channel, pixels in 0..1.
        stages: name prefixes of its parameters, from the input to the output; one learning rate a stage.
        make: builds the network, randomly initialised, images in and pooled features out.
    """

    features: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    stages: tuple[tuple[str, ...], ...]
    make: Callable[[], nn.Module]


def _resnet50() -> nn.Module:
    from torchvision.models import resnet50

    # Residual branches that begin at zero keep an untrained network's activations in range under frozen batch norm.
    network: nn.Module = resnet50(weights=None, zero_init_residual=True)
    network.fc = nn.Identity()
    return network


def _efficientnet_lite0() -> nn.Module:
    # Here and not above: timm takes seconds to import, and only this backbone needs it.
    from timm import create_model

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
        stages=(
            ("conv_stem.", "bn1.", "blocks.0."),
            *((f"blocks.{i}.",) for i in range(1, 7)),
            ("conv_head.", "bn2."),
        ),
        make=_efficientnet_lite0,
    ),
}


class Classifier(nn.Module):
    """Images to two logits; index 1 is the positive class."""

    def __init__(self, backbone: nn.Module, features: int, dropout: float) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = make_head(features, dropout)

    def features(self, images: Tensor) -> Tensor:
        """(N, 3, S, S) normalised -> (N, F): the backbone's last map, averaged over its positions and flattened."""
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
    """A randomly initialised classifier.

    Raises:
        ArtifactError: no backbone of that name.
    """
    if backbone not in BACKBONES:
        raise ArtifactError(f"backbone: found {backbone!r}, known are {', '.join(BACKBONES)}")
    architecture = BACKBONES[backbone]
    return Classifier(architecture.make(), architecture.features, dropout)


def load_classifier(directory: Path) -> tuple[Classifier, dict[str, Any]]:
    """The trained classifier in a model folder, in evaluation mode on the CPU, and its meta.json.

    Raises:
        ArtifactError: a file is missing, altered beyond reading, of another kind, or of another architecture.
    """
    about = directory / "meta.json"
    try:
        meta: dict[str, Any] = json.loads(about.read_text(encoding="utf-8"))
        if not isinstance(meta, dict) or (meta.get("kind"), meta.get("schema_version")) != (KIND, SCHEMA_VERSION):
            found = repr(meta.get("kind")) if isinstance(meta, dict) else type(meta).__name__
            raise ArtifactError(f"{about}: found {found}, expected that of a model folder")
        classifier = build_classifier(meta["backbone"], meta["dropout"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ArtifactError(f"{about}: cannot be read as a model's: {_said(error)}; make the model again") from None
    copy_weights(classifier, directory / "model.safetensors")
    return classifier.to(memory_format=torch.channels_last).eval(), meta


def copy_weights(module: nn.Module, path: Path) -> None:
    """Copy the tensors of a safetensors file into a module: all that it has, and no others.

    Raises:
        ArtifactError: the file is missing, damaged, of another kind (a pickle under its name), or of another network.
    """
    try:
        module.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError, ValueError) as error:
        raise ArtifactError(f"{path}: cannot be read as a model's weights: {_said(error)}; make it again") from None


def _said(error: Exception) -> str:
    # The first lines: of another network torch names every tensor.
    lines = " ".join(line.strip() for line in str(error).splitlines()[:2])
    return f"{type(error).__name__}: {lines}" if isinstance(error, KeyError | TypeError) else lines
