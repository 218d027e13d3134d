"""What slices are called, and the order in which people read them: light, for whatever shows metrics.json."""

from collections.abc import Mapping
from typing import Any

SIZE, BRIGHTNESS, SOURCE = "image size", "brightness", "source"  # the columns that every data set has
NOT_GIVEN = "(not given)"  # where an image has no value
FEWEST = 30  # images on which a slice is judged; on fewer, chance says more than the model


def in_order(column: str, values: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The values of a slice column of metrics.json: bands rising, any other the most frequent first."""
    if column in (SIZE, BRIGHTNESS) and all(_first_number(value) is not None for value in values):
        return sorted(values, key=lambda value: (_first_number(value) or 0, value))
    return sorted(values, key=lambda value: (-values[value]["n"], value))


def _first_number(band: str) -> int | None:
    """Of "up to 300 px", "301 to 600 px", "601 px or more": 300, 301, 601."""
    numbers = [int(word) for word in band.split() if word.isascii() and word.isdecimal()]
    return numbers[0] if numbers else None
