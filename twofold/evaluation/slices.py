"""The slices of a test: in come the prepared data, out go columns of text by which results are shown apart.

Every slice column of the data, and three that every data set has, unless it has a column of that name itself:

- `image size`: the shorter side of the image as it came, in pixels;
- `brightness`: the mean of its grey levels, in per cent of white;
- `source`: the first folder in which the keys differ (see `twofold.data.prepared.sources`).

Size and brightness are cut into three bands at the terciles of the training images, so that the bands of another
test stay the same; up to three different values are a band each. A built-in column of which the test shows a single
value says nothing, and one of more than MOST_SOURCES sources is no slice; both are left out.
"""

from collections.abc import Iterable, Mapping
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
    """The slice columns of the images of some rows, by name: text, None where an image has no value.

    Args:
        prepared: the data; its training images fix the bands.
        rows: of validation and test images; those of the test decide whether a built-in column is left out.
    """
    given: dict[str, Column] = {name: prepared.column(f"slice.{name}")[rows] for name in prepared.meta["slices"]}
    train = prepared.rows("train")
    side = np.minimum(prepared.column("width"), prepared.column("height")).astype(np.int64)
    light = np.rint(100 * prepared.column("brightness")).astype(np.int64)
    built_in: dict[str, Column] = {
        SIZE: _named(side[rows], tercile_edges(side[train]), "px"),
        BRIGHTNESS: _named(light[rows], tercile_edges(light[train]), "%"),
        SOURCE: prepared.column("source")[rows],
    }
    test = prepared.split[rows] == "test"
    for name, values in built_in.items():
        different = len({*values[test]})
        if name not in given and different > 1 and (name != SOURCE or different <= MOST_SOURCES):
            given[name] = values
    return given


def tercile_edges(values: NDArray[np.int64]) -> list[int]:
    """The highest values of all bands but the last: terciles, each a value that occurs."""
    different = np.unique(values)
    if len(different) <= _BANDS:
        return [int(value) for value in different[:-1]]
    found = np.quantile(values, np.arange(1, _BANDS) / _BANDS, method="inverted_cdf")
    return [int(value) for value in np.unique(found) if value < different[-1]]


def _named(values: NDArray[np.int64], highest: list[int], unit: str) -> Column:
    """Each value's band: "up to 300 px", "301 to 600 px", "601 px or more"."""
    if not highest:
        return np.full(len(values), None, object)
    middle = [f"{low + 1} to {high} {unit}" for low, high in pairwise(highest)]
    names = np.array([f"up to {highest[0]} {unit}", *middle, f"{highest[-1] + 1} {unit} or more"], object)
    chosen: Column = names[np.searchsorted(highest, values)]
    return chosen


def slice_metrics(
    target: ArrayLike,
    probability: ArrayLike,
    threshold: float,
    slices: Mapping[str, Iterable[str | None]],
) -> dict[str, dict[str, dict[str, Any]]]:
    """For every value of every slice column its figures with counts and intervals, and whether it is `judged`.

    Args:
        target: (N,) 0 or 1.
        probability: (N,) of the positive class.
        threshold: an image is called positive when its probability is at or above it.
        slices: columns of text; an image without a value counts under NOT_GIVEN.
    """
    targets, probabilities = checked_arrays(target, probability)
    result: dict[str, dict[str, dict[str, Any]]] = {}
    for name, column in slices.items():
        values = np.array([NOT_GIVEN if value is None else value for value in column], dtype=object)
        result[name] = {}
        for value in sorted(set(values.tolist())):
            answers = (targets[values == value], probabilities[values == value], threshold)
            own = metrics_summary(*answers)
            result[name][value] = {**own, "judged": len(answers[0]) >= FEWEST, "intervals": metric_intervals(*answers)}
    return result
