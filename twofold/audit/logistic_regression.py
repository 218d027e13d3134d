"""Logistic regression on features that are held once.

In: features in one or several arrays, as they are; targets and weights. Out: coefficients on the standardised
features. It is scikit-learn's `LogisticRegression(C=…)` on its `StandardScaler`'s output: the same problem, solver
(L-BFGS-B) and tolerances, and by tests/unit/audit/test_logistic_regression.py the same answer. Those two want the features in one more
array, which is as much as all that a training holds; here a block is standardised when its turn comes.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from twofold.core.errors import TrainingError
from twofold.core.progress import say

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
MOST_STEPS = 1000
TOLERANCE, PRECISION, TRIES = 1e-4, 64 * np.finfo(np.float64).eps, 50  # scikit-learn's
_BLOCK = 512  # rows at a time: of 2,048 features, 4 MB


class LogisticModel(NamedTuple):
    """What was learnt: standardised features z have the log odds `z @ coefficients + intercept`; (F,) and a number."""

    coefficients: Doubles
    intercept: float


class StandardizedFeatures:
    """Features of mean 0 and deviation 1 in every column, a block at a time; a column that never changes is 0.

    `rows`, `width`: N and F.

    Args:
        parts: arrays (n, F), whose rows follow each other; N together.

    Raises:
        TrainingError: a feature is not finite.
    """

    def __init__(self, parts: Sequence[Floats]) -> None:
        self._blocks = [part[start : start + _BLOCK] for part in parts for start in range(0, len(part), _BLOCK)]
        self.rows, self.width = sum(map(len, parts)), parts[0].shape[1]
        odd = sum(int((~np.isfinite(block).all(axis=1)).sum()) for block in self._blocks)
        if odd:
            raise TrainingError(f"the base's features of {odd} of {self.rows} images are not finite numbers")
        total, squares = np.zeros(self.width), np.zeros(self.width)
        for block in self._blocks:
            total += block.sum(axis=0, dtype=np.float64)
        mean = total / self.rows
        self._mean, self._per_deviation = mean.astype(np.float32), np.ones(self.width, np.float32)
        for _, block in self:  # less its mean, and not yet divided
            squares += np.square(block, dtype=np.float64).sum(axis=0)
        deviation = np.sqrt(squares / self.rows)
        # What rounding leaves of a constant is no deviation.
        flat = deviation <= np.finfo(np.float32).eps * np.abs(mean)
        deviation[flat] = np.inf
        self._per_deviation = (1 / deviation).astype(np.float32)

    def __iter__(self) -> Iterator[tuple[slice, Floats]]:
        """(rows, their features (n, F)), block after block; the next one overwrites them."""
        room = np.empty((_BLOCK, self.width), np.float32)
        start = 0
        for block in self._blocks:
            here = np.subtract(block, self._mean, out=room[: len(block)])
            here *= self._per_deviation
            yield slice(start, start + len(block)), here
            start += len(block)


def fit_logistic_regression(
    features: StandardizedFeatures, target: npt.NDArray[np.int64], weight: Doubles, strength: float
) -> LogisticModel:
    """The coefficients w and intercept b of the least sum(weight * log loss) + |w|² / (2 * strength).

    A search that ends before its tolerance is reached is said, and gives what it came to.

    Args:
        features: of N rows.
        target: (N,) 0 or 1.
        weight: (N,) of each row; 0 leaves it out.
        strength: C, above 0.
    """
    from scipy.optimize import minimize

    # Scaled to a mean, as scikit-learn does, so that the tolerances mean the same.
    share, penalty = weight / weight.sum(), 1 / (strength * weight.sum())

    def loss(point: Doubles) -> tuple[float, Doubles]:
        coefficients, slope = point[:-1].astype(np.float32), np.zeros(features.width)
        total = rest = 0.0
        for rows, block in features:
            log_odds = (block @ coefficients).astype(np.float64) + point[-1]
            truth, counts = target[rows], share[rows]
            total += float(counts @ (np.logaddexp(0, log_odds) - truth * log_odds))
            wrong = counts * (sigmoid(log_odds) - truth)
            slope += block.T @ wrong.astype(np.float32)
            rest += float(wrong.sum())
        gradient = np.append(slope + penalty * point[:-1], rest)
        return total + 0.5 * penalty * float(point[:-1] @ point[:-1]), gradient

    options = {"maxiter": MOST_STEPS, "maxls": TRIES, "gtol": TOLERANCE, "ftol": PRECISION}
    found = minimize(loss, np.zeros(features.width + 1), jac=True, method="L-BFGS-B", options=options)
    if not found.success:
        say(f"logistic regression: ended after {found.nit} steps, before its tolerance: {found.message}")
    return LogisticModel(found.x[:-1], float(found.x[-1]))


def log_odds(regression: LogisticModel, features: StandardizedFeatures) -> Doubles:
    """(N,) log odds of the positive class."""
    coefficients = regression.coefficients.astype(np.float32)
    return np.concatenate([(block @ coefficients).astype(np.float64) for _, block in features]) + regression.intercept


def sigmoid(log_odds: Doubles) -> Doubles:
    """The probabilities, 0 to 1, of log odds of any shape."""
    from scipy.special import expit

    result: Doubles = expit(log_odds)
    return result
