"""The slider of the decision threshold: takes the predictions of a test, returns the confusion matrix at every stop.

The stops are 0, 0.001, … 1. All counts are made here; the page's script only looks them up. The section is
`threshold_slider.html`, its script SCRIPT. Without scripts, the page shows the metrics at the chosen threshold.
"""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from twofold.metrics.classification import ConfusionMatrix, confusion_matrix

# Key, title, and (hits, images) of a confusion matrix.
RATES: tuple[tuple[str, str, Callable[[ConfusionMatrix], tuple[int, int]]], ...] = (
    ("accuracy", "Accuracy", lambda c: (c.correct, c.n)),
    ("recall", "Recall (found)", lambda c: (c.true_positive, c.positive)),
    ("specificity", "Specificity (correctly passed)", lambda c: (c.true_negative, c.negative)),
    ("precision", "Precision (correct when it says so)", lambda c: (c.true_positive, c.called)),
    ("f1", "F1", lambda c: (2 * c.true_positive, c.positive + c.called)),
)

SCRIPT = "slider.js"
STEPS = 1000  # from one stop to the next, the threshold rises by 1 / STEPS


def stops(target: NDArray[np.int64], probability: NDArray[np.float64]) -> list[tuple[int, int]]:
    """At every threshold 0, 1 / STEPS, … 1 the images correctly and wrongly called positive."""
    thresholds = np.arange(STEPS + 1) / STEPS
    missed, passed = (np.searchsorted(np.sort(probability[target == value]), thresholds) for value in (1, 0))
    return list(zip((np.sum(target == 1) - missed).tolist(), (np.sum(target == 0) - passed).tolist(), strict=True))


def context(target: NDArray[np.int64], probability: NDArray[np.float64], chosen: float) -> dict[str, Any]:
    """The values of `threshold_slider.html`, besides `positive` and `negative`, the names of the classes."""
    counts = confusion_matrix(target, probability, chosen)
    # The JSON holds numbers and fixed keys alone, so that nothing in it can end the script element.
    data = {
        "positive": counts.positive,
        "negative": counts.negative,
        "chosen": [chosen, counts.true_positive, counts.false_positive],
        "stops": stops(target, probability),
    }
    return {
        "counts": counts,
        "step": 1 / STEPS,
        "chosen": chosen,
        "rates": [(key, title, *share(counts)) for key, title, share in RATES],
        "stops": Markup(json.dumps(data, separators=(",", ":"), allow_nan=False)),  # noqa: S704
    }
