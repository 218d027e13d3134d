"""The slider of the decision threshold: takes the predictions of a test, returns the confusion matrix at every stop.

Every stop splits the test images in another way, and the chosen threshold is one of the stops. All counts are made
here; the page's script only looks them up. The section is `threshold_slider.html`, its script SCRIPT. Without scripts,
the page shows the metrics at the chosen threshold.
"""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from twofold.evaluation.robustness import evenly_spaced
from twofold.metrics.classification import ConfusionMatrix, confusion_matrix
from twofold.metrics.curves import threshold_sweep
from twofold.metrics.decision_threshold import candidate_thresholds

# Key, title, and (hits, images) of a confusion matrix.
RATES: tuple[tuple[str, str, Callable[[ConfusionMatrix], tuple[int, int]]], ...] = (
    ("accuracy", "Accuracy", lambda c: (c.correct, c.n)),
    ("recall", "Recall (found)", lambda c: (c.true_positive, c.positive)),
    ("specificity", "Specificity (correctly passed)", lambda c: (c.true_negative, c.negative)),
    ("precision", "Precision (correct when it says so)", lambda c: (c.true_positive, c.called)),
    ("f1", "F1", lambda c: (2 * c.true_positive, c.positive + c.called)),
)

SCRIPT = "slider.js"
MOST = 1000  # stops; from more than that, evenly spaced ones are kept


class Stop(NamedTuple):
    """A threshold, and the images correctly and wrongly called positive at it."""

    threshold: float
    true_positive: int
    false_positive: int


def stops(target: NDArray[np.int64], probability: NDArray[np.float64], chosen: float, most: int = MOST) -> list[Stop]:
    """The stops by rising threshold, from all images called positive to none, including `chosen`.

    If a probability is exactly 1, every threshold calls an image positive, and the last stop is missing.
    """
    counts = threshold_sweep(target, probability)
    thresholds = candidate_thresholds(counts.probability)
    hits, alarms = counts.true_positive, counts.false_positive
    if len(thresholds) > len(hits):
        hits, alarms = np.append(0, hits), np.append(0, alarms)
    rows = evenly_spaced(len(thresholds), most - 1)
    found = {float(thresholds[row]): Stop(float(thresholds[row]), int(hits[row]), int(alarms[row])) for row in rows}
    own = confusion_matrix(target, probability, chosen)
    found[chosen] = Stop(chosen, own.true_positive, own.false_positive)
    return [found[threshold] for threshold in sorted(found)]


def context(target: NDArray[np.int64], probability: NDArray[np.float64], chosen: float) -> dict[str, Any]:
    """The values of `threshold_slider.html`, besides `positive` and `negative`, the names of the classes."""
    every = stops(target, probability, chosen)
    counts = confusion_matrix(target, probability, chosen)
    place = [stop.threshold for stop in every].index(chosen)
    # The JSON holds numbers and fixed keys alone, so that nothing in it can end the script element.
    data = {"positive": counts.positive, "negative": counts.negative, "chosen": place, "stops": every}
    return {
        "counts": counts,
        "last": len(every) - 1,
        "place": place,
        "chosen": chosen,
        "rates": [(key, title, *share(counts)) for key, title, share in RATES],
        "stops": Markup(json.dumps(data, separators=(",", ":"), allow_nan=False)),  # noqa: S704
    }
