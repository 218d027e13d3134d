"""What is decided on the validation images: in come their probabilities, out goes what decision.json holds.

First the temperature, then, on calibrated probabilities, the threshold.
"""

from collections.abc import Mapping
from typing import Any

from numpy.typing import ArrayLike

from twofold.core.progress import say
from twofold.data.prepared import PreparedDataset
from twofold.metrics import temperature_scaling
from twofold.metrics.calibration import expected_calibration_error
from twofold.metrics.classification import classification_metrics, confusion_matrix, rates
from twofold.metrics.decision_threshold import SCHEMA_VERSION, Rule, choose_threshold


def fit_operating_point(
    rule: Rule, prepared: PreparedDataset, raw: ArrayLike, model_digest: str, computed: Mapping[str, Any]
) -> dict[str, Any]:
    """What is sealed with the model.

    Args:
        rule: which threshold is best.
        prepared: the data.
        raw: (N,) what the network said of the validation images, in the order of their rows.
        model_digest: of the model.
        computed: how it says so: `views`, over which each probability was averaged, and `precision`.

    Raises:
        DataError: the validation images lack a class, or no threshold reaches what the rule asks for.
    """
    target = prepared.target[prepared.rows("validation")]
    fitted = temperature_scaling.fit_temperature(target, raw)
    probability = temperature_scaling.apply_temperature(raw, fitted)
    threshold = choose_threshold(rule, target, probability)
    counts = confusion_matrix(target, probability, threshold)
    at_bound = fitted in (temperature_scaling.LEAST, temperature_scaling.MOST)
    if at_bound:
        say(f"evaluate: the temperature is at its bound, {fitted:g}: {temperature_scaling.WHY[fitted]}")
    numbers = rule.model_dump(mode="json")
    return {
        "schema_version": SCHEMA_VERSION,
        "temperature": fitted,
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
            "bounds": [temperature_scaling.LEAST, temperature_scaling.MOST],
            "at_bound": at_bound,
            "log_loss_uncalibrated": classification_metrics(target, raw, threshold)["log_loss"],
            "log_loss": classification_metrics(target, probability, threshold)["log_loss"],
            "ece_uncalibrated": expected_calibration_error(target, raw),
            "ece": expected_calibration_error(target, probability),
        },
    }
