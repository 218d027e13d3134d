"""Images that do not look like the others: blank, too dark or bright, blurred, of odd proportions.

In: images with their looks. Out: a check for each of these, with its findings.

An image is odd if it is both beyond a fixed limit and far from the rest of its data set: a factory whose pictures are
all dark, or all soft, has no odd ones. Far is `FAR` robust standard deviations (1.4826 times the median absolute
deviation) from the median, and never less than a named gap, as deviations are small where all images are alike.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from twofold.audit.checks import Check, Issue, Policy
from twofold.data.image_statistics import SIDE, ImageStatistics
from twofold.data.raw import ImageRecord

FAR = 4.0  # of a normal distribution one value in 30,000 lies that far to one side
BLANK_SPREAD = 8.0  # levels of 255
DARKEST, DARK_GAP = 0.32, 0.1  # share of white; the limits of cleanvision 0.3.7 for "dark" and "light"
LIGHTEST, LIGHT_GAP = 0.95, 0.1
# Levels squared: the limit that is in common use for the variance of the Laplacian, and a quarter of the usual one.
SOFTEST, SOFT_GAP = 100.0, math.log(4)
NARROWEST, NARROW_GAP = 0.35, math.log(1.5)  # shorter to longer side, as in cleanvision; and half as long again


class _Oddity(NamedTuple):
    """What makes a check: its figure, on which side of the limit it is odd, and how both are told."""

    title: str
    meaning: str
    figure: Callable[[ImageRecord, ImageStatistics], float]
    beyond: Callable[[float], bool]
    sign: int  # -1: odd images lie below the rest; 1: above; 0: on either side
    gap: float
    scale: Callable[[float], float]
    tell: Callable[[float], str]


def _plain(value: float) -> float:
    return value


ODDITIES: dict[str, _Oddity] = {
    "odd_aspect": _Oddity(
        "Images of odd proportions",
        f"The shorter side is less than {NARROWEST:.0%} of the longer one, and the proportions are far from those of "
        "the other images: a strip or a crop gone wrong. Squashed to a square, such an image shows little of itself.",
        lambda image, _: image.width / image.height,
        lambda value: min(value, 1 / value) < NARROWEST,
        0,
        NARROW_GAP,
        math.log,
        lambda value: f"width is {value:.3g} times the height",
    ),
    "under_exposed": _Oddity(
        "Under-exposed images",
        f"All but the brightest hundredth of the pixels are darker than {100 * DARKEST:.0f} % of white, and far darker "
        "than in the other images. What is to be seen may not be in them.",
        lambda _, look: look.dark,
        lambda value: value < DARKEST,
        -1,
        DARK_GAP,
        _plain,
        lambda value: f"99 % of the pixels are darker than {100 * value:.0f} % of white",
    ),
    "over_exposed": _Oddity(
        "Over-exposed images",
        f"All but the darkest twentieth of the pixels are brighter than {100 * LIGHTEST:.0f} % of white, and far "
        "brighter than in the other images.",
        lambda _, look: look.light,
        lambda value: value > LIGHTEST,
        1,
        LIGHT_GAP,
        _plain,
        lambda value: f"95 % of the pixels are brighter than {100 * value:.0f} % of white",
    ),
    "blurred": _Oddity(
        "Blurred images",
        f"Little contrast between neighbouring pixels at {SIDE} pixels: the variance of the Laplacian is below "
        f"{SOFTEST:.0f} and far below that of the other images. Smooth surfaces look the same: judge by the pictures.",
        lambda _, look: look.sharpness,
        lambda value: value < SOFTEST,
        -1,
        SOFT_GAP,
        lambda value: math.log(value + 0.01),
        lambda value: f"variance of the Laplacian {value:.3g}",
    ),
}
BLANK = (
    "Blank images",
    "Nearly one colour: but for the thousandth of the pixels at either end, all levels lie within "
    f"{BLANK_SPREAD:.0f} of 255. There is nothing in them that a label could be about.",
)


def image_quality_checks(
    policies: Mapping[str, Policy], images: Sequence[ImageRecord], looks: Sequence[ImageStatistics]
) -> list[Check]:
    """Look for every oddity whose policy is not `ignore`.

    Args:
        policies: by name: `blank` and those of `ODDITIES`.
        images: any number.
        looks: of the images, in their order.

    Returns:
        A check for each; an image stands in the first one alone that it belongs to. The oddest come first.
    """
    rest = list(zip(images, looks, strict=True))
    blank = [(image, look) for image, look in rest if look.spread <= BLANK_SPREAD and policies["blank"] != "ignore"]
    found = [
        _found("blank", image, f"all within {look.spread:.3g} levels of 255", look.spread)
        for image, look in sorted(blank, key=lambda row: (row[1].spread, row[0].key))
    ]
    checks = [Check("blank", policies["blank"], *BLANK, found)]
    taken = {image.sha256 for image, _ in blank}
    for name, oddity in ODDITIES.items():
        found = []
        if policies[name] != "ignore":
            rows = [row for row in rest if row[0].sha256 not in taken]
            found = _odd(name, oddity, rows)
            taken |= {one.sha256 for one in found}
        checks.append(Check(name, policies[name], oddity.title, oddity.meaning, found))
    return checks


def _odd(name: str, oddity: _Oddity, rows: Sequence[tuple[ImageRecord, ImageStatistics]]) -> list[Issue]:
    if not rows:
        return []
    values = [oddity.figure(*row) for row in rows]
    away = scaled_distances(np.array([oddity.scale(value) for value in values]), oddity.gap)
    far = np.abs(away) if oddity.sign == 0 else oddity.sign * away
    odd = sorted(
        (-far[place], rows[place][0].key, place)
        for place, value in enumerate(values)
        if far[place] > 1 and oddity.beyond(value)
    )
    return [_found(name, rows[place][0], oddity.tell(values[place]), values[place]) for _, _, place in odd]


def scaled_distances(values: NDArray[np.float64], gap: float) -> NDArray[np.float64]:
    """How far each value lies from the median, signed; 1 is where `far` begins (see above), and at least `gap`."""
    median = np.median(values)
    deviation = 1.4826 * np.median(np.abs(values - median))
    return np.asarray((values - median) / max(FAR * float(deviation), gap))


def _found(check: str, image: ImageRecord, detail: str, value: float) -> Issue:
    return Issue(check, image.sha256, image.key, image.label, image.split or "", detail, "", value)
