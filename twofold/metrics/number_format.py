"""Numbers as text: percentages, decimals and counts; an en dash for None."""

import math

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
