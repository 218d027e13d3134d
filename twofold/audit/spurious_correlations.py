"""Whether the label can be read from what surrounds the pixels, or from their brightness alone.

In: images with their labels and looks. Out: for each family of such facts, how well a small tree tells the classes
apart by it on images that it did not learn from.

A model that is shown such data may learn the camera, the program that saved the files, or the lamp, and look well on
its test images, which share that habit.
"""

import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from twofold.data.image_statistics import ImageStatistics
from twofold.data.raw import ImageRecord

FOLDS = 5
DEPTH = 4  # of the tree: sixteen leaves, enough for a threshold or two, too few to learn images by heart
VALUES = 30  # most frequent words that are looked at
CONFIDENCE, Z = "99.9 %", 3.09  # one-sided: six families are tried, and together they shall hardly ever cry wolf
# Below 0.55 a cue is worth less to a model than almost anything that it sees in the pixels; clean data of many images
# would otherwise be reported for differences that are real and of no use.
MARGIN = 0.05


class SpuriousCorrelation(NamedTuple):
    """How well one family tells the classes apart.

    Attributes:
        family: its name.
        facts: what it consists of, in words.
        auc: area under the ROC curve of out-of-fold scores; 0.5 is guessing.
        bound: the AUC is at least this, with a confidence of 99.9 %.
    """

    family: str
    facts: str
    auc: float
    bound: float

    @property
    def tells(self) -> bool:
        """Whether it beats chance by more than the margin."""
        return self.bound > 0.5 + MARGIN


def find_spurious_correlations(
    images: Sequence[ImageRecord], looks: Sequence[ImageStatistics], labels: tuple[str, str]
) -> list[SpuriousCorrelation]:
    """Try every family; images of one group, or of one content, stay in one fold.

    Args:
        images: in any order; the result does not depend on it.
        looks: of the images, in their order.
        labels: the negative class, then the positive one.

    Returns:
        One reading a family; none where a class has fewer than two groups.
    """
    pairs = {image.content: (image, look) for image, look in sorted(zip(images, looks, strict=True), reverse=True)}
    rows = [pairs[content] for content in sorted(pairs)]
    truth = np.array([image.label == labels[1] for image, _ in rows])
    names = [f"c{image.content}" if image.group is None else f"g{image.group}" for image, _ in rows]
    groups = np.unique(names, return_inverse=True)[1]
    least = min(len(np.unique(groups[truth == side])) for side in (False, True))
    if least < 2:
        return []
    folds = _folds(truth, groups, min(FOLDS, least))
    found = []
    for family, (facts, table) in FAMILIES.items():
        columns = table(rows, labels)
        auc, error = _auc(_scores(columns, truth, folds), truth, groups) if columns.shape[1] else (0.5, 0.0)
        found.append(SpuriousCorrelation(family, facts, auc, max(0.0, auc - Z * error)))
    return found


def _folds(truth: NDArray[np.bool_], groups: NDArray[np.int64], count: int) -> list[Any]:
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    if len(np.unique(groups)) == len(groups):  # the other one is slow where there are many groups
        return list(StratifiedKFold(count, shuffle=True, random_state=0).split(truth[:, None], truth))
    return list(StratifiedGroupKFold(count, shuffle=True, random_state=0).split(truth[:, None], truth, groups))


