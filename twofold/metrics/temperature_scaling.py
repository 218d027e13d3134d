"""Temperature scaling: in come a model's probabilities and what was true, out goes the number that makes them honest.

    calibrated = sigmoid(logit(probability) / temperature)

where `probability` is the mean over an image's views. Above 1 the model becomes less sure of itself, below 1 surer.
One number, fitted on validation by log loss, repairs most of what is wrong with a network's certainty (Guo et al. 2017,
"On calibration of modern neural networks"), and of two images the one with the higher probability stays ahead.

A sealed model carries a copy of this file.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

# Where a threshold takes the validation images apart without an error, being surer is always better, and the best
# temperature would be 0. At a half, probabilities up to 1 - 1e-8 keep their ranks; below it, ever more would become 1.
LEAST, MOST = 0.5, 10.0
WHY = {
    LEAST: "a threshold takes the validation images apart so well that they do not say how sure the model may be",
    MOST: "the model's probabilities say next to nothing of the validation images",
}
DIGITS = 4  # of a temperature; the next ones depend on the processor
_HALVINGS = 60


def fit_temperature(target: ArrayLike, probability: ArrayLike) -> float:
    """The temperature, LEAST to MOST and rounded to DIGITS, at which the log loss is least.

    The log loss is convex in 1 / temperature, so its slope is halved down to its only zero, from the same start in the
    same number of steps each time. A slope without a zero between the bounds gives the nearer bound. Probabilities are
    held 2^-52 away from 0 and 1, as in the log loss.

    Args:
        target: (N,) 0 or 1.
        probability: (N,) of the positive class, 0..1.
    """
    held = np.clip(np.asarray(probability, np.float64), np.finfo(np.float64).eps, 1 - np.finfo(np.float64).eps)
    # How far each image lies on its right side.
    margin = np.where(np.asarray(target) == 1, 1.0, -1.0) * _logit(held)
    if not margin.any():
        return 1.0  # the model says 0.5 of everything, at any temperature

    def slope(inverse: float) -> float:
        return float(-(margin * _sigmoid(-inverse * margin)).sum())

    low, high = 1 / MOST, 1 / LEAST
    if slope(low) >= 0:
        return MOST
    if slope(high) <= 0:
        return LEAST
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return round(2 / (low + high), DIGITS)


def apply_temperature(probability: ArrayLike, temperature: float) -> NDArray[np.float64]:
    """Probabilities at a temperature; at 1 they are what they were, bit for bit. 0 and 1 stay 0 and 1."""
    given = np.array(probability, np.float64)
    return given if temperature == 1 else _sigmoid(_logit(given) / temperature)


def _logit(probability: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(divide="ignore"):
        return np.log(probability) - np.log1p(-probability)


def _sigmoid(logit: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + np.exp(-logit)), np.float64)
