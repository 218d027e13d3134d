"""Golden samples: a few test images sealed with a model and the probabilities that it gave them when it was sealed.

Writes and reads one safetensors file in the sealed folder: a tensor `probability` (float64) and, for each image, a
tensor named by its SHA-256 with the bytes of the file, empty if images must not leave the data; sorted by name.
A rollback checks that the model still gives the same probabilities, even years later and on another machine.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save_file

from twofold.core.errors import ArtifactError, RegistryError
from twofold.serving.model_resolver import prepare_inference
from twofold.serving.sealed_model import SealedModel

GOLDEN_SAMPLES = "witnesses.safetensors"
PROBABILITY = "probability"


@dataclass(frozen=True)
class GoldenSamples:
    """File bytes by SHA-256 (None if they were not sealed), and the probability of each image."""

    images: dict[str, bytes | None]
    probability: NDArray[np.float64]


def write(path: Path, images: Sequence[bytes], probability: NDArray[np.float64], *, pictures: bool) -> None:
    """Write the file; the same images give the same bytes.

    Args:
        images: bytes of distinct image files.
        probability: the model's, of each image.
        pictures: whether to store the bytes; otherwise only the SHA-256 is stored.
    """
    positions = {hashlib.sha256(data).hexdigest(): position for position, data in enumerate(images)}
    order = dict(sorted(positions.items()))
    tensors = {name: np.frombuffer(images[at] if pictures else b"", np.uint8).copy() for name, at in order.items()}
    sorted_probability = np.asarray(probability, np.float64)[np.array(list(order.values()), dtype=np.int64)]
    save_file(tensors | {PROBABILITY: sorted_probability}, path)


def read(path: Path) -> GoldenSamples:
    """Read the file, which the caller has verified against the seal.

    Raises:
        ArtifactError: the file does not exist or does not contain golden samples.
    """
    try:
        tensors = load(path.read_bytes())
    except FileNotFoundError:
        raise ArtifactError(f"{path}: no such file; the model was sealed without golden samples") from None
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{path}: cannot be read: {error}") from None
    probability = tensors.pop(PROBABILITY, np.zeros(0))
    if not tensors or probability.shape != (len(tensors),):
        raise ArtifactError(f"{path}: holds {len(tensors)} images and {probability.shape} probabilities")
    images = {name: tensors[name].tobytes() or None for name in sorted(tensors)}
    for name, data in images.items():
        if data and hashlib.sha256(data).hexdigest() != name:
            raise ArtifactError(f"{path}: the bytes of {name} have another SHA-256")
    return GoldenSamples(images, probability.astype(np.float64))


def check_golden_samples(
    sealed: SealedModel, samples: GoldenSamples, find: Callable[[str], bytes | None] = lambda sha256: None
) -> tuple[int, float]:
    """Score a model's golden samples again and compare with the sealed probabilities.

    Args:
        find: returns the bytes of an image that was not sealed, by its SHA-256; None if it is not available.

    Returns:
        The number of images that were scored, and the largest difference of a probability.

    Raises:
        RegistryError: a probability differs by more than the model's tolerance.
    """
    pixels, expected = [], []
    for (sha256, sealed_bytes), probability in zip(samples.images.items(), samples.probability, strict=True):
        data = sealed_bytes or find(sha256)
        if data is not None:
            pixels.append(sealed.pixels(data))
            expected.append(probability)
    if not pixels:
        return 0, 0.0
    prepare_inference(sealed)
    largest = float(np.abs(sealed.score(pixels) - np.array(expected)).max())
    if not largest <= sealed.tolerance:
        raise RegistryError(
            f"on {len(pixels)} golden samples sealed with the model, its probabilities differ by up to {largest:.2g} "
            f"from the sealed ones; allowed is {sealed.tolerance:g}. The libraries or the processor here change the "
            "model's answers: do not use it in this environment"
        )
    return len(pixels), largest
