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
correlation MIN_CORRELATION have a distance of at most sqrt(2 - 2 MIN_CORRELATION) in these invariant features, and no
larger one in a projection of them: in their first principal components.

Most pairs are excluded together. The images are sorted into the leaves of a k-d tree (Bentley 1975, "Multidimensional
binary search trees used for associative searching"), and a leaf is compared only with the images near its bounding box.
The more images, the smaller the boxes: the time grows more slowly than the number of pairs.

Limits: a crop is not found, because with 1 % cut off each side the thumbnails no longer align. Whitening depends on
all images: a pair near the threshold may fall on the other side of it if other images are added.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

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
_COMPONENTS = 128  # principal components of the 256 features
_BOX = 16  # of them, those in which images are sorted and leaves have bounding boxes
_SAMPLE = 8192  # images, at least, that determine the principal components
_BLOCK = 512  # images of a leaf, compared with _ACROSS others at a time: at most 32 MB of distances
_ACROSS = 16384
_MAX_DISTANCE = 2 - 2 * MIN_CORRELATION + 1e-3  # square of a distance of features, with a margin for rounding
_PAIRS = 1024  # correlated at once
_ENOUGH = 64  # near duplicates of one image: more give no new information
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
Indices = NDArray[np.int64]


class NearDuplicate(NamedTuple):
    """A pair of images: their indices, first < second, the correlation, and the orientation of the second."""

    first: int
    second: int
    similarity: float
    turn: str


def find_near_duplicates(thumbnails: Sequence[Thumbnails] | Thumbnails) -> list[NearDuplicate]:
    """The near duplicates among images, sorted by index.

    All pairs are found, except that an image with more than _ENOUGH near duplicates is paired with _ENOUGH or more.

    Args:
        thumbnails: (N, SIDE, SIDE), as `thumbnail` returns them. A million of them need another 3 GB.
    """
    indices = np.flatnonzero([each.any() for each in thumbnails])
    if len(indices) < 2:
        return []
    white = _whiten(thumbnails, indices)
    points = _principal_components(white)
    leaves = _leaves(points, np.arange(len(white)))
    order = np.concatenate(leaves)
    points = points[:, order]
    found = []
    for rows in np.split(np.arange(len(order)), np.cumsum([len(leaf) for leaf in leaves])[:-1]):
        for firsts, seconds, correlations, orientations in _search(points, white, order, rows):
            for row, column, value, number in zip(firsts, seconds, correlations, orientations, strict=True):
                similarity = min(round(float(value), DIGITS), 1.0)
                found.append(NearDuplicate(int(indices[row]), int(indices[column]), similarity, _WORDS[number]))
    return sorted(found)


def _orient(images: NDArray[Level], number: int) -> NDArray[Level]:
    """(N, S, S) images in one of the eight orientations."""
    transposed, upside_down, mirrored = _ORIENTATIONS[number]
    if transposed:
        images = images.transpose(0, 2, 1)
    if upside_down:
        images = images[:, ::-1]
    return images[:, :, ::-1] if mirrored else images


def _whiten(thumbnails: Sequence[Thumbnails] | Thumbnails, indices: Indices) -> Thumbnails:
    """The thumbnails at some indices without what all of them share, normalised to length 1."""
    covariance = np.zeros((SIDE * SIDE, SIDE * SIDE))
    for _, flat in _blocks(thumbnails, indices):
        covariance += flat.T @ flat
    pixels = np.arange(SIDE * SIDE).reshape(1, SIDE, SIDE)
    # Orienting all images reorders the rows and columns of their covariance.
    orders = [_orient(pixels, number).ravel() for number in range(len(_ORIENTATIONS))]
    averaged = np.mean([covariance[np.ix_(order, order)] for order in orders], axis=0)
    values, vectors = np.linalg.eigh(averaged / len(indices))
    values = np.maximum(values, 0)
    # One picture in its eight orientations spans at most eight dimensions, those of the largest variance. With few
    # images, what they have in common cannot be estimated.
    floor = _FLOOR * max(values[: -len(_ORIENTATIONS)].sum(), min(1, (len(_ORIENTATIONS) / len(indices)) ** 2))
    matrix = ((vectors / np.sqrt(values + floor)) @ vectors.T).astype(np.float32)
    white = np.empty((len(indices), SIDE, SIDE), np.float16)
    for start, flat in _blocks(thumbnails, indices):
        block = flat @ matrix
        block /= np.linalg.norm(block, axis=1, keepdims=True)
        white[start : start + _BLOCK] = block.reshape(-1, SIDE, SIDE)
    return white


def _blocks(
    thumbnails: Sequence[Thumbnails] | Thumbnails, indices: Indices
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """Parts of the thumbnails at some indices, (_BLOCK, SIDE * SIDE), and where they start among these."""
    for start in range(0, len(indices), _BLOCK):
        some = np.stack([thumbnails[index] for index in indices[start : start + _BLOCK]])
        yield start, some.astype(np.float32).reshape(-1, SIDE * SIDE)


def _principal_components(white: Thumbnails) -> NDArray[np.float32]:
    """(D, N) the images in the components of the largest variance of their invariant features, around their mean.

    Every orthonormal basis keeps distances or shortens them, so some of the images are enough to determine it.
    """
    some = _invariant_features(white[:: max(1, len(white) // _SAMPLE)])
    mean = some.mean(axis=0)
    basis = np.linalg.eigh(np.cov(some, rowvar=False))[1][:, : -_COMPONENTS - 1 : -1].astype(np.float32)
    points = np.empty((_COMPONENTS, len(white)), np.float32)
    for start in range(0, len(white), _BLOCK):
        block = slice(start, start + _BLOCK)
        points[:, block] = ((_invariant_features(white[block]) - mean) @ basis).T
    return points


def _invariant_features(white: Thumbnails) -> NDArray[np.float32]:
    """(N, D) low-frequency features, invariant to flips and rotations; their distances are at most the images'."""
    from scipy.fft import dctn  # every command that reads params.yaml imports this file

    upper = np.triu_indices(_LOW, 1)
    low = np.abs(dctn(white.astype(np.float32), axes=(1, 2), norm="ortho")[:, :_LOW, :_LOW])
    one, other = low[:, upper[0], upper[1]], low[:, upper[1], upper[0]]
    diagonal = low[:, np.arange(_LOW), np.arange(_LOW)]
    # Divided by the square root of 2, sum and difference are a rotation of the plane, which keeps its distances.
    features: NDArray[np.float32] = np.concatenate(
        [diagonal, (one + other) / np.sqrt(2), np.abs(one - other) / np.sqrt(2)], axis=1, dtype=np.float32
    )
    return features


def _leaves(points: NDArray[np.float32], indices: Indices) -> list[Indices]:
    """The indices in parts of at most _BLOCK, halved again and again along the component of the largest variance."""
    if len(indices) <= _BLOCK:
        return [indices]
    half = len(indices) // 2
    widest = points[:_BOX, indices].var(axis=1).argmax()
    split = indices[np.argpartition(points[widest, indices], half)]
    return _leaves(points, split[:half]) + _leaves(points, split[half:])


def _search(
    points: NDArray[np.float32], white: Thumbnails, order: Indices, rows: Indices
) -> Iterator[tuple[Indices, Indices, NDArray[np.float32], Indices]]:
    """The near duplicates of a leaf in itself and in later leaves: first < second in `white`, correlation, orientation.

    Args:
        points: (D, N) the images in the order of the leaves.
        white: (N, SIDE, SIDE) in their own order.
        order: (N,) the index in `white` of each of the points.
        rows: the places of the leaf among the points.
    """
    counts = np.zeros(len(rows), np.int64)
    for begin in range(int(rows[0]), len(order), _ACROSS):
        ones, others = _candidates(points, rows[counts < _ENOUGH], begin)
        while len(ones):  # at most _ENOUGH of each image at a time, until it has enough near duplicates
            now = np.arange(len(ones)) - np.searchsorted(ones, ones) < _ENOUGH
            turn = np.stack([ones[now], others[now]])
            for chunk in range(0, turn.shape[1], _PAIRS):
                some = turn[:, chunk : chunk + _PAIRS]
                pairs = np.sort(order[some], axis=0)
                correlations, orientations = _correlate(white[pairs[0]], white[pairs[1]])
                same = correlations >= MIN_CORRELATION
                counts += np.bincount(some[0, same] - rows[0], minlength=len(rows))
                yield pairs[0, same], pairs[1, same], correlations[same], orientations[same]
            later = ~now & (counts[ones - rows[0]] < _ENOUGH)
            ones, others = ones[later], others[later]


def _candidates(points: NDArray[np.float32], rows: Indices, begin: int) -> tuple[Indices, Indices]:
    """Pairs (row, column), row < column, sorted, that may be near duplicates: columns from `begin` on, _ACROSS of them.

    Only columns near the bounding box of the rows are compared with each of them.
    """
    if not len(rows):
        return rows, rows
    box = points[:_BOX, rows]
    across = points[:_BOX, begin : begin + _ACROSS]
    outside = across - np.clip(across, box.min(axis=1, keepdims=True), box.max(axis=1, keepdims=True))
    columns = begin + np.flatnonzero(np.einsum("dn,dn->n", outside, outside) <= _MAX_DISTANCE)
    one, other = points[:, rows], points[:, columns]
    squares = (one**2).sum(axis=0)[:, None] + (other**2).sum(axis=0)
    near = (squares - 2 * one.T @ other <= _MAX_DISTANCE) & (columns > rows[:, None])
    first, second = np.nonzero(near)
    return rows[first], columns[second]


def _correlate(first: Thumbnails, second: Thumbnails) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The highest correlation of each pair over the orientations of the second, and that orientation."""
    one, other = first.astype(np.float32), second.astype(np.float32)
    values = np.stack([np.einsum("nij,nij->n", one, _orient(other, k)) for k in range(len(_ORIENTATIONS))])
    best = values.argmax(axis=0)
    return values[best, np.arange(len(one))], best
