"""Numbers as text: percentages, decimals and counts, with an en dash for None; and sentences about metrics.json."""

import math
from collections.abc import Mapping
from typing import Any

NOTHING = "\N{EN DASH}"


def percent(value: float | None, digits: int = 1) -> str:
    """A share of 0..1 as a percentage: 0.8841 -> "88.4 %"; a share below 1 is never shown as 100 %."""
    if value is None:
        return NOTHING
    text = f"{value:.{digits}%}"
    if value < 1 and text.startswith("100"):
        text = f"{math.floor(value * 100 * 10**digits) / 10**digits:.{digits}f}%"
    return text.replace("%", "\N{NARROW NO-BREAK SPACE}%")


def number(value: float | None, digits: int = 3) -> str:
    """A number with a fixed count of decimals."""
    return NOTHING if value is None else f"{value:.{digits}f}"


def count(value: float | None) -> str:
    """A whole number with thousands separators."""
    return NOTHING if value is None else f"{value:,}"


def interval_text(metrics: Mapping[str, Any], key: str, digits: int = 3) -> str | None:
    """The interval of a metric of metrics.json, "0.851 to 0.912"; None if it has none."""
    interval = metrics["intervals"].get(key)
    return None if interval is None else f"{interval['low']:.{digits}f} to {interval['high']:.{digits}f}"


def with_interval(metrics: Mapping[str, Any], key: str) -> str:
    """A metric of metrics.json with its interval, if it has one: "0.893 (0.867 to 0.914)"."""
    interval = interval_text(metrics, key)
    return number(metrics[key]) + (f" ({interval})" if interval else "")


def detection_sentence(counts: Mapping[str, int], positive: str) -> str:
    """A test in a sentence: "finds 153 of 205 defective, misses 52 (25 %), 12 false alarms in 451"."""
    found, missed, alarms = (counts[key] for key in ("true_positive", "false_negative", "false_positive"))
    share = missed / max(1, found + missed)
    return (
        f"finds {found:,} of {found + missed:,} {positive}, misses {missed:,} "
        f"({percent(share, 2 if 0 < share < 0.01 else 0)}), {alarms:,} false alarm{'' if alarms == 1 else 's'} "
        f"in {alarms + counts['true_negative']:,}"
    )


def weakest_slice(slices: Mapping[str, Mapping[str, Mapping[str, Any]]], positive: str = "") -> str:
    """The slice with the lowest accuracy of those with enough images; with `positive`, also what is found in it."""
    judged = [
        (own["accuracy"], f"{column} {value}", own)
        for column, values in slices.items()
        for value, own in values.items()
        if own["judged"] and "accuracy" in own
    ]
    if not judged:
        return "no slice has enough images to judge"
    _, name, own = min(judged, key=lambda each: each[:2])
    found = f"; {detection_sentence(own, positive)}" if positive else ""
    return f"{name}: accuracy {with_interval(own, 'accuracy')}, n = {own['n']}{found}"
