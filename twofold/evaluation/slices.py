"""Slices of a test set: columns of text by which the metrics are broken down, made from the prepared data.

They are every slice column of the data, and three built-in ones, unless the data have a column of that name:

- `image size`: the shorter side of the original image, in pixels;
- `brightness`: the mean of its grey levels, in per cent of white;
- `source`: the first folder in which the keys differ (see `twofold.data.prepared_writer.image_sources`).

Size and brightness are cut into three bands at the terciles of the training images, so that the bands stay the same
for another test; up to three different values are a band each. A built-in column is left out if the test images have
only one value in it, and `source` also if they have more than MOST_SOURCES.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from twofold.data.prepared import PreparedDataset
from twofold.evaluation.slice_names import BRIGHTNESS, FEWEST, NOT_GIVEN, SIZE, SOURCE
from twofold.metrics.classification import metrics_summary
from twofold.metrics.curves import checked_arrays
from twofold.metrics.metric_intervals import metric_intervals

MOST_SOURCES = 50
_BANDS = 3
Column = NDArray[np.object_]


def slice_columns(prepared: PreparedDataset, rows: NDArray[np.int64]) -> dict[str, Column]:
    """Slice columns by name, for the images in `rows`: text, None where an image has no value.

    Args:
        prepared: the data; its training images fix the bands.
        rows: of validation and test images; the test images decide whether a built-in column is left out.
    """
    columns: dict[str, Column] = {name: prepared.column(f"slice.{name}")[rows] for name in prepared.meta["slices"]}
    train = prepared.rows("train")
    side = np.minimum(prepared.column("width"), prepared.column("height")).astype(np.int64)
    light = np.rint(100 * prepared.column("brightness")).astype(np.int64)
    built_in: dict[str, Column] = {
        SIZE: _band_names(side[rows], tercile_edges(side[train]), "px"),
        BRIGHTNESS: _band_names(light[rows], tercile_edges(light[train]), "%"),
        SOURCE: prepared.column("source")[rows],
    }
    test = prepared.split[rows] == "test"
    for name, values in built_in.items():
        different = len({*values[test]})
        if name not in columns and different > 1 and (name != SOURCE or different <= MOST_SOURCES):
            columns[name] = values
    return columns


def tercile_edges(values: NDArray[np.int64]) -> list[int]:
    """The highest values of all bands but the last: the terciles, each a value that occurs."""
    different = np.unique(values)
    if len(different) <= _BANDS:
        return [int(value) for value in different[:-1]]
    terciles = np.quantile(values, np.arange(1, _BANDS) / _BANDS, method="inverted_cdf")
    return [int(value) for value in np.unique(terciles) if value < different[-1]]


def _band_names(values: NDArray[np.int64], highest: list[int], unit: str) -> Column:
    """The band of each value: "up to 300 px", "301 to 600 px", "601 px or more"."""
    if not highest:
        return np.full(len(values), None, object)
    middle = [f"{low + 1} to {high} {unit}" for low, high in pairwise(highest)]
    names = np.array([f"up to {highest[0]} {unit}", *middle, f"{highest[-1] + 1} {unit} or more"], object)
    bands: Column = names[np.searchsorted(highest, values)]
    return bands


def slice_metrics(
    target: ArrayLike,
    probability: ArrayLike,
    threshold: float,
    slices: Mapping[str, Iterable[str | None]],
    units: Sequence[object],
) -> dict[str, dict[str, dict[str, Any]]]:
    """Metrics with counts and intervals for every value of every slice column, and whether the value is `judged`.

    Args:
        target: (N,) 0 or 1.
        probability: (N,) of the positive class.
        threshold: an image is called positive when its probability is at or above it.
        slices: columns of text; an image without a value counts under NOT_GIVEN.
        units: (N,) name of the sample that each image belongs to, or None.
    """
    targets, probabilities = checked_arrays(target, probability)
    result: dict[str, dict[str, dict[str, Any]]] = {}
    for name, column in slices.items():
        values = np.array([NOT_GIVEN if value is None else value for value in column], dtype=object)
        result[name] = {}
        for value in sorted(set(values.tolist())):
            rows = values == value
            scored = (targets[rows], probabilities[rows], threshold)
            judged = int(rows.sum()) >= FEWEST
            result[name][value] = {
                **metrics_summary(*scored),
                "judged": judged,
                "intervals": metric_intervals(
                    *scored, [unit for unit, chosen in zip(units, rows, strict=True) if chosen]
                ),
            }
    return result
