"""Names of slices and their order on pages; imports nothing heavy."""

from collections.abc import Mapping
from typing import Any

SIZE, BRIGHTNESS, SOURCE = "image size", "brightness", "source"  # the columns that every data set has
NOT_GIVEN = "(not given)"  # stands for a missing value
FEWEST = 30  # images below which a slice is not judged: chance would say more than the model


def in_order(column: str, values: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The values of a slice column of metrics.json: bands in rising order, other values by falling frequency."""
    if column in (SIZE, BRIGHTNESS) and all(_first_number(value) is not None for value in values):
        return sorted(values, key=lambda value: (_first_number(value) or 0, value))
    return sorted(values, key=lambda value: (-values[value]["n"], value))


def _first_number(band: str) -> int | None:
    """300, 301 and 601 for "up to 300 px", "301 to 600 px" and "601 px or more"."""
    return next((int(word) for word in band.split() if word.isascii() and word.isdecimal()), None)
