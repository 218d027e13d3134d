"""Temperature scaling: fit one number on validation that calibrates a model's probabilities, and apply it.

    calibrated = sigmoid(logit(probability) / temperature)

where `probability` is the mean over an image's test-time augmentation views. A temperature above 1 makes the model less
confident, below 1 more confident. Fitting it by log loss removes most of a network's miscalibration (Guo et al. 2017,
"On calibration of modern neural networks") and keeps the order of the images.

A sealed model carries a copy of this file.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

# If a threshold separates the validation images without an error, more confidence is always better and the best
# temperature would be 0. At 0.5, probabilities up to 1 - 1e-8 keep their order; below it, ever more would round to 1.
LEAST, MOST = 0.5, 10.0
WHY = {
    LEAST: "a threshold separates the validation images so well that they do not show how confident the model may be",
    MOST: "the model's probabilities carry almost no information about the validation images",
}
DIGITS = 4  # of a temperature; further ones depend on the processor
_BISECTIONS = 60


def fit_temperature(target: ArrayLike, probability: ArrayLike) -> float:
    """The temperature, LEAST to MOST and rounded to DIGITS, with the lowest log loss.

    The log loss is convex in 1 / temperature: bisection finds the only zero of its slope, always from the same start in
    the same number of steps. If there is no zero between the bounds, the result is the nearer bound. Probabilities are
    clipped to 2^-52 from 0 and 1, as in the log loss.

    Args:
        target: (N,) 0 or 1.
        probability: (N,) of the positive class, 0..1.
    """
    clipped = np.clip(np.asarray(probability, np.float64), np.finfo(np.float64).eps, 1 - np.finfo(np.float64).eps)
    # The logit of the true class.
    margin = np.where(np.asarray(target) == 1, 1.0, -1.0) * _logit(clipped)
    if not margin.any():
        return 1.0  # every probability is 0.5, at any temperature

    def slope(inverse: float) -> float:
        return float(-(margin * _sigmoid(-inverse * margin)).sum())

    low, high = 1 / MOST, 1 / LEAST
    if slope(low) >= 0:
        return MOST
    if slope(high) <= 0:
        return LEAST
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return round(2 / (low + high), DIGITS)


def apply_temperature(probability: ArrayLike, temperature: float) -> NDArray[np.float64]:
    """Probabilities at a temperature; at 1 they stay the same to the last bit, and 0 and 1 always stay 0 and 1."""
    copied = np.array(probability, np.float64)
    return copied if temperature == 1 else _sigmoid(_logit(copied) / temperature)


def _logit(probability: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(divide="ignore"):
        return np.log(probability) - np.log1p(-probability)


def _sigmoid(logit: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(over="ignore"):
        return np.asarray(1 / (1 + np.exp(-logit)), np.float64)
