"""Permutation tests whether two samples of features or scores come from one distribution.

Each test returns a statistic and its p-value: the share of random permutations of the labels (old, new), the real one
among them, whose statistic is at least as large. So p <= a happens by chance with a probability of at most a, for every
distribution and number of images and dimensions, as long as the images are exchangeable: independent of each other and
not examined before.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

DEALS = 999  # p is never below 1 / (DEALS + 1)
FOLDS = 5
# Of the ridge, in units of a standardized image's mean squared length per dimension: half of the variance is noise.
PENALTY = 1.0
BINS = 10
_SMOOTHING = 0.5  # images added to every bin, so that no share is 0


class TestResult(NamedTuple):
    """A statistic and its p-value."""

    statistic: float
    p: float


def classifier_test(old: NDArray[np.floating], new: NDArray[np.floating], random: np.random.Generator) -> TestResult:
    """Test whether a classifier can distinguish old from new images.

    Lopez-Paz & Oquab 2017, "Revisiting classifier two-sample tests". The classifier is ridge regression of the label on
    features that are standardized over both samples; its scores are out-of-fold (5 folds). The statistic is the area
    under their ROC curve, 0.5 for indistinguishable samples; the paper uses accuracy, which depends on sample sizes.

    Args:
        old, new: (n, F) and (m, F).
        random: draws the folds and the permuted labels.
    """
    values = np.concatenate([old, new]).astype(np.float64)
    values -= values.mean(axis=0)
    spread = values.std(axis=0)
    values = values[:, spread > 0] / spread[spread > 0]
    if not values.shape[1]:
        return TestResult(0.5, 1.0)
    labels = _permuted_labels(len(old), len(new), random)
    folds = random.permutation(len(values)) % FOLDS
    kernel = values @ values.T / values.shape[1]
    scores = np.empty(labels.shape)
    for fold in range(FOLDS):
        train, test = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        known = labels[train].astype(np.float64)
        mean = known.mean(axis=0)
        weights = np.linalg.solve(kernel[np.ix_(train, train)] + PENALTY * np.eye(len(train)), known - mean)
        scores[test] = kernel[np.ix_(test, train)] @ weights + mean
    return _permutation_test(_roc_areas(scores, labels))


def psi_test(old: NDArray[np.floating], new: NDArray[np.floating], random: np.random.Generator) -> TestResult:
    """The population stability index of two samples of scores, (n,) and (m,)."""
    values = np.concatenate([old, new]).astype(np.float64)
    labels = _permuted_labels(len(old), len(new), random)
    return _permutation_test(np.array([psi(values[~is_new], values[is_new]) for is_new in labels.T]))


def psi(old: NDArray[np.floating], new: NDArray[np.floating]) -> float:
    """Sum of (new - old) ln(new / old) over the shares of images in bins, which are the deciles of the old sample.

    By convention, below 0.1 is no shift and above 0.25 a large one. Ties in the scores may leave fewer bins.
    """
    edges = np.unique(np.quantile(old, np.arange(1, BINS) / BINS))
    counts = [np.bincount(np.searchsorted(edges, side, side="right"), minlength=len(edges) + 1) for side in (old, new)]
    shares = [(count + _SMOOTHING) / (count.sum() + _SMOOTHING * len(count)) for count in counts]
    return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())


def _permuted_labels(old: int, new: int, random: np.random.Generator) -> NDArray[np.bool_]:
    """(n + m, 1 + DEALS) labels, True for new; the first column is the real one."""
    real = np.arange(old + new) >= old
    permuted = random.permuted(np.repeat(real[:, None], DEALS, axis=1), axis=0)
    return np.concatenate([real[:, None], permuted], axis=1)


def _roc_areas(scores: NDArray[np.float64], labels: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The area under the ROC curve of each column; equal scores count half."""
    from scipy.stats import rankdata

    positive = labels[:, 0].sum()
    negative = len(labels) - positive
    ranks = (rankdata(scores, axis=0) * labels).sum(axis=0)
    return np.asarray((ranks - positive * (positive + 1) / 2) / (positive * negative))


def _permutation_test(statistics: NDArray[np.float64]) -> TestResult:
    # Equal statistics may differ in their last digits; counting them as equal errs towards a larger p-value.
    real = statistics[0]
    return TestResult(float(real), float((statistics >= real - 1e-12).mean()))
