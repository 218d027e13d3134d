"""A slider for the threshold: in come a test's predictions, out go the confusion matrices that it moves through.

Every stop of the slider is another way to split the test images by their probability, and the chosen threshold is one
of them; so a step moves at least one image to the other side, and what is shown was counted here: the page's script
only looks it up. Its section is `threshold_slider.html`, its script SCRIPT. Where scripts do not run, the figures at the chosen
threshold stand there alone.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from twofold.metrics.classification import ConfusionMatrix, confusion_matrix
from twofold.metrics.curves import threshold_sweep
from twofold.metrics.decision_threshold import candidate_thresholds

# Key, title, and the images that count as hits among how many.
RATES: tuple[tuple[str, str, Callable[[ConfusionMatrix], tuple[int, int]]], ...] = (
    ("accuracy", "Accuracy", lambda c: (c.correct, c.n)),
    ("recall", "Recall (found)", lambda c: (c.true_positive, c.positive)),
    ("specificity", "Specificity (rightly passed)", lambda c: (c.true_negative, c.negative)),
    ("precision", "Precision (right when it says so)", lambda c: (c.true_positive, c.called)),
    ("f1", "F1", lambda c: (2 * c.true_positive, c.positive + c.called)),
)

SCRIPT = "slider.js"
MOST = 1000  # stops; of more, as many are kept that lie evenly


class Stop(NamedTuple):
    """What would be answered at a threshold: images rightly and wrongly called positive."""

    threshold: float
    true_positive: int
    false_positive: int


def stops(target: NDArray[np.int64], probability: NDArray[np.float64], chosen: float, most: int = MOST) -> list[Stop]:
    """The stops in order of rising threshold, from all images called positive to none; `chosen` is among them.

    Where a probability is exactly 1, no threshold calls no image positive.
    """
    counts = threshold_sweep(target, probability)
    thresholds = candidate_thresholds(counts.probability)
    hits, alarms = counts.true_positive, counts.false_positive
    if len(thresholds) > len(hits):
        hits, alarms = np.append(0, hits), np.append(0, alarms)
    kept = np.arange(len(thresholds))
    if len(kept) > most - 1:
        kept = np.linspace(0, len(kept) - 1, most - 1).astype(np.int64)
    found = {float(thresholds[i]): Stop(float(thresholds[i]), int(hits[i]), int(alarms[i])) for i in kept}
    own = confusion_matrix(target, probability, chosen)
    found[chosen] = Stop(chosen, own.true_positive, own.false_positive)
    return [found[threshold] for threshold in sorted(found)]


def context(target: NDArray[np.int64], probability: NDArray[np.float64], chosen: float) -> dict[str, Any]:
    """The values of `threshold_slider.html`, beside `positive` and `negative`, the names of the classes."""
    every = stops(target, probability, chosen)
    counts = confusion_matrix(target, probability, chosen)
    place = [stop.threshold for stop in every].index(chosen)
    return {
        "counts": counts,
        "last": len(every) - 1,
        "place": place,
        "chosen": chosen,
        "rates": [(key, title, *share(counts)) for key, title, share in RATES],
        "stops": _data(every, place, counts),
    }


def _data(every: Sequence[Stop], place: int, counts: ConfusionMatrix) -> Markup:
    # Numbers alone, so that there is nothing in it that could end the element.
    values = {"positive": counts.positive, "negative": counts.negative, "chosen": place, "stops": every}
    return Markup(json.dumps(values, separators=(",", ":"), allow_nan=False))  # noqa: S704
