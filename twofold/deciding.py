"""Temperature and threshold, from the validation images: in comes what the model says of them, out decision.json."""

from typing import Any

from numpy.typing import NDArray

from twofold import decision, temperature
from twofold.calibration import ece
from twofold.decision import Rule
from twofold.metrics import confusion, figures, rates
from twofold.prepared import Prepared
from twofold.progress import say


def decide(rule: Rule, views: int, prepared: Prepared, raw: NDArray[Any], model_digest: str) -> dict[str, Any]:
    """What is sealed with the model: the content of decision.json.

    Args:
        rule: that draws the line.
        views: over which `raw` was averaged.
        prepared: the data; its validation images decide.
        raw: (N,) probabilities of these, as the model gave them, in the order of their rows.
        model_digest: SHA-256 of the model's folder.

    Raises:
        DataError: no threshold reaches what the rule asks for.
    """
    target = prepared.target[prepared.rows("validation")]
    fitted = temperature.fit(target, raw)
    probability = temperature.calibrated(raw, fitted)
    threshold = decision.choose(rule, target, probability)
    counts = confusion(target, probability, threshold)
    at_bound = fitted in (temperature.LEAST, temperature.MOST)
    if at_bound:
        say(f"evaluate: the temperature is at its bound, {fitted:g}: {temperature.WHY[fitted]}")
    numbers = rule.model_dump(mode="json")
    return {
        "schema_version": decision.SCHEMA_VERSION,
        "temperature": fitted,
        "threshold": threshold,
        "policy": numbers.pop("policy"),
        "rule": numbers,
        "positive": prepared.meta["positive"],
        "labels": list(prepared.meta["labels"]),
        "views": views,
        "model_digest": model_digest,
        "fingerprint": prepared.meta["fingerprint"],
        "chosen_on": {"split": "validation", "n": counts.n, "n_positive": counts.positive, **rates(counts)},
        "calibrated_on": {
            "split": "validation",
            "n": counts.n,
            "bounds": [temperature.LEAST, temperature.MOST],
            "at_bound": at_bound,
            "log_loss_uncalibrated": figures(target, raw, threshold)["log_loss"],
            "log_loss": figures(target, probability, threshold)["log_loss"],
            "ece_uncalibrated": ece(target, raw),
            "ece": ece(target, probability),
        },
    }
