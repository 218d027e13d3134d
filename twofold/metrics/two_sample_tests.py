"""Whether two samples come from one distribution: in come features or scores, out come a statistic and a p-value.

Each p-value is by permutation: the statistic is computed anew for labels (old, new) that are dealt out at random, and
p is the share of deals, the real one among them, that come out at least as large. So p <= a happens by chance with a
probability of at most a, whatever the distribution and however many images and dimensions, as long as the images are
exchangeable: independent of each other and not looked at before.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

DEALS = 999  # p is never below 1 / (DEALS + 1)
FOLDS = 5
# Of the ridge, in units of a standardised image's mean squared length per dimension: half of the variance is noise.
PENALTY = 1.0
BINS = 10
_EMPTY = 0.5  # images that every bin is given, so that no share is 0


class TestResult(NamedTuple):
    """A statistic and its p-value."""

    statistic: float
    p: float


def classifier_test(old: NDArray[np.floating], new: NDArray[np.floating], random: np.random.Generator) -> TestResult:
    """Lopez-Paz & Oquab 2017, "Revisiting classifier two-sample tests": can a classifier tell old from new?

    The classifier is ridge regression of the label (old, new), on features that are standardised over both samples;
    each image is scored by one that has not seen it (5 folds). The statistic is the area under the ROC curve of these
    scores, 0.5 for samples that cannot be told apart; the paper takes the accuracy, which depends on how many images
    of each there are.

    Args:
        old, new: (n, F) and (m, F).
        random: deals out folds and labels.
    """
    values = np.concatenate([old, new]).astype(np.float64)
    values -= values.mean(axis=0)
    spread = values.std(axis=0)
    values = values[:, spread > 0] / spread[spread > 0]
    if not values.shape[1]:
        return TestResult(0.5, 1.0)
    labels = _deals(len(old), len(new), random)
    folds = random.permutation(len(values)) % FOLDS
    kernel = values @ values.T / values.shape[1]
    scores = np.empty(labels.shape)
    for fold in range(FOLDS):
        learn, judge = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        told = labels[learn].astype(np.float64)
        centred = told - told.mean(axis=0)
        weights = np.linalg.solve(kernel[np.ix_(learn, learn)] + PENALTY * np.eye(len(learn)), centred)
        scores[judge] = kernel[np.ix_(judge, learn)] @ weights + told.mean(axis=0)
    return _compared(_areas(scores, labels))


def psi_test(old: NDArray[np.floating], new: NDArray[np.floating], random: np.random.Generator) -> TestResult:
    """The population stability index of two samples of scores, (n,) and (m,)."""
    values = np.concatenate([old, new]).astype(np.float64)
    labels = _deals(len(old), len(new), random)
    return _compared(np.array([psi(values[~deal], values[deal]) for deal in labels.T]))


def psi(old: NDArray[np.floating], new: NDArray[np.floating]) -> float:
    """Sum over bins of (new - old) ln(new / old), shares of images; the bins are tenths of the old sample.

    By custom, below 0.1 is no shift and above 0.25 a large one. Equal scores share a bin, so there may be fewer.
    """
    edges = np.unique(np.quantile(old, np.arange(1, BINS) / BINS))
    counts = [np.bincount(np.searchsorted(edges, side, side="right"), minlength=len(edges) + 1) for side in (old, new)]
    shares = [(count + _EMPTY) / (count.sum() + _EMPTY * len(count)) for count in counts]
    return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())


def _deals(old: int, new: int, random: np.random.Generator) -> NDArray[np.bool_]:
    """(n + m, 1 + DEALS) labels, True for new; the first column is the real one."""
    real = np.arange(old + new) >= old
    dealt = random.permuted(np.repeat(real[:, None], DEALS, axis=1), axis=0)
    return np.concatenate([real[:, None], dealt], axis=1)


def _areas(scores: NDArray[np.float64], labels: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The area under the ROC curve of each column; equal scores count half."""
    from scipy.stats import rankdata

    positive = labels[:, 0].sum()
    negative = len(labels) - positive
    ranks = (rankdata(scores, axis=0) * labels).sum(axis=0)
    return np.asarray((ranks - positive * (positive + 1) / 2) / (positive * negative))


def _compared(statistics: NDArray[np.float64]) -> TestResult:
    # The last digits of equal statistics may differ: then they count as equal, against finding anything.
    real = statistics[0]
    return TestResult(float(real), float((statistics >= real - 1e-12).mean()))
