"""Near duplicates: one picture twice, the second time resized, encoded anew, brighter, darker, flipped or turned.

In: a small grey thumbnail of each image. Out: the pairs that show the same picture, and how alike they are.

Images of one kind of part under one camera are alike without being duplicates, so likeness is measured in what is
special to an image: thumbnails are normalised in brightness and contrast, and whitened by the data set's own covariance
(as in Zero-phase Component Analysis: Bell and Sejnowski 1997, "The independent components of natural scenes are edge
filters"), which takes out what all images share. A pair is reported where the correlation of two whitened thumbnails,
in the best of the eight flips and right-angle turns, is at least ALIKE.

Whitening knows no direction (the covariance is averaged over the eight), so it commutes with flips and turns. That
gives a quick and exact first look: in the low frequencies of the cosine transform, flips only change signs and a turn
swaps rows for columns, so |a + b| and |a - b| of a coefficient and its mirror image do not change, and two images
that correlate by ALIKE cannot lie further apart in them than sqrt(2 - 2 ALIKE). In a quarter of these marks no two lie
further apart than in all, so a quarter is enough to rule out most pairs.

A cut-out of a picture is not found: with 1 % cut off each side the thumbnails no longer lie on top of each other. And
what all images share is learnt from the images at hand: with others beside it, a pair at the limit may fall on the
other side of it.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn

from twofold.data.thumbnails import SIDE, Thumbnails

# `python -m bench.studies.near_duplicate_recall` is where this comes from. All of 100 copies of photographs of solar cells reach it after JPEG
# at quality 30, WebP at 40 or half the size. Of what is unchanged, 9 pairs among 2,624 cells reach it: sister wafers,
# cut from one block one after the other. At .98, hundreds of pairs do, and one of two cells may be cracked.
ALIKE = 0.991
DIGITS = 4  # of a correlation; the next ones depend on the processor
# Added to each variance, as a share of what images do not have in common: what lies below it is mostly noise of the
# camera and of encoding, and must not be blown up. At .1 to .4 one pair of sister cells is more alike than the least
# alike of 404 copies (half the size, JPEG and WebP at 40, gamma); at .02 it is 10 pairs, at .01 it is 22.
_FLOOR = 0.1
_LOW = 16  # cosine coefficients a side that the marks are made of
_FIRST = 64  # of an image's 256 marks, those that all pairs are compared by
_BLOCK = 512  # images compared with all others, _ACROSS at a time: 8 MB of distances
_ACROSS = 4096  # images
_FURTHEST = 2 - 2 * ALIKE + 1e-3  # square of a distance of marks; a little more, for rounding
_PAIRS = 1024  # confirmed at once
_CANDIDATES = 64  # of one image at most, the nearest ones: more say nothing new of it
_TURNS = tuple((k & 4, k & 2, k & 1) for k in range(8))  # transposed, upside down, mirrored
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
    """Two images that show the same picture: their places, first < second, the correlation, how the second lies."""

    first: int
    second: int
    similarity: float
    turn: str


def find_near_duplicates(thumbnails: Sequence[Thumbnails] | Thumbnails) -> list[NearDuplicate]:
    """The near duplicates among images, sorted by place.

    Args:
        thumbnails: (N, SIDE, SIDE), as `thumbnail` makes them. 50,000 of them take a quarter of a gigabyte beside their
            own while this runs.
    """
    shown = np.asarray(thumbnails, np.float16).reshape(-1, SIDE, SIDE)
    places = np.flatnonzero(shown.any(axis=(1, 2)))
    if len(places) < 2:
        return []
    white = _whitened(shown[places])
    marks = _marks(white)
    found: dict[tuple[int, int], NearDuplicate] = {}
    for rows, columns in _candidates(marks):
        best, turn = _alike(white[rows], white[columns])
        for row, column, value, number in zip(rows, columns, best, turn, strict=True):
            if value >= ALIKE:
                first, second = int(places[row]), int(places[column])
                found[first, second] = NearDuplicate(
                    first, second, min(round(float(value), DIGITS), 1.0), _WORDS[number]
                )
    return sorted(found.values())


def _turned(images: NDArray[Level], number: int) -> NDArray[Level]:
    """(N, S, S) images in one of the eight ways of lying."""
    transposed, upside_down, mirrored = _TURNS[number]
    if transposed:
        images = images.transpose(0, 2, 1)
    if upside_down:
        images = images[:, ::-1]
    return images[:, :, ::-1] if mirrored else images


def _whitened(shown: Thumbnails) -> Thumbnails:
    """The thumbnails without what they share, of length 1."""
    covariance = np.zeros((SIDE * SIDE, SIDE * SIDE))
    for start in range(0, len(shown), _BLOCK):
        flat = shown[start : start + _BLOCK].astype(np.float32).reshape(-1, SIDE * SIDE)
        covariance += flat.T @ flat
    places = np.arange(SIDE * SIDE).reshape(1, SIDE, SIDE)
    # To turn the images is to put rows and columns of their covariance into another order.
    orders = [_turned(places, number).ravel() for number in range(len(_TURNS))]
    turned = np.mean([covariance[np.ix_(order, order)] for order in orders], axis=0)
    values, vectors = np.linalg.eigh(turned / len(shown))
    values = np.maximum(values, 0)
    # One picture in its eight ways of lying spans eight directions at most, and those vary most.
    # Of few images nobody can say what they have in common.
    floor = _FLOOR * max(values[: -len(_TURNS)].sum(), min(1, (len(_TURNS) / len(shown)) ** 2))
    matrix = ((vectors / np.sqrt(values + floor)) @ vectors.T).astype(np.float32)
    white = np.empty_like(shown)
    for start in range(0, len(shown), _BLOCK):
        some = shown[start : start + _BLOCK].astype(np.float32).reshape(-1, SIDE * SIDE) @ matrix
        some /= np.linalg.norm(some, axis=1, keepdims=True)
        white[start : start + _BLOCK] = some.reshape(-1, SIDE, SIDE)
    return white


def _marks(white: Thumbnails) -> NDArray[np.float32]:
    """(N, D): what flips and turns do not change in the low frequencies; distances are no larger than the images'."""
    upper = np.triu_indices(_LOW, 1)
    marks = np.empty((len(white), _LOW + 2 * len(upper[0])), np.float32)
    for start in range(0, len(white), _BLOCK):
        waves = np.abs(dctn(white[start : start + _BLOCK].astype(np.float32), axes=(1, 2), norm="ortho"))
        low = waves[:, :_LOW, :_LOW]
        one, other = low[:, upper[0], upper[1]], low[:, upper[1], upper[0]]
        middle = low[:, np.arange(_LOW), np.arange(_LOW)]
        # Divided by the root of 2, sum and difference are a turn of the plane and keep its distances.
        both = [(one + other) / np.sqrt(2), np.abs(one - other) / np.sqrt(2)]
        marks[start : start + _BLOCK] = np.concatenate([middle, *both], axis=1)
    return marks


