"""The test subsets that a gate is evaluated on, and Holm's procedure over several of them.

Reads a test's predictions and the slices of a gate; returns the rows of each subset and why it is not judged, and for
intervals of several subsets, which of them prove their claim at a joint level.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from twofold.evaluation.predictions import Predictions
from twofold.evaluation.slice_names import FEWEST, NOT_GIVEN
from twofold.metrics.confidence_intervals import Interval

CLASSES = ("negative", "positive")
# The classes without which a metric has no value, or has the same value for every model.
_OF_POSITIVES = ("precision", "recall", "f1", "average_precision")
ABOUT = {"specificity": (0,), "roc_auc": (0, 1)} | dict.fromkeys(_OF_POSITIVES, (1,))


class MetricKey(NamedTuple):
    """A metric on all test images, or on those of one value of a slice column."""

    metric: str
    column: str | None = None
    value: str | None = None

    @property
    def slice(self) -> dict[str, str] | None:
        """The slice as {column: value}; None for all test images."""
        return None if self.column is None or self.value is None else {self.column: self.value}

    def __str__(self) -> str:
        return self.metric if self.column is None else f"{self.metric} ({self.column}: {self.value})"


class TestSubset(NamedTuple):
    """The rows of all test images, or of one slice {column: value}."""

    rows: NDArray[np.int64]
    slice: Mapping[str, str] | None

    @property
    def judged(self) -> bool:
        """Whether the subset has enough images; the whole test is always judged."""
        return self.slice is None or len(self.rows) >= FEWEST

    def key(self, metric: str) -> MetricKey:
        """The key of a metric on these images; its text is as in "recall (type: mono)"."""
        return MetricKey(metric, *next(iter((self.slice or {}).items()), ()))

    def why_not_judged(self, metric: str, test: Predictions) -> str:
        """Return why a gate on a metric does not apply to the subset; "" if it does, as for the whole test."""
        if not self.judged:
            return f"shown and not judged: fewer than {FEWEST} images"
        missing = [CLASSES[c] for c in ABOUT.get(metric, ()) if not (test.target[self.rows] == c).any()]
        return f"does not apply: no image of the {missing[0]} class" if self.slice and missing else ""


def test_subsets(selector: Any, test: Predictions) -> tuple[list[TestSubset], str]:
    """Return the subsets of a gate and ""; or no subset and the reason.

    Args:
        selector: None for all images, a slice column for each of its values, or {column: value}.
    """
    if selector is None:
        return [TestSubset(np.arange(len(test)), None)], ""
    column, value = next(iter(selector.items())) if isinstance(selector, Mapping) else (selector, None)
    if column not in test.slices:
        return [], f"there is no slice column '{column}'; there are: {', '.join(sorted(test.slices)) or 'none'}"
    values = np.array([NOT_GIVEN if each is None else each for each in test.slices[column]], dtype=object)
    known = sorted(set(values.tolist()))
    if value is not None and value not in known:
        return [], f"no test image has the {column} '{value}'; there are: {', '.join(known) or 'none'}"
    chosen = known if value is None else [value]
    return [TestSubset(np.flatnonzero(values == each), {column: each}) for each in chosen], ""


def too_few_images(test: Predictions, subset: TestSubset) -> str:
    """Return why the images of a subset are too few for any metric; "" if they are not."""
    n = len(subset.rows)
    if n < 2:
        return f"{n} test image{'' if n == 1 else 's'}: too few to say anything"
    if subset.slice is None:
        for value, name in enumerate(CLASSES):
            if not (test.target[subset.rows] == value).any():
                return f"a class is missing: no test image of the {name} one"
    return ""


def holm_procedure(
    subsets: Sequence[TestSubset],
    level: float,
    interval: Callable[[TestSubset, float], Interval | None],
    proves: Callable[[Interval], bool],
) -> list[tuple[bool, Interval | None]]:
    """Return for each subset whether its claim is proven, all claims at a joint level, and the interval used.

    For claims any of which decides alone. Holm (1979), "A simple sequentially rejective multiple test procedure": with
    m unproven claims, each interval has an m-th of the error rate. A single claim is tested with the plain interval.

    Args:
        subsets: one claim each.
        level: two-sided, of a single claim.
        interval: returns the interval of a subset at a level.
        proves: whether an interval proves its claim.
    """
    results: dict[int, tuple[bool, Interval | None]] = {}
    while unproven := [number for number in range(len(subsets)) if number not in results]:
        tried = {number: interval(subsets[number], 1 - (1 - level) / len(unproven)) for number in unproven}
        proven = [number for number, found in tried.items() if found is not None and proves(found)]
        results |= {number: (number in proven, tried[number]) for number in proven or unproven}
    return [results[number] for number in range(len(subsets))]
