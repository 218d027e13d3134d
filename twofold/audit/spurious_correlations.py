"""Detects spurious correlations: labels that file metadata or mean brightness alone predict.

Takes images with their labels and statistics; returns for each family of features the ROC-AUC of a small decision tree
on images that it was not trained on.

A model trained on such data may learn the camera, the program that saved the files, or the lamp, and score well on
test images that share the bias.
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
DEPTH = 4  # of the tree: sixteen leaves, enough for one or two thresholds, too few to memorise images
VALUES = 30  # most frequent words that are used as features
CONFIDENCE, Z = "99.9 %", 3.09  # one-sided and strict, because six families are tested
# An AUC below 0.55 is hardly useful to a model compared with the pixels. Without a margin, clean data with many images
# would be reported for real but useless differences.
MARGIN = 0.05
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]
Features = tuple[float, ...] | set[str]  # of one image: numbers, or words


class SpuriousCorrelation(NamedTuple):
    """How well one family of features predicts the label."""

    family: str
    facts: str  # the features, for people
    auc: float  # area under the ROC curve of out-of-fold scores; 0.5 is chance
    bound: float  # lower bound of the AUC, with a confidence of 99.9 %

    @property
    def is_significant(self) -> bool:
        """Whether it beats chance by more than the margin."""
        return self.bound > 0.5 + MARGIN

    @property
    def description(self) -> str:
        return f"{self.family} alone ({self.facts}): ROC-AUC {self.auc:.2f}, at least {self.bound:.2f}"


def find_spurious_correlations(
    images: Sequence[ImageRecord], statistics: Sequence[ImageStatistics], labels: tuple[str, str]
) -> list[SpuriousCorrelation]:
    """Test every family; images of one group, or with the same pixels, stay in one fold.

    Args:
        images: in any order, which does not affect the result.
        statistics: of the images, in their order.
        labels: the negative class, then the positive one.

    Returns:
        One result for each family; empty if a class has fewer than two groups.
    """
    pairs = {image.content: (image, row) for image, row in sorted(zip(images, statistics, strict=True), reverse=True)}
    rows = [pairs[content] for content in sorted(pairs)]
    truth = np.array([image.label == labels[1] for image, _ in rows])
    names = [f"c{image.content}" if image.group is None else f"g{image.group}" for image, _ in rows]
    groups = np.unique(names, return_inverse=True)[1]
    least = min(len(np.unique(groups[truth == side])) for side in (False, True))
    if least < 2:
        return []
    folds = _assign_folds(truth, groups, min(FOLDS, least))
    results = []
    for family, (facts, features) in FAMILIES.items():
        columns = _to_columns([features(image, row, labels) for image, row in rows])
        auc, error = 0.5, 0.0
        if columns.shape[1]:
            auc, error = _auc(_out_of_fold_scores(columns, truth, folds), truth, groups)
        results.append(SpuriousCorrelation(family, facts, auc, max(0.0, auc - Z * error)))
    return results


def _assign_folds(truth: Bools, groups: NDArray[np.int64], count: int) -> list[Any]:
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    if len(np.unique(groups)) == len(groups):  # StratifiedGroupKFold is slow with many groups
        return list(StratifiedKFold(count, shuffle=True, random_state=0).split(truth[:, None], truth))
    return list(StratifiedGroupKFold(count, shuffle=True, random_state=0).split(truth[:, None], truth, groups))


def _out_of_fold_scores(columns: Floats, truth: Bools, folds: list[Any]) -> Floats:
    """Out-of-fold probabilities of the positive class."""
    from sklearn.tree import DecisionTreeClassifier

    scores = np.full(len(truth), 0.5)
    for train, test in folds:
        if truth[train].all() or not truth[train].any():
            continue
        tree = DecisionTreeClassifier(
            max_depth=DEPTH, min_samples_leaf=max(5, len(train) // 200), class_weight="balanced", random_state=0
        )
        scores[test] = tree.fit(columns[train], truth[train]).predict_proba(columns[test])[:, 1]
    return scores


def _auc(scores: Floats, truth: Bools, groups: NDArray[np.int64]) -> tuple[float, float]:
    """The area under the ROC curve and its standard error, with groups as clusters.

    Obuchowski 1997, "Nonparametric analysis of clustered ROC curve data"; if every image is its own group, this is
    DeLong's error. It becomes 0 for perfectly separated classes, so its minimum is the error of a random score with as
    many groups, sqrt((m + n + 1) / 12mn).
    """
    positive, negative = np.sort(scores[truth]), np.sort(scores[~truth])
    # For each image, the fraction of the other class that it is correctly ranked against.
    ranked = np.empty(len(scores))
    ranked[truth] = _fraction_below(negative, scores[truth])
    ranked[~truth] = 1 - _fraction_below(positive, scores[~truth])
    auc = float(ranked[truth].mean())
    centred = ranked - auc
    sums = [np.bincount(groups[side], centred[side], groups.max() + 1) for side in (truth, ~truth)]
    sizes = [int(side.sum()) for side in (truth, ~truth)]
    counts = [len(np.unique(groups[side])) for side in (truth, ~truth)]
    both = len(np.unique(groups))
    sides = zip(sums, sizes, counts, strict=True)
    own = sum(count / (count - 1) * float((part**2).sum()) / size**2 for part, size, count in sides)
    shared = 2 * both / (both - 1) * float((sums[0] * sums[1]).sum()) / (sizes[0] * sizes[1])
    random = (sum(counts) + 1) / (12 * counts[0] * counts[1])
    return auc, math.sqrt(max(own + shared, random))


def _fraction_below(ordered: Floats, values: Floats) -> Floats:
    """The fraction of `ordered` that is less than each value; equal values count half."""
    left, right = (np.searchsorted(ordered, values, side) for side in ("left", "right"))
    return np.asarray((left + right) / (2 * len(ordered)))


def _to_columns(features: Sequence[Features]) -> Floats:
    """(N, F) from the features of N images; for words, one column for each frequent word, 1 where it occurs."""
    sets = [words for words in features if isinstance(words, set)]
    if not sets:
        return np.array(features, np.float64)
    counts = Counter(word for words in sets for word in words)
    frequent = sorted(counts, key=lambda word: (-counts[word], word))[:VALUES]
    frequent = [word for word in frequent if counts[word] < len(sets)]
    return np.array([[word in words for word in frequent] for words in sets], np.float64).reshape(len(sets), -1)


def _name_words(image: ImageRecord, labels: tuple[str, str]) -> set[str]:
    """The words of the file name without folders, numbers and parts of the class names, and the extension.

    Folders, numbers and class names only repeat the label: people sort images into class folders and number them.
    """
    path = PurePosixPath(image.key)
    classes = {word for label in labels for word in _split_words(label)}
    words = [word for word in _split_words(path.stem) if not any(word in name or name in word for name in classes)]
    return {*words, path.suffix.casefold()}


def _split_words(text: str) -> list[str]:
    return re.findall(r"[^\W\d_]{2,}", text.casefold())


# Family -> its features for people, and the function that computes them for one image.
FAMILIES: dict[str, tuple[str, Callable[[ImageRecord, ImageStatistics, tuple[str, str]], Features]]] = {
    "size": (
        "width, height, proportions",
        lambda image, *_: (image.width, image.height, image.width / image.height, image.width * image.height),
    ),
    "bytes": (
        "bytes of the file, bytes a pixel",
        lambda image, *_: (image.bytes, image.bytes / (image.width * image.height)),
    ),
    "format": ("file format and colour mode", lambda image, *_: {f"format {image.format}", f"mode {image.mode}"}),
    "name": ("words of the file's own name", lambda image, _, labels: _name_words(image, labels)),
    "exif": (
        "EXIF: make, model, software, orientation, whether there is a date",
        lambda _, row, __: set(filter(None, row.exif.split("|"))),
    ),
    "brightness": (
        "mean brightness and mean colour",
        lambda _, row, __: (row.brightness, row.red, row.green, row.blue),
    ),
}
