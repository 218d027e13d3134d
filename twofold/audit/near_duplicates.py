"""Finds near duplicates: the same picture resized, encoded again, brighter, darker, flipped or rotated.

Takes a small grey thumbnail of each image; returns the pairs that show the same picture, with their correlation.

Images of one kind of part under one camera are similar without being duplicates. So thumbnails are normalised in
brightness and contrast, and whitened by the covariance of the data set (Zero-phase Component Analysis: Bell and
Sejnowski 1997, "The independent components of natural scenes are edge filters"), which removes what all images share.
Two images are near duplicates if the correlation of their whitened thumbnails, in the best of the eight flips and
right-angle rotations, is at least MIN_CORRELATION.

The covariance is averaged over the eight orientations, so whitening commutes with flips and rotations. This allows a
quick and exact filter. In the low frequencies of the cosine transform flips only change signs, and a rotation swaps
rows for columns, so |a + b| and |a - b| of a coefficient and its transposed one do not change. Two images with the
correlation MIN_CORRELATION have a distance of at most sqrt(2 - 2 MIN_CORRELATION) in these invariant features. A
distance in a quarter of the features is no larger than in all, so a quarter is enough to exclude most pairs.

Limits: a crop is not found, because with 1 % cut off each side the thumbnails no longer align. Whitening depends on
all images: a pair near the threshold may fall on the other side of it if other images are added.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn

from twofold.data.thumbnails import SIDE, Thumbnails

# Measured by `python -m bench.studies.near_duplicate_recall`. All of 100 copies of photographs of solar cells reach it
# after JPEG at quality 30, WebP at 40 or resizing to half. Of 2,624 unchanged cells 9 pairs reach it: sister wafers,
# cut one after the other from one block. At .98 hundreds of pairs do, and one of two cells may be cracked.
MIN_CORRELATION = 0.991
DIGITS = 4  # of a correlation; the next ones depend on the processor
# Added to each variance, as a fraction of what images do not have in common: variance below it is mostly noise of the
# camera and of encoding, and must not be amplified. At .1 to .4 one pair of sister cells is more similar than the
# least similar of 404 copies (half the size, JPEG and WebP at 40, gamma); at .02 it is 10 pairs, at .01 it is 22.
_FLOOR = 0.1
_LOW = 16  # cosine coefficients a side from which the invariant features are computed
_FIRST = 64  # of the 256 features of an image, those in which all pairs are compared
_BLOCK = 512  # images compared with _ACROSS others at a time: 8 MB of distances
_ACROSS = 4096
_MAX_DISTANCE = 2 - 2 * MIN_CORRELATION + 1e-3  # square of a distance of features, with a margin for rounding
_PAIRS = 1024  # correlated at once
_CANDIDATES = 64  # at most for one image, the nearest ones: more give no new information
_ORIENTATIONS = tuple((k & 4, k & 2, k & 1) for k in range(8))  # transposed, upside down, mirrored
_WORDS = (
    "as it is",
    "mirrored",
    "upside down",
    "turned by 180 degrees",
    "mirrored and turned by 90 degrees",
    "turned by 90 degrees",
    "turned by 270 degrees",
    "mirrored and turned by 270 degrees",
)
Level = TypeVar("Level", bound=np.generic)


class NearDuplicate(NamedTuple):
    """A pair of images: their indices, first < second, the correlation, and the orientation of the second."""

    first: int
    second: int
    similarity: float
    turn: str


def find_near_duplicates(thumbnails: Sequence[Thumbnails] | Thumbnails) -> list[NearDuplicate]:
    """The near duplicates among images, sorted by index.

    Args:
        thumbnails: (N, SIDE, SIDE), as `thumbnail` returns them. 50,000 of them need another quarter of a gigabyte.
    """
    thumbnails = np.asarray(thumbnails, np.float16).reshape(-1, SIDE, SIDE)
    indices = np.flatnonzero(thumbnails.any(axis=(1, 2)))
    if len(indices) < 2:
        return []
    white = _whiten(thumbnails[indices])
    found = []
    for rows, columns in _candidates(_invariant_features(white)):
        correlations, orientations = _correlate(white[rows], white[columns])
        for row, column, value, number in zip(rows, columns, correlations, orientations, strict=True):
            if value >= MIN_CORRELATION:
                first, second = int(indices[row]), int(indices[column])
                similarity = min(round(float(value), DIGITS), 1.0)
                found.append(NearDuplicate(first, second, similarity, _WORDS[number]))
    return sorted(found)


def _orient(images: NDArray[Level], number: int) -> NDArray[Level]:
    """(N, S, S) images in one of the eight orientations."""
    transposed, upside_down, mirrored = _ORIENTATIONS[number]
    if transposed:
        images = images.transpose(0, 2, 1)
    if upside_down:
        images = images[:, ::-1]
    return images[:, :, ::-1] if mirrored else images


def _whiten(thumbnails: Thumbnails) -> Thumbnails:
    """The thumbnails without what all of them share, normalised to length 1."""
    covariance = np.zeros((SIDE * SIDE, SIDE * SIDE))
    for start in range(0, len(thumbnails), _BLOCK):
        flat = thumbnails[start : start + _BLOCK].astype(np.float32).reshape(-1, SIDE * SIDE)
        covariance += flat.T @ flat
    pixels = np.arange(SIDE * SIDE).reshape(1, SIDE, SIDE)
    # Orienting all images reorders the rows and columns of their covariance.
    orders = [_orient(pixels, number).ravel() for number in range(len(_ORIENTATIONS))]
    averaged = np.mean([covariance[np.ix_(order, order)] for order in orders], axis=0)
    values, vectors = np.linalg.eigh(averaged / len(thumbnails))
    values = np.maximum(values, 0)
    # One picture in its eight orientations spans at most eight dimensions, those of the largest variance. With few
    # images, what they have in common cannot be estimated.
    floor = _FLOOR * max(values[: -len(_ORIENTATIONS)].sum(), min(1, (len(_ORIENTATIONS) / len(thumbnails)) ** 2))
    matrix = ((vectors / np.sqrt(values + floor)) @ vectors.T).astype(np.float32)
    white = np.empty_like(thumbnails)
    for start in range(0, len(thumbnails), _BLOCK):
        block = thumbnails[start : start + _BLOCK].astype(np.float32).reshape(-1, SIDE * SIDE) @ matrix
        block /= np.linalg.norm(block, axis=1, keepdims=True)
        white[start : start + _BLOCK] = block.reshape(-1, SIDE, SIDE)
    return white


def _invariant_features(white: Thumbnails) -> NDArray[np.float32]:
    """(N, D) low-frequency features, invariant to flips and rotations; their distances are at most the images'."""
    upper = np.triu_indices(_LOW, 1)
    features = np.empty((len(white), _LOW + 2 * len(upper[0])), np.float32)
    for start in range(0, len(white), _BLOCK):
        waves = np.abs(dctn(white[start : start + _BLOCK].astype(np.float32), axes=(1, 2), norm="ortho"))
        low = waves[:, :_LOW, :_LOW]
        one, other = low[:, upper[0], upper[1]], low[:, upper[1], upper[0]]
        diagonal = low[:, np.arange(_LOW), np.arange(_LOW)]
        # Divided by the square root of 2, sum and difference are a rotation of the plane, which keeps its distances.
        both = [(one + other) / np.sqrt(2), np.abs(one - other) / np.sqrt(2)]
        features[start : start + _BLOCK] = np.concatenate([diagonal, *both], axis=1)
    return features


