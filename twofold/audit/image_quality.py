"""Finds blank images, and outliers in exposure, sharpness and aspect ratio.

Takes images with their statistics; returns one check with its issues for each kind of outlier.

An image is an outlier if it is both beyond a fixed limit and far from the rest of its data set: in a factory whose
pictures are all dark, or all soft, none is an outlier. Far means `FAR` robust standard deviations (1.4826 times the
median absolute deviation) from the median, and at least a fixed gap, because the deviation is small where all images
are alike.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from twofold.audit.checks import Check, Issue, Policy
from twofold.data.image_statistics import SIDE, ImageStatistics
from twofold.data.raw import ImageRecord

FAR = 4.0  # in a normal distribution one value in 30,000 lies that far to one side
BLANK_SPREAD = 8.0  # levels of 255
DARKEST, DARK_GAP = 0.32, 0.1  # fraction of white; cleanvision 0.3.7's limits for "dark" and "light"
LIGHTEST, LIGHT_GAP = 0.95, 0.1
# Levels squared: the usual limit for the variance of the Laplacian, and a quarter of the median.
SOFTEST, SOFT_GAP = 100.0, math.log(4)
NARROWEST, NARROW_GAP = 0.35, math.log(1.5)  # shorter to longer side as in cleanvision, and 1.5 times the median


class _OutlierCheck(NamedTuple):
    """The statistic of a check, its limit, its distance from the median, and the text of an issue."""

    title: str
    meaning: str
    statistic: Callable[[ImageRecord, ImageStatistics], float]
    is_beyond_limit: Callable[[float], bool]
    sign: int  # -1: outliers lie below the rest; 1: above; 0: on either side
    gap: float
    scale: Callable[[float], float]
    describe: Callable[[float], str]


OUTLIER_CHECKS: dict[str, _OutlierCheck] = {
    "odd_aspect": _OutlierCheck(
        "Unusual aspect ratio",
        f"The shorter side is less than {NARROWEST:.0%} of the longer one, and the aspect ratio is far from the rest: "
        "a strip or a wrong crop. Squashed to a square, such an image shows little.",
        lambda image, _: image.width / image.height,
        lambda value: min(value, 1 / value) < NARROWEST,
        0,
        NARROW_GAP,
        math.log,
        lambda value: f"width is {value:.3g} times the height",
    ),
    "under_exposed": _OutlierCheck(
        "Under-exposed images",
        f"99 % of the pixels are darker than {100 * DARKEST:.0f} % of white, and far darker than in the other images. "
        "What the label is about may not be visible.",
        lambda _, statistics: statistics.dark,
        lambda value: value < DARKEST,
        -1,
        DARK_GAP,
        float,
        lambda value: f"99 % of the pixels are darker than {100 * value:.0f} % of white",
    ),
    "over_exposed": _OutlierCheck(
        "Over-exposed images",
        f"95 % of the pixels are brighter than {100 * LIGHTEST:.0f} % of white, and far brighter than in other images.",
        lambda _, statistics: statistics.light,
        lambda value: value > LIGHTEST,
        1,
        LIGHT_GAP,
        float,
        lambda value: f"95 % of the pixels are brighter than {100 * value:.0f} % of white",
    ),
    "blurred": _OutlierCheck(
        "Blurred images",
        f"Scaled to {SIDE} pixels, neighbouring pixels differ little: the variance of the Laplacian is below "
        f"{SOFTEST:.0f} and far below that of the other images. Smooth surfaces look the same, so check the pictures.",
        lambda _, statistics: statistics.sharpness,
        lambda value: value < SOFTEST,
        -1,
        SOFT_GAP,
        lambda value: math.log(value + 0.01),
        lambda value: f"variance of the Laplacian {value:.3g}",
    ),
}
BLANK = (
    "Blank images",
    "Nearly one colour: except for 0.1 % of the pixels at either end, all levels lie within "
    f"{BLANK_SPREAD:.0f} of 255. There is nothing that a label could be about.",
)


def image_quality_checks(
    policies: Mapping[str, Policy], images: Sequence[ImageRecord], statistics: Sequence[ImageStatistics]
) -> list[Check]:
    """Run every check whose policy is not `ignore`.

    Args:
        policies: by name: `blank` and those of `OUTLIER_CHECKS`.
        statistics: of the images, in their order.

    Returns:
        All checks; an image is listed only in the first one that finds it. The strongest outliers come first.
    """
    rows = list(zip(images, statistics, strict=True))
    blank = [row for row in rows if row[1].spread <= BLANK_SPREAD and policies["blank"] != "ignore"]
    issues = [
        _issue("blank", image, f"all within {of_image.spread:.3g} levels of 255", of_image.spread)
        for image, of_image in sorted(blank, key=lambda row: (row[1].spread, row[0].key))
    ]
    checks = [Check("blank", policies["blank"], *BLANK, issues)]
    for name, check in OUTLIER_CHECKS.items():
        reported = {issue.sha256 for issue in issues}
        rows = [row for row in rows if row[0].sha256 not in reported]
        issues = _find_outliers(name, check, rows) if policies[name] != "ignore" and rows else []
        checks.append(Check(name, policies[name], check.title, check.meaning, issues))
    return checks


def _find_outliers(name: str, check: _OutlierCheck, rows: Sequence[tuple[ImageRecord, ImageStatistics]]) -> list[Issue]:
    values = [check.statistic(*row) for row in rows]
    distances = scaled_distances(np.array([check.scale(value) for value in values]), check.gap)
    far = np.abs(distances) if check.sign == 0 else check.sign * distances
    outliers = [n for n, value in enumerate(values) if far[n] > 1 and check.is_beyond_limit(value)]
    outliers.sort(key=lambda n: (-far[n], rows[n][0].key))
    return [_issue(name, rows[n][0], check.describe(values[n]), values[n]) for n in outliers]


def scaled_distances(values: NDArray[np.float64], gap: float) -> NDArray[np.float64]:
    """The signed distance of each value from the median; 1 is the larger of `FAR` robust deviations and `gap`."""
    median = np.median(values)
    deviation = 1.4826 * np.median(np.abs(values - median))
    return np.asarray((values - median) / max(FAR * float(deviation), gap))


def _issue(check: str, image: ImageRecord, detail: str, value: float) -> Issue:
    return Issue(check, image.sha256, image.key, image.label, image.split or "", detail, "", value)
