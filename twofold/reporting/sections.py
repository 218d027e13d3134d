"""Values of the two sections that evaluation.html and decision.html share: `slices.html` and `robustness.html`."""

from collections.abc import Mapping
from typing import Any

from twofold.evaluation.robustness import CHANGE, METRICS, PERTURBATIONS, PLAIN, describe_perturbation
from twofold.evaluation.slice_names import FEWEST, in_order
from twofold.metrics.classification import ConfusionMatrix
from twofold.metrics.number_format import interval_text
from twofold.reporting.wording import EXPLAINED, rate_with_interval, recorded_interval

MOST_VALUES = 20  # values of a slice column that a page shows; slices.csv has all


def robustness_rows(measured: Mapping[str, Mapping[str, Any]] | None) -> list[dict[str, Any]]:
    """The rows of robustness.html from the measurements of `twofold.evaluation.robustness`; none without them.

    They are in the order of PERTURBATIONS; `measured` may be sorted by name, as metrics.json is.
    """
    return [
        {
            "words": describe_perturbation(name),
            "n": own["n"],
            "changed": own.get("changed"),
            "cells": [_cell(own, metric) for metric in METRICS],
        }
        for name in (PLAIN, *PERTURBATIONS)
        if (own := (measured or {}).get(name))
    ]


def signed(value: float, digits: int = 3) -> str:
    """A difference with its sign; 0 has none."""
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")


def _cell(own: Mapping[str, Any], metric: str) -> dict[str, Any]:
    cell = {"title": "ROC-AUC" if metric == "roc_auc" else metric, "value": own.get(metric), "change": ""}
    interval = own.get("intervals", {}).get(metric + CHANGE)
    if interval is None:
        return cell
    return cell | {
        "change": signed(own[metric + CHANGE]),
        "low": signed(interval["low"]),
        "high": signed(interval["high"]),
        "tone": "bad" if interval["high"] < 0 else "good" if interval["low"] > 0 else "",
    }


def slice_tables(slices: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """One table per slice column, as slices.html shows it."""
    return [_table(name, values) for name, values in slices.items()]


def _table(name: str, values: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    shown = in_order(name, values)[:MOST_VALUES]
    rows: list[dict[str, Any]] = []
    missing: list[str] = []
    for value in shown:
        own = values[value]
        counts = ConfusionMatrix(*(own[field] for field in ConfusionMatrix._fields))
        rows.append(
            {
                "value": value,
                "judged": own["judged"],
                "n": counts.n,
                "positive": counts.positive,
                "accuracy": rate_with_interval(counts.correct, counts.n, recorded_interval(own, "accuracy")),
                "recall": rate_with_interval(counts.true_positive, counts.positive, recorded_interval(own, "recall")),
                "alarms": rate_with_interval(
                    counts.false_positive, counts.negative, recorded_interval(own, "specificity", complement=True)
                ),
                "roc_auc": own.get("roc_auc"),
                "roc_auc_interval": interval_text(own, "roc_auc"),
            }
        )
        undefined = own.get("undefined", {})
        # Two metrics may lack a value for the same reason.
        reasons = dict.fromkeys(undefined[key] for key in ("recall", "specificity", "roc_auc") if key in undefined)
        if reasons:
            missing.append(f"{value}: {' and '.join(reasons)}, so that some metrics have no value")
    return {
        "name": name,
        "about": EXPLAINED.get(name, ""),
        "rows": rows,
        "fewest": FEWEST,
        "few": not all(row["judged"] for row in rows),
        "more": len(values) - len(shown),
        "missing": missing,
    }