def _candidates(features: NDArray[np.float32]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Pairs (row, column), row < column, that may be near duplicates."""
    squares = (features**2).sum(axis=1)
    first, second = _distance_factors(features)
    for start in range(0, len(features), _BLOCK):
        block = slice(start, start + _BLOCK)
        nearby = [
            begin
            + np.flatnonzero((first[block] @ second[begin : begin + _ACROSS].T).max(axis=0) >= -0.5 * _MAX_DISTANCE)
            for begin in range(start, len(features), _ACROSS)
        ]
        others = np.concatenate(nearby)
        distances = squares[block, None] + squares[None, others] - 2 * features[block] @ features[others].T
        below = others[None] - start <= np.arange(distances.shape[0])[:, None]
        distances[below] = np.inf
        if distances.shape[1] > _CANDIDATES:
            limit = np.partition(distances, _CANDIDATES - 1, axis=1)[:, _CANDIDATES - 1 : _CANDIDATES]
            distances[distances > limit] = np.inf
        rows, columns = np.nonzero(distances <= _MAX_DISTANCE)
        for chunk in range(0, len(rows), _PAIRS):
            yield rows[chunk : chunk + _PAIRS] + start, others[columns[chunk : chunk + _PAIRS]]


def _distance_factors(features: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Two arrays (N, D): a row of the first times a row of the second is -0.5 times the squared distance of two images
    in the features of the largest variance.
    """
    mean = features.mean(axis=0)  # far from zero: its square would hide the distances
    largest = np.sort(np.argsort(-features.var(axis=0), kind="stable")[:_FIRST])
    few = (features - mean)[:, largest]
    halves = -0.5 * (few**2).sum(axis=1, keepdims=True)
    ones = np.ones_like(halves)
    return np.concatenate([few, halves, ones], axis=1), np.concatenate([few, ones, halves], axis=1)


def _correlate(first: Thumbnails, second: Thumbnails) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The highest correlation of each pair over the orientations of the second, and that orientation."""
    one, other = first.astype(np.float32), second.astype(np.float32)
    values = np.stack([np.einsum("nij,nij->n", one, _orient(other, k)) for k in range(len(_ORIENTATIONS))])
    best = values.argmax(axis=0)
    return values[best, np.arange(len(one))], best
