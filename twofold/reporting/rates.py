"""Figures with what chance may have done to them, as a page writes them: in come counts or figures, out goes text."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from twofold.metrics.confidence_intervals import wilson
from twofold.reporting import html_page


class Rate(NamedTuple):
    """A share with the counts behind it; value and interval are None where there is nothing to take a share of."""

    hits: int
    n: int
    value: float | None
    interval: str | None


def rate(hits: int, n: int) -> Rate:
    """A share with its 95 % interval, "85.9 to 90.8 %"."""
    interval = wilson(hits, n)
    if interval is None:
        return Rate(hits, n, None, None)
    text = f"{100 * interval.low:.1f} to {html_page.percent(interval.high)}"
    return Rate(hits, n, hits / n, text)


def ends(figures: Mapping[str, Any], key: str) -> str | None:
    """The interval of one of the figures of metrics.json, "0.851 to 0.912"; None where it has none."""
    found = figures["intervals"].get(key)
    return None if found is None else f"{found['low']:.3f} to {found['high']:.3f}"
