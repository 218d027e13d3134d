"""The values of two sections that both pages share: slices (`slices.html`) and robustness (`robustness.html`)."""

from collections.abc import Mapping
from typing import Any

from twofold.evaluation.robustness import CHANGE, METRICS, PERTURBATIONS, PLAIN
from twofold.evaluation.slice_names import FEWEST, in_order
from twofold.metrics.classification import ConfusionMatrix
from twofold.reporting.wording import EXPLAINED, interval_text, rate_with_interval

NAMES = {"roc_auc": "ROC-AUC"}


MOST_VALUES = 20  # of a slice column that a page shows; slices.csv has all


def robustness_rows(measured: Mapping[str, Mapping[str, Any]] | None) -> list[dict[str, Any]]:
    """The rows of robustness.html from what `twofold.evaluation.robustness` measured; none if it was not.

    Their order is that of the alterations, whatever that of `measured`: metrics.json is sorted by name.
    """
    found = measured or {}
    return [
        {
            "words": PERTURBATIONS[name].words if name in PERTURBATIONS else "as they are",
            "n": own["n"],
            "changed": own.get("changed"),
            "cells": [_cell(own, figure) for figure in METRICS],
        }
        for name in (PLAIN, *PERTURBATIONS)
        if (own := found.get(name))
    ]


def signed(value: float, digits: int = 3) -> str:
    """A difference with its sign; 0 has none."""
    text = f"{value:+.{digits}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")


def _cell(own: Mapping[str, Any], figure: str) -> dict[str, Any]:
    ends = own.get("intervals", {}).get(figure + CHANGE)
    plain = {"title": NAMES.get(figure, figure), "value": own.get(figure), "change": ""}
    if ends is None:
        return plain
    return plain | {
        "change": signed(own[figure + CHANGE]),
        "low": signed(ends["low"]),
        "high": signed(ends["high"]),
        "tone": "bad" if ends["high"] < 0 else "good" if ends["low"] > 0 else "",
    }


def slice_tables(slices: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """One table a slice column, as slices.html shows it."""
    return [_table(name, values) for name, values in slices.items()]


def _table(name: str, values: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    shown = in_order(name, values)[:MOST_VALUES]
    rows = []
    reasons: dict[str, list[str]] = {}
    for value in shown:
        own = ConfusionMatrix(*(values[value][field] for field in ConfusionMatrix._fields))
        rows.append(
            {
                "value": value,
                "judged": values[value]["judged"],
                "n": own.n,
                "positive": own.positive,
                "accuracy": rate_with_interval(own.correct, own.n),
                "recall": rate_with_interval(own.true_positive, own.positive),
                "alarms": rate_with_interval(own.false_positive, own.negative),
                "roc_auc": values[value].get("roc_auc"),
                "roc_auc_interval": interval_text(values[value], "roc_auc"),
            }
        )
        for figure in ("recall", "specificity", "roc_auc"):
            if reason := values[value].get("undefined", {}).get(figure):
                reasons.setdefault(value, [])
                if reason not in reasons[value]:
                    reasons[value].append(reason)
    missing = [f"{value}: {' and '.join(why)}, so that some figures have no value" for value, why in reasons.items()]
    return {
        "name": name,
        "about": EXPLAINED.get(name, ""),
        "rows": rows,
        "fewest": FEWEST,
        "few": not all(row["judged"] for row in rows),
        "more": len(values) - len(shown),
        "missing": missing,
    }
