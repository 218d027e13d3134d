"""Choose the decision threshold by a rule, from the targets and calibrated probabilities of the validation images.

An image is called positive if its probability is at or above the threshold.

Theory. On calibrated probabilities the threshold of least expected cost is false_alarm / (false_alarm + missed), and
1/2 for accuracy (Elkan 2001, "The foundations of cost-sensitive learning"): `max_accuracy` and `min_cost`. The one that
is best on the validation images (`max_validation_accuracy`, `min_validation_cost`) varies more from sample to sample.

Confidence. `recall_at_least` and `precision_at_least` allow a threshold only if the exact one-sided lower bound of the
metric at 95 % reaches the demand. Since looking for one is a selection, they are tested in a fixed sequence that ends
at the first that is not allowed ("Learn then test", Angelopoulos et al. 2021): for recall upwards from 0; for precision
downwards from the one that calls half as many images positive as there are, or as many as a proof needs. In 95 % of
samples all allowed ones then have the demanded recall on new images, or the precision if it does not fall as the
threshold rises. Images in groups count by their design effect.

Candidates. Between two neighbouring distinct probabilities a < b the candidate is their midpoint (b itself if no
number fits between them). Two more are 0, which calls every image positive, and the midpoint of the highest probability
and 1, which calls none positive (left out if that probability is 1 already). So every split of the images by their
probability is tried exactly once, and no candidate equals an image's probability, so that rounding decides nothing.

Ties. Of equally good candidates the lowest is taken: it misses the fewest images of the positive class. The order of
the images has no influence.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import Discriminator, Field, Tag

from twofold.core.errors import DataError
from twofold.core.params import Section
from twofold.metrics.confidence_intervals import clopper_pearson
from twofold.metrics.curves import checked_arrays, threshold_sweep
from twofold.metrics.design_effect import MIN_GROUPS, Groups, design_effect, sampling_units, student_inflation
from twofold.metrics.influence import ModelOutputs, influence

SCHEMA_VERSION = 4
DECISION = "decision.json"
LEVEL = 0.90  # two-sided; the lower bound alone is at 95 %
Share = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]  # no number of images shows that it is 1
Cost = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]


class MaxAccuracy(Section):
    """The highest expected accuracy."""

    policy: Literal["max_accuracy"] = Field(description="the rule's name")


class MaxValidationAccuracy(Section):
    """The highest accuracy on the validation images."""

    policy: Literal["max_validation_accuracy"] = Field(description="the rule's name")


class MaxF1(Section):
    """The highest F1."""

    policy: Literal["max_f1"] = Field(description="the rule's name")


class RecallAtLeast(Section):
    """The highest precision among the candidates that reach the recall with confidence."""

    policy: Literal["recall_at_least"] = Field(description="the rule's name")
    recall: Share = Field(description="smallest share of the positive class that must be found, above 0 to below 1")


class PrecisionAtLeast(Section):
    """The highest recall, and then precision, among the candidates that reach the precision with confidence."""

    policy: Literal["precision_at_least"] = Field(description="the rule's name")
    precision: Share = Field(description="smallest share of positive answers that must be right, above 0 to below 1")


class _Costs(Section):
    missed: Cost = Field(description="what a missed image of the positive class costs, in any unit, above 0 to 1e9")
    false_alarm: Cost = Field(description="what a false alarm costs, in the same unit, above 0 to 1e9")


class MinCost(_Costs):
    """The lowest expected cost of errors."""

    policy: Literal["min_cost"] = Field(description="the rule's name")


class MinValidationCost(_Costs):
    """The lowest total cost of errors on the validation images."""

    policy: Literal["min_validation_cost"] = Field(description="the rule's name")


def _policy(value: Any) -> str | None:
    policy = value.get("policy") if isinstance(value, Mapping) else getattr(value, "policy", None)
    return policy if isinstance(policy, str) else None


Rule = Annotated[
    Annotated[MaxAccuracy, Tag("max_accuracy")]
    | Annotated[MaxValidationAccuracy, Tag("max_validation_accuracy")]
    | Annotated[MaxF1, Tag("max_f1")]
    | Annotated[RecallAtLeast, Tag("recall_at_least")]
    | Annotated[PrecisionAtLeast, Tag("precision_at_least")]
    | Annotated[MinCost, Tag("min_cost")]
    | Annotated[MinValidationCost, Tag("min_validation_cost")],
    Discriminator(
        _policy,
        custom_error_type="policy",
        custom_error_message="a rule has a 'policy', one of max_accuracy, max_validation_accuracy, max_f1, "
        "recall_at_least (with recall), precision_at_least (with precision), min_cost and min_validation_cost (with "
        "missed and false_alarm)",
    ),
]


def choose_threshold(rule: Rule, target: ArrayLike, probability: ArrayLike, groups: Sequence[object] = ()) -> float:
    """The threshold, in 0..1, that is best by the rule for targets (N,) and calibrated probabilities (N,).

    Args:
        groups: (N,) name of each image's group, the sampling unit; None for an image without one. Empty: no groups.

    Raises:
        DataError: a class is missing, values cannot be scored, or no threshold fulfils the rule with confidence.
    """
    targets, probabilities = checked_arrays(target, probability)
    positives = int(targets.sum())
    negatives = len(targets) - positives
    if not positives or not negatives:
        raise DataError(
            f"threshold: the validation images must hold both classes, found {positives} positive and "
            f"{negatives} negative; enlarge the validation split in preprocess"
        )
    if isinstance(rule, MaxAccuracy):
        return 0.5
    if isinstance(rule, MinCost):
        return rule.false_alarm / (rule.false_alarm + rule.missed)
    counts = threshold_sweep(targets, probabilities)
    thresholds = candidate_thresholds(counts.probability)
    hits, alarms = counts.true_positive, counts.false_positive
    if len(thresholds) > len(hits):
        hits, alarms = np.append(0, hits), np.append(0, alarms)
    # Quotients of whole numbers: IEEE division rounds equal ratios to equal floats, so that == finds every tie.
    called = hits + alarms
    # Without a positive call precision counts as 0, which is always below that of calling every image positive.
    precision = hits / np.maximum(called, 1)
    if isinstance(rule, MaxValidationAccuracy):
        scores = (hits + negatives - alarms) / len(targets)
    elif isinstance(rule, MaxF1):
        scores = 2 * hits / (positives + called)
    elif isinstance(rule, MinValidationCost):
        scores = -(rule.missed * (positives - hits) + rule.false_alarm * alarms)
    else:
        units = sampling_units(groups or [None] * len(targets))
        allowed = _allowed(rule, targets, probabilities, units, thresholds, hits, called)
        if isinstance(rule, PrecisionAtLeast):
            allowed &= hits == hits[allowed].max()
        scores = np.where(allowed, precision, -np.inf)
    return float(thresholds[np.flatnonzero(scores == scores.max())[-1]])


def _allowed(
    rule: RecallAtLeast | PrecisionAtLeast,
    targets: NDArray[np.int64],
    probabilities: NDArray[np.float64],
    units: Groups,
    thresholds: NDArray[np.float64],
    hits: NDArray[np.int64],
    called: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """Which thresholds have the rule's recall or precision with confidence (see the module's docstring)."""
    positives, last = int(targets.sum()), len(thresholds) - 1
    if isinstance(rule, RecallAtLeast):
        metric, least, of, noun = "recall", rule.recall, np.full_like(hits, positives), "positive images are found"
    else:
        metric, least, of, noun = "precision", rule.precision, called, "images called positive are right"
    needed = math.ceil(math.log((1 - LEVEL) / 2) / math.log(least))
    first = min(int(np.searchsorted(called, max(needed, positives // 2))), last)
    sequence = range(last, -1, -1) if metric == "recall" else range(first, last + 1)

    def lower_bound(place: int) -> float:
        inflation = 1.0
        if units.clustered:
            about = influence(metric, targets, ModelOutputs(probabilities, thresholds[place]))
            if (number := units.count(about.counted)) < MIN_GROUPS:
                return 0.0
            inflation = design_effect(about.images, about.counted, units) * student_inflation(number, LEVEL)
        return (clopper_pearson(hits[place] / inflation, of[place] / inflation, LEVEL) or (0.0,))[0]

    allowed = np.zeros(len(thresholds), dtype=bool)
    for place in sequence:
        if (shown := lower_bound(place)) < least:
            break
        allowed[place] = True
    if allowed.any():
        return allowed
    raise DataError(
        f"evaluate.threshold: no threshold shows with 95 % confidence a {metric} of {least:g} on validation: "
        f"{hits[place]} of {of[place]} {noun}, which shows {shown:.4f}; without an error, {needed} (in as many groups) "
        "show it: demand less, enlarge the validation split in preprocess, or train a better model"
    )


def candidate_thresholds(probability: NDArray[np.float64]) -> NDArray[np.float64]:
    """The candidate thresholds, falling, for distinct falling probabilities (see the module's docstring)."""
    upper, lower = probability[:-1], probability[1:]
    middle = upper / 2 + lower / 2
    between = np.where((lower < middle) & (middle <= upper), middle, upper)
    top = float(probability[0] / 2 + 0.5)
    return np.concatenate([[top] if top > probability[0] else [], between, [0.0]])


BY_THEORY = ("max_accuracy", "min_cost")  # policies whose threshold does not depend on the validation images
IN_WORDS = {
    "max_accuracy": "the one with the fewest errors to be expected from calibrated probabilities",
    "max_validation_accuracy": "the one that gets the most validation images right",
    "max_f1": "the one with the best balance (F1) between finding {positive} images and raising false alarms",
    "recall_at_least": "the one whose {positive} answers are most often right, among those that find at least "
    "{share:g} % of the {positive} images with 95 % confidence",
    "precision_at_least": "the one that finds the most {positive} images, among those whose {positive} answers are "
    "right at least {share:g} % of the time with 95 % confidence",
    "min_cost": "the one with the lowest expected cost, by calibrated probabilities, if a missed {positive} image "
    "costs {missed:g} and a false alarm {false_alarm:g}",
    "min_validation_cost": "the one with the lowest cost on the validation images if a missed {positive} image costs "
    "{missed:g} and a false alarm {false_alarm:g}",
}


def describe_rule(decision: Mapping[str, Any]) -> str:
    """The rule by which the threshold of a decision.json was chosen, in words."""
    rule = decision["rule"]
    share = 100 * rule.get("recall", rule.get("precision", 0))
    return IN_WORDS[decision["policy"]].format(positive=decision["positive"], share=share, **rule)
