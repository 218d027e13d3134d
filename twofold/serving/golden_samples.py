"""The witnesses of a sealed model: a few test images, sealed with what the model said of them when it was made.

In: files' bytes and probabilities. Out: one safetensors file in the sealed folder, held to its SHA-256 like the others:
a tensor `probability` (float64), and for each image a tensor named by its SHA-256 that holds the file's bytes, or
nothing where images must not leave the data; in the order of the names. Whoever wants the model back (a rollback) asks
it about them again, years later and on another machine, before anyone relies on it.
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
from twofold.model.device import device, make_deterministic, warn_if_emulated
from twofold.serving.sealed_model import SealedModel

GOLDEN_SAMPLES = "witnesses.safetensors"
PROBABILITY = "probability"


@dataclass(frozen=True)
class GoldenSamples:
    """Images by SHA-256 with the bytes of their files (None where they were not sealed), and what was said of them."""

    images: dict[str, bytes | None]
    probability: NDArray[np.float64]


def write(path: Path, images: Sequence[bytes], probability: NDArray[np.float64], *, pictures: bool) -> None:
    """Write the file; the same images give the same bytes.

    Args:
        path: of the file.
        images: bytes of image files, each once.
        probability: what the model says of each.
        pictures: whether the bytes may be kept; if not, the SHA-256 alone is.
    """
    known = {hashlib.sha256(data).hexdigest(): number for number, data in enumerate(images)}
    names = sorted(known)
    tensors = {name: np.frombuffer(images[known[name]] if pictures else b"", np.uint8).copy() for name in names}
    order = np.array([known[name] for name in names], dtype=np.int64)
    save_file(tensors | {PROBABILITY: np.asarray(probability, np.float64)[order]}, path)


def read(path: Path) -> GoldenSamples:
    """Read them back; the file has been held to its seal before.

    Raises:
        ArtifactError: there is no such file, or it is not one of these.
    """
    try:
        tensors = load(path.read_bytes())
    except FileNotFoundError:
        raise ArtifactError(f"{path}: no such file; the model was sealed without images to ask it about") from None
    except (OSError, SafetensorError) as error:
        raise ArtifactError(f"{path}: cannot be read: {error}") from None
    probability = tensors.pop(PROBABILITY, np.zeros(0))
    if not tensors or probability.shape != (len(tensors),):
        raise ArtifactError(f"{path}: holds {len(tensors)} images and {probability.shape} probabilities")
    images = {name: tensors[name].tobytes() or None for name in sorted(tensors)}
    wrong = [name for name, data in images.items() if data and hashlib.sha256(data).hexdigest() != name]
    if wrong:
        raise ArtifactError(f"{path}: the bytes of {wrong[0]} have another SHA-256")
    return GoldenSamples(images, probability.astype(np.float64))


def check_golden_samples(
    sealed: SealedModel, witnesses: GoldenSamples, find: Callable[[str], bytes | None] = lambda sha256: None
) -> tuple[int, float]:
    """Let the model answer for them again.

    Args:
        sealed: the model.
        witnesses: that were sealed with it.
        find: the bytes of an image that was not sealed, by its SHA-256; None where they are not to be had.

    Returns:
        For how many it was asked, and the largest difference of a probability.

    Raises:
        RegistryError: it says something else than it did then.
    """
    pixels, expected = [], []
    for (sha256, data), probability in zip(witnesses.images.items(), witnesses.probability, strict=True):
        found = data or find(sha256)
        if found is not None:
            pixels.append(sealed.pixels(found))
            expected.append(probability)
    if not pixels:
        return 0, 0.0
    make_deterministic()
    warn_if_emulated(sealed.precision, device())
    sealed.classifier.to(device())
    largest = float(np.abs(sealed.score(pixels) - np.array(expected)).max())
    if not largest <= sealed.tolerance:
        raise RegistryError(
            f"on {len(pixels)} images sealed with it, its probabilities differ by up to {largest:.2g} from those that "
            f"it had when it was made; allowed is {sealed.tolerance:g}. The libraries or the processor here make "
            "another model of it: do not use it in this environment"
        )
    return len(pixels), largest
