"""The parts of a test that a gate is about, and how many claims at once are held to a bound.

In: a test's predictions and the slices that are asked for. Out: the rows of each part; or, for intervals of several
parts, which of them prove what they should, all together, by Holm's procedure.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from twofold.evaluation.predictions import Predictions
from twofold.evaluation.slice_names import FEWEST, NOT_GIVEN

CLASSES = ("negative", "positive")


class TestSubset(NamedTuple):
    """Some images of a test: all of them, or those of one slice, {column: value}."""

    rows: NDArray[np.int64]
    slice: Mapping[str, str] | None

    @property
    def judged(self) -> bool:
        """Whether there are images enough; a whole test is always judged."""
        return self.slice is None or len(self.rows) >= FEWEST

    @property
    def words(self) -> str:
        """The slice in brackets, as in "recall (type: mono)"; nothing for a whole test."""
        return "".join(f" ({column}: {value})" for column, value in (self.slice or {}).items())


class Bounds(NamedTuple):
    """Both ends of an interval."""

    low: float
    high: float


def test_subsets(wanted: Any, test: Predictions) -> tuple[list[TestSubset], str]:
    """What a gate is about; or nothing, and the reason why.

    Args:
        wanted: None for all images, a slice column for each of its values, or {column: value}.
        test: on which it is judged.
    """
    if wanted is None:
        return [TestSubset(np.arange(len(test)), None)], ""
    column, value = next(iter(wanted.items())) if isinstance(wanted, Mapping) else (wanted, None)
    if column not in test.slices:
        return [], f"there is no slice column '{column}'; there are: {', '.join(sorted(test.slices)) or 'none'}"
    values = np.array([NOT_GIVEN if one is None else one for one in test.slices[column]], dtype=object)
    known = sorted(set(values.tolist()))
    if value is not None and value not in known:
        return [], f"no test image has the {column} '{value}'; there are: {', '.join(known) or 'none'}"
    chosen = known if value is None else [value]
    return [TestSubset(np.flatnonzero(values == one), {column: one}) for one in chosen], ""


def too_few_images(test: Predictions, part: TestSubset) -> str:
    """Why some images cannot tell how good a model is, or nothing."""
    n = len(part.rows)
    if n < 2:
        return f"{n} test image{'' if n == 1 else 's'}: too few to say anything"
    if part.slice is None:
        for value, name in enumerate(CLASSES):
            if not (test.target[part.rows] == value).any():
                return f"a class is missing: no test image of the {name} one"
    return ""


def holm_procedure(
    count: int, level: float, ends: Callable[[int, float], Bounds | None], proven: Callable[[Bounds], bool]
) -> list[tuple[bool, Bounds | None]]:
    """Which of some claims are proven by their intervals, all of them together at this level, and those intervals.

    Holm (1979), "A simple sequentially rejective multiple test procedure": with m claims open, each interval errs at
    most an m-th as often. One claim alone is held to the plain interval.

    Args:
        count: of claims.
        level: two-sided, of one claim alone.
        ends: the interval of a claim, by its number, at a level; None if there is none.
        proven: whether an interval proves its claim.
    """
    found: dict[int, tuple[bool, Bounds | None]] = {}
    left = list(range(count))
    while left:
        now = {number: ends(number, 1 - (1 - level) / len(left)) for number in left}
        sure = [number for number in left if (pair := now[number]) is not None and proven(pair)]
        found |= {number: (number in sure, now[number]) for number in (sure or left)}
        left = [number for number in left if number not in found]
    return [found[number] for number in range(count)]