def _scores(columns: NDArray[np.float64], truth: NDArray[np.bool_], folds: list[Any]) -> NDArray[np.float64]:
    """Out-of-fold probabilities of the positive class."""
    from sklearn.tree import DecisionTreeClassifier

    scores = np.full(len(truth), 0.5)
    for learn, judge in folds:
        if truth[learn].all() or not truth[learn].any():
            continue
        tree = DecisionTreeClassifier(
            max_depth=DEPTH, min_samples_leaf=max(5, len(learn) // 200), class_weight="balanced", random_state=0
        )
        scores[judge] = tree.fit(columns[learn], truth[learn]).predict_proba(columns[judge])[:, 1]
    return scores


def _auc(scores: NDArray[np.float64], truth: NDArray[np.bool_], groups: NDArray[np.int64]) -> tuple[float, float]:
    """The area under the ROC curve and its standard error, where images of one group are not independent.

    Obuchowski 1997, "Nonparametric analysis of clustered ROC curve data"; with a group an image it is DeLong's. As that
    error goes to nothing where the classes are told apart without fault, it is never taken for smaller than the error
    of guessing with as many groups, sqrt((m + n + 1) / 12mn).
    """
    positive, negative = np.sort(scores[truth]), np.sort(scores[~truth])
    # For each image, the share of the other class that it is rightly ranked against.
    placed = np.empty(len(scores))
    placed[truth] = _below(negative, scores[truth])
    placed[~truth] = 1 - _below(positive, scores[~truth])
    auc = float(placed[truth].mean())
    centred = placed - auc
    sums = [np.bincount(groups[side], centred[side], groups.max() + 1) for side in (truth, ~truth)]
    sizes = [int(side.sum()) for side in (truth, ~truth)]
    counts = [len(np.unique(groups[side])) for side in (truth, ~truth)]
    both = len(np.unique(groups))
    own = sum(
        count / (count - 1) * float((part**2).sum()) / size**2
        for part, size, count in zip(sums, sizes, counts, strict=True)
    )
    shared = 2 * both / (both - 1) * float((sums[0] * sums[1]).sum()) / (sizes[0] * sizes[1])
    guessing = (sum(counts) + 1) / (12 * counts[0] * counts[1])
    return auc, math.sqrt(max(own + shared, guessing))


def _below(ordered: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Which share of `ordered` is less than each value; equal ones count half."""
    left, right = (np.searchsorted(ordered, values, side) for side in ("left", "right"))
    return np.asarray((left + right) / (2 * len(ordered)))


Row = tuple[ImageRecord, ImageStatistics]
Table = Callable[[Sequence[Row], tuple[str, str]], NDArray[np.float64]]


def _numbers(of: Callable[[ImageRecord, ImageStatistics], Sequence[float]]) -> Table:
    def table(rows: Sequence[Row], labels: tuple[str, str]) -> NDArray[np.float64]:
        return np.array([of(*row) for row in rows], np.float64)

    return table


def _words(of: Callable[[ImageRecord, ImageStatistics, tuple[str, str]], Sequence[str]]) -> Table:
    """One column for each frequent word: whether it is there."""

    def table(rows: Sequence[Row], labels: tuple[str, str]) -> NDArray[np.float64]:
        sets = [set(of(image, look, labels)) for image, look in rows]
        counts = Counter(word for words in sets for word in words)
        known = sorted(counts, key=lambda word: (-counts[word], word))[:VALUES]
        known = [word for word in known if counts[word] < len(rows)]
        return np.array([[word in words for word in known] for words in sets], np.float64).reshape(len(rows), -1)

    return table


def _name_words(image: ImageRecord, _: ImageStatistics, labels: tuple[str, str]) -> list[str]:
    """The words of the file's own name: without folders, numbers and what is part of a class's name.

    People sort images into a folder a class and number them there, so numbers and class names tell nothing but that.
    """
    path = PurePosixPath(image.key)
    classes = {word for label in labels for word in _split(label)}
    words = [word for word in _split(path.stem) if not any(word in name or name in word for name in classes)]
    return [*words, path.suffix.casefold()]


def _split(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]{2,}", text.casefold())


FAMILIES: dict[str, tuple[str, Table]] = {
    "size": (
        "width, height, proportions",
        _numbers(lambda image, _: (image.width, image.height, image.width / image.height, image.width * image.height)),
    ),
    "bytes": (
        "bytes of the file, bytes a pixel",
        _numbers(lambda image, _: (image.bytes, image.bytes / (image.width * image.height))),
    ),
    "format": (
        "file format and colour mode",
        _words(lambda image, _, __: (f"format {image.format}", f"mode {image.mode}")),
    ),
    "name": ("words of the file's own name", _words(_name_words)),
    "exif": (
        "EXIF: make, model, software, orientation, whether there is a date",
        _words(lambda _, look, __: tuple(part for part in look.exif.split("|") if part)),
    ),
    "brightness": (
        "mean brightness and mean colour",
        _numbers(lambda _, look: (look.brightness, look.red, look.green, look.blue)),
    ),
}