def _candidates(marks: NDArray[np.float32]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Pairs (row, column), row < column, that may be alike."""
    squares = (marks**2).sum(axis=1)
    glances = _glances(marks)
    for start in range(0, len(marks), _BLOCK):
        some = slice(start, start + _BLOCK)
        others = np.concatenate(list(_nearby(*glances, start)))
        distances = squares[some, None] + squares[None, others] - 2 * marks[some] @ marks[others].T
        below = others[None] - start <= np.arange(distances.shape[0])[:, None]
        distances[below] = np.inf
        if distances.shape[1] > _CANDIDATES:
            limit = np.partition(distances, _CANDIDATES - 1, axis=1)[:, _CANDIDATES - 1 : _CANDIDATES]
            distances[distances > limit] = np.inf
        rows, columns = np.nonzero(distances <= _FURTHEST)
        for chunk in range(0, len(rows), _PAIRS):
            yield rows[chunk : chunk + _PAIRS] + start, others[columns[chunk : chunk + _PAIRS]]


def _glances(marks: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Twice (N, D): the product of a row of the first with one of the second is minus half the square of the distance
    of two images in the marks that vary most.
    """
    middle = marks.mean(axis=0)  # far from zero, as all marks are above it: its square would drown the distances
    most = np.sort(np.argsort(-marks.var(axis=0), kind="stable")[:_FIRST])
    few = (marks - middle)[:, most]
    halves = -0.5 * (few**2).sum(axis=1, keepdims=True)
    ones = np.ones_like(halves)
    return np.concatenate([few, halves, ones], axis=1), np.concatenate([few, ones, halves], axis=1)


def _nearby(first: NDArray[np.float32], second: NDArray[np.float32], start: int) -> Iterator[NDArray[np.int64]]:
    """Places from `start` on of all that may be alike to any of the block that begins there."""
    block = first[start : start + _BLOCK]
    for begin in range(start, len(second), _ACROSS):
        products = block @ second[begin : begin + _ACROSS].T
        yield begin + np.flatnonzero(products.max(axis=0) >= -0.5 * _FURTHEST)


def _alike(first: Thumbnails, second: Thumbnails) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The best correlation of each pair, and in which of the eight ways the second lies then."""
    one, other = first.astype(np.float32), second.astype(np.float32)
    all_ways = np.stack([np.einsum("nij,nij->n", one, _turned(other, number)) for number in range(len(_TURNS))])
    number = all_ways.argmax(axis=0)
    return all_ways[number, np.arange(len(one))], number
