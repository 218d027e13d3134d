"""Where the line is drawn: in come the validation images' targets and probabilities, out goes one threshold.

An image is called positive when its probability is at or above the threshold.

Candidates. Between any two neighbouring distinct probabilities a < b lies one candidate, their midpoint (b itself
where no number fits between them). To these come 0, which calls every image positive, and the midpoint of the highest
probability and 1, which calls none positive (left out if that probability is 1 already). Every way of splitting the
images by their probability is thus tried exactly once, and no candidate touches an image's probability, so that the
last digit of an arithmetic unit decides nothing.

Ties. Of equally good candidates the lowest is taken: it misses the fewest images of the positive class. The order of
the images plays no part.
"""

from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twofold.curves import checked, sweep
from twofold.errors import DataError, ParameterError

SCHEMA_VERSION = 1
DECISION = "decision.json"
Policy = Literal["max_accuracy", "max_f1", "precision_at_recall"]


def choose(policy: Policy, target: ArrayLike, probability: ArrayLike, recall_at_least: float) -> float:
    """The threshold, in 0..1, that is best by the policy.

    Args:
        policy: `max_accuracy` takes the most images right; `max_f1` the highest F1; `precision_at_recall` the highest
            precision among the candidates whose recall is at least `recall_at_least`.
        target: (N,) 0 or 1.
        probability: (N,) of the positive class.
        recall_at_least: 0..1; read by `precision_at_recall` only. A candidate that calls nothing positive has no
            precision and is not taken, however low the recall asked for.

    Raises:
        DataError: a class is missing, or values that cannot be scored.
        ParameterError: an unknown policy.
    """
    targets, probabilities = checked(target, probability)
    positives = int(targets.sum())
    negatives = len(targets) - positives
    if not positives or not negatives:
        raise DataError(
            f"threshold: the validation images must hold both classes, found {positives} positive and "
            f"{negatives} negative; enlarge the validation split in preprocess"
        )
    counts = sweep(targets, probabilities)
    thresholds = candidates(counts.probability)
    hits, alarms = counts.true_positive, counts.false_positive
    if len(thresholds) > len(hits):
        hits, alarms = np.append(0, hits), np.append(0, alarms)
    called = hits + alarms
    # Quotients of whole numbers: IEEE division rounds equal ratios to equal floats, so that == finds every tie.
    if policy == "max_accuracy":
        worth = (hits + negatives - alarms) / len(targets)
    elif policy == "max_f1":
        worth = 2 * hits / (positives + called)
    elif policy == "precision_at_recall":
        # A candidate that calls nothing counts as 0, which the share of positives in all images always beats.
        worth = np.where(hits / positives >= recall_at_least, hits / np.maximum(called, 1), -1.0)
    else:
        raise ParameterError(f"policy: found {policy!r}; allowed: max_accuracy, max_f1, precision_at_recall")
    return float(thresholds[np.flatnonzero(worth == worth.max())[-1]])


def candidates(probability: NDArray[np.float64]) -> NDArray[np.float64]:
    """The thresholds to try, falling, for distinct probabilities that fall (see the module's first lines)."""
    upper, lower = probability[:-1], probability[1:]
    middle = upper / 2 + lower / 2
    between = np.where((lower < middle) & (middle <= upper), middle, upper)
    top = float(probability[0] / 2 + 0.5)
    above = [top] if top > probability[0] else []
    return np.concatenate([above, between, [0.0]])


def explain(decision: Mapping[str, Any]) -> str:
    """In words, by what rule the threshold of a decision.json was chosen."""
    positive = decision["positive"]
    if decision["policy"] == "max_accuracy":
        return "the one that gets the most images right"
    if decision["policy"] == "max_f1":
        return f"the one with the best balance (F1) between finding {positive} images and raising false alarms"
    least = decision["recall_at_least"]
    return (
        f"the one whose {positive} answers are most often right, among those that find at least {100 * least:g} % of "
        f"the {positive} images"
    )
