"""Choose the decision threshold by a rule, from the targets and probabilities of the validation images.

An image is called positive if its probability is at or above the threshold.

Candidates. Between two neighbouring distinct probabilities a < b the candidate is their midpoint (b itself if no
number fits between them). Two more are 0, which calls every image positive, and the midpoint of the highest probability
and 1, which calls none positive (left out if that probability is 1 already). So every split of the images by their
probability is tried exactly once, and no candidate equals an image's probability, so that rounding decides nothing.

Ties. Of equally good candidates the lowest is taken: it misses the fewest images of the positive class. The order of
the images has no influence.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Discriminator, Field, Tag

from twofold.core.errors import DataError
from twofold.core.params import Section
from twofold.metrics.curves import checked_arrays, threshold_sweep

SCHEMA_VERSION = 3
DECISION = "decision.json"
Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Cost = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]


class MaxAccuracy(Section):
    """The highest accuracy."""

    policy: Literal["max_accuracy"] = Field(description="the rule's name")


class MaxF1(Section):
    """The highest F1."""

    policy: Literal["max_f1"] = Field(description="the rule's name")


class RecallAtLeast(Section):
    """The highest precision among the candidates that reach the recall."""

    policy: Literal["recall_at_least"] = Field(description="the rule's name")
    recall: Share = Field(description="smallest share of the positive class that must be found, above 0 to 1")


class PrecisionAtLeast(Section):
    """The highest recall among the candidates that reach the precision; of equal recall, the highest precision."""

    policy: Literal["precision_at_least"] = Field(description="the rule's name")
    precision: Share = Field(description="smallest share of the positive answers that must be right, above 0 to 1")


class MinCost(Section):
    """The lowest total cost of errors."""

    policy: Literal["min_cost"] = Field(description="the rule's name")
    missed: Cost = Field(description="what a missed image of the positive class costs, in any unit, above 0 to 1e9")
    false_alarm: Cost = Field(description="what a false alarm costs, in the same unit, above 0 to 1e9")


def _policy(value: Any) -> str | None:
    policy = value.get("policy") if isinstance(value, Mapping) else getattr(value, "policy", None)
    return policy if isinstance(policy, str) else None


Rule = Annotated[
    Annotated[MaxAccuracy, Tag("max_accuracy")]
    | Annotated[MaxF1, Tag("max_f1")]
    | Annotated[RecallAtLeast, Tag("recall_at_least")]
    | Annotated[PrecisionAtLeast, Tag("precision_at_least")]
    | Annotated[MinCost, Tag("min_cost")],
    Discriminator(
        _policy,
        custom_error_type="policy",
        custom_error_message="a rule has a 'policy', one of max_accuracy, max_f1, recall_at_least (with recall), "
        "precision_at_least (with precision) and min_cost (with missed and false_alarm)",
    ),
]


def choose_threshold(rule: Rule, target: ArrayLike, probability: ArrayLike) -> float:
    """The threshold, in 0..1, that is best by the rule for targets (N,) and probabilities (N,).

    Raises:
        DataError: a class is missing, values cannot be scored, or no threshold reaches the rule's precision.
    """
    targets, probabilities = checked_arrays(target, probability)
    positives = int(targets.sum())
    negatives = len(targets) - positives
    if not positives or not negatives:
        raise DataError(
            f"threshold: the validation images must hold both classes, found {positives} positive and "
            f"{negatives} negative; enlarge the validation split in preprocess"
        )
    counts = threshold_sweep(targets, probabilities)
    thresholds = candidate_thresholds(counts.probability)
    hits, alarms = counts.true_positive, counts.false_positive
    if len(thresholds) > len(hits):
        hits, alarms = np.append(0, hits), np.append(0, alarms)
    scores = _candidate_scores(rule, hits, alarms, positives, negatives)
    return float(thresholds[np.flatnonzero(scores == scores.max())[-1]])


def _candidate_scores(
    rule: Rule, hits: NDArray[np.int64], alarms: NDArray[np.int64], positives: int, negatives: int
) -> NDArray[np.float64]:
    """The score of each candidate; -inf for one that is not allowed."""
    # Quotients of whole numbers: IEEE division rounds equal ratios to equal floats, so that == finds every tie.
    called = hits + alarms
    # Without a positive call precision counts as 0, which is always below that of calling every image positive.
    precision = hits / np.maximum(called, 1)
    if isinstance(rule, MaxAccuracy):
        return (hits + negatives - alarms) / (positives + negatives)
    if isinstance(rule, MaxF1):
        return 2 * hits / (positives + called)
    if isinstance(rule, RecallAtLeast):
        return np.where(hits / positives >= rule.recall, precision, -np.inf)
    if isinstance(rule, MinCost):
        return -(rule.missed * (positives - hits) + rule.false_alarm * alarms)
    allowed = precision >= rule.precision
    if not allowed.any():
        best = int(np.flatnonzero(precision == precision.max())[-1])
        raise DataError(
            f"evaluate.threshold: no threshold gives a precision of {rule.precision:g} on the {positives + negatives} "
            f"validation images; the highest is {precision[best]:.4f}, with a recall of {hits[best] / positives:.4f}: "
            "require at most that, or train a better model"
        )
    most = hits[allowed].max()
    return np.where(allowed & (hits == most), precision, -np.inf)


def candidate_thresholds(probability: NDArray[np.float64]) -> NDArray[np.float64]:
    """The candidate thresholds, falling, for distinct falling probabilities (see the module's docstring)."""
    upper, lower = probability[:-1], probability[1:]
    middle = upper / 2 + lower / 2
    between = np.where((lower < middle) & (middle <= upper), middle, upper)
    top = float(probability[0] / 2 + 0.5)
    return np.concatenate([[top] if top > probability[0] else [], between, [0.0]])


IN_WORDS = {
    "max_accuracy": "the one that gets the most images right",
    "max_f1": "the one with the best balance (F1) between finding {positive} images and raising false alarms",
    "recall_at_least": "the one whose {positive} answers are most often right, among those that find at least "
    "{share:g} % of the {positive} images",
    "precision_at_least": "the one that finds the most {positive} images, among those whose {positive} answers are "
    "right at least {share:g} % of the time",
    "min_cost": "the one whose errors cost least, a missed {positive} image costing {missed:g} and a false alarm "
    "{false_alarm:g}",
}


def describe_rule(decision: Mapping[str, Any]) -> str:
    """The rule by which the threshold of a decision.json was chosen, in words."""
    rule = decision["rule"]
    share = 100 * rule.get("recall", rule.get("precision", 0))
    return IN_WORDS[decision["policy"]].format(positive=decision["positive"], share=share, **rule)
