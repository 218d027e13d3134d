"""Logistic regression that does not copy its features.

Takes features in one or several arrays, targets and weights; returns coefficients on the standardised features. It is
scikit-learn's `LogisticRegression(C=…)` on the output of `StandardScaler`: the same problem, solver (L-BFGS-B),
tolerances and result. Those two need a second array of features, as much memory as a whole training; here one block at
a time is standardised.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from twofold.core.errors import TrainingError
from twofold.core.progress import say

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
MAX_STEPS = 1000
# scikit-learn's gtol, ftol and maxls.
TOLERANCE, PRECISION, LINE_SEARCHES = 1e-4, 64 * np.finfo(np.float64).eps, 50
_BLOCK = 512  # rows at a time: 4 MB for 2,048 features


class LogisticModel(NamedTuple):
    """A fitted model: standardised features z have the log odds `z @ coefficients + intercept`; coefficients: (F,)."""

    coefficients: Doubles
    intercept: float


class StandardizedFeatures:
    """Features with mean 0 and standard deviation 1 in every column, block by block; a constant column becomes 0.

    `rows`, `width`: N and F.

    Args:
        parts: arrays (n, F), together N rows.

    Raises:
        TrainingError: a feature is not finite.
    """

    def __init__(self, parts: Sequence[Floats]) -> None:
        self._blocks = [part[start : start + _BLOCK] for part in parts for start in range(0, len(part), _BLOCK)]
        self.rows, self.width = sum(map(len, parts)), parts[0].shape[1]
        not_finite = sum(int((~np.isfinite(block).all(axis=1)).sum()) for block in self._blocks)
        if not_finite:
            raise TrainingError(f"the base's features of {not_finite} of {self.rows} images are not finite numbers")
        total, squares = np.zeros(self.width), np.zeros(self.width)
        for block in self._blocks:
            total += block.sum(axis=0, dtype=np.float64)
        mean = total / self.rows
        self._mean, self._scale = mean.astype(np.float32), np.ones(self.width, np.float32)
        for _, block in self:  # centred, and not yet scaled
            squares += np.square(block, dtype=np.float64).sum(axis=0)
        deviation = np.sqrt(squares / self.rows)
        # Rounding gives a constant column a small deviation.
        deviation[deviation <= np.finfo(np.float32).eps * np.abs(mean)] = np.inf
        self._scale = (1 / deviation).astype(np.float32)

    def __iter__(self) -> Iterator[tuple[slice, Floats]]:
        """Blocks of (rows, their features (n, F)); the next block overwrites the features."""
        buffer = np.empty((_BLOCK, self.width), np.float32)
        start = 0
        for block in self._blocks:
            scaled = np.subtract(block, self._mean, out=buffer[: len(block)])
            scaled *= self._scale
            yield slice(start, start + len(block)), scaled
            start += len(block)


def fit_logistic_regression(
    features: StandardizedFeatures, target: npt.NDArray[np.int64], weight: Doubles, strength: float
) -> LogisticModel:
    """Coefficients w and intercept b that minimise sum(weight * log loss) + |w|² / (2 * strength).

    If the optimiser stops before it converges, this is reported and its last result returned.

    Args:
        target, weight: (N,) 0 or 1, and the weight of each row; 0 leaves it out.
        strength: C, above 0.
    """
    from scipy.optimize import minimize

    # Divided by the sum of the weights, as in scikit-learn, so that the tolerances have the same meaning.
    share, penalty = weight / weight.sum(), 1 / (strength * weight.sum())

    def loss(point: Doubles) -> tuple[float, Doubles]:
        coefficients, slope = point[:-1].astype(np.float32), np.zeros(features.width)
        total = intercept_slope = 0.0
        for rows, block in features:
            log_odds = (block @ coefficients).astype(np.float64) + point[-1]
            truth, weights = target[rows], share[rows]
            total += float(weights @ (np.logaddexp(0, log_odds) - truth * log_odds))
            residual = weights * (sigmoid(log_odds) - truth)
            slope += block.T @ residual.astype(np.float32)
            intercept_slope += float(residual.sum())
        gradient = np.append(slope + penalty * point[:-1], intercept_slope)
        return total + 0.5 * penalty * float(point[:-1] @ point[:-1]), gradient

    options = {"maxiter": MAX_STEPS, "maxls": LINE_SEARCHES, "gtol": TOLERANCE, "ftol": PRECISION}
    found = minimize(loss, np.zeros(features.width + 1), jac=True, method="L-BFGS-B", options=options)
    if not found.success:
        say(f"logistic regression: stopped after {found.nit} steps without convergence: {found.message}")
    return LogisticModel(found.x[:-1], float(found.x[-1]))


def log_odds(regression: LogisticModel, features: StandardizedFeatures) -> Doubles:
    """Log odds (N,) of the positive class."""
    coefficients = regression.coefficients.astype(np.float32)
    return np.concatenate([(block @ coefficients).astype(np.float64) for _, block in features]) + regression.intercept


def sigmoid(log_odds: Doubles) -> Doubles:
    """Probabilities, 0 to 1, from log odds of any shape."""
    from scipy.special import expit

    return np.asarray(expit(log_odds))
