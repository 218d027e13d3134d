"""decision.json: the calibration and the decision threshold, both fitted on the validation images.

The calibration comes first; the threshold is then chosen on calibrated probabilities.
"""

from collections.abc import Mapping
from typing import Any

from numpy.typing import ArrayLike

from twofold.core.progress import say
from twofold.data.prepared import PreparedDataset
from twofold.metrics.calibration import expected_calibration_error
from twofold.metrics.classification import classification_metrics, confusion_matrix, rates
from twofold.metrics.decision_threshold import SCHEMA_VERSION, Rule, choose_threshold
from twofold.metrics.platt_scaling import LEAST, MOST, WHY, fit_platt_scaling


def fit_operating_point(
    rule: Rule, prepared: PreparedDataset, raw: ArrayLike, model_digest: str, computed: Mapping[str, Any]
) -> dict[str, Any]:
    """Fit calibration and threshold; returns the content of decision.json.

    Args:
        rule: how the threshold is chosen.
        prepared: the data.
        raw: (N,) uncalibrated probabilities of the validation images, in the order of their rows.
        model_digest: SHA-256 of the model.
        computed: how they were computed: `views` (of test-time augmentation) and `precision`.

    Raises:
        DataError: the validation images lack a class, or no threshold meets the rule with confidence.
    """
    rows = prepared.rows("validation")
    target = prepared.target[rows]
    scaling = fit_platt_scaling(target, raw)
    probability = scaling.calibrate(raw)
    threshold = choose_threshold(rule, target, probability, prepared.column("unit")[rows].tolist())
    counts = confusion_matrix(target, probability, threshold)
    if scaling.slope in WHY:
        say(f"evaluate: the slope of the calibration is at its bound, {scaling.slope:g}: {WHY[scaling.slope]}")
    numbers = rule.model_dump(mode="json")
    return {
        "schema_version": SCHEMA_VERSION,
        "platt_slope": scaling.slope,
        "platt_intercept": scaling.intercept,
        "threshold": threshold,
        "policy": numbers.pop("policy"),
        "rule": numbers,
        "positive": prepared.meta["positive"],
        "labels": list(prepared.meta["labels"]),
        **computed,
        "model_digest": model_digest,
        "fingerprint": prepared.meta["fingerprint"],
        "chosen_on": {"split": "validation", "n": counts.n, "n_positive": counts.positive, **rates(counts)},
        "calibrated_on": {
            "split": "validation",
            "n": counts.n,
            "bounds": [LEAST, MOST],
            "at_bound": scaling.slope in WHY,
            "log_loss_uncalibrated": classification_metrics(target, raw, threshold)["log_loss"],
            "log_loss": classification_metrics(target, probability, threshold)["log_loss"],
            "ece_uncalibrated": expected_calibration_error(target, raw),
            "ece": expected_calibration_error(target, probability),
        },
    }
