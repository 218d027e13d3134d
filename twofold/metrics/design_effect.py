"""Images in groups: how many groups a metric counts, and by how much groups inflate its variance.

Several images of one part, patient or batch are alike, and so are near duplicates; a metric on them is less certain
than its number of images says. The group is the sampling unit: the design effect (Kish 1965) is the variance of the
metric over groups divided by that over images, and a count of images divided by it is the effective number of images,
which the formulas for independent images take (Rao and Scott 1992, "A simple method for the analysis of clustered
binary data"; Korn and Graubard 1998 for exact intervals, with Student's t for few groups).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from twofold.metrics.confidence_intervals import ROUNDING, quantile

MIN_GROUPS = 10  # of each class that a metric counts; fewer say too little about how groups vary


class Groups(NamedTuple):
    """The sampling units of N images.

    Attributes:
        number: (N,) the number of each image's group, 0 to K - 1.
        clustered: whether a group holds more than one image.
    """

    number: NDArray[np.int64]
    clustered: bool

    def count(self, counted: NDArray[np.bool_]) -> int:
        """The number of groups with an image that counts."""
        return int(np.count_nonzero(np.bincount(self.number[counted])))


def sampling_units(names: Sequence[object]) -> Groups:
    """The units of images by the names of their groups; an image without a name (None) is a unit of its own."""
    numbers: dict[object, int] = {}
    units = [numbers.setdefault((row,) if name is None else name, len(numbers)) for row, name in enumerate(names)]
    return Groups(np.array(units, dtype=np.int64), len(numbers) < len(units))


def design_effect(influence: NDArray[np.float64], counted: NDArray[np.bool_], groups: Groups) -> float:
    """The variance over groups divided by the variance over images, at least 1; exactly 1 without groups.

    A few errors say little about how errors cluster. So one group of the average size is added, whose images are all
    as wrong as a wrong image is: without an error, the effective number of images is the number of groups.

    Args:
        influence: (N,) of each image on a metric, or on the difference of two models' metrics.
        counted: (N,) whether the metric is about the image.
        groups: of the images.
    """
    if not groups.clustered:
        return 1.0
    sizes = np.bincount(groups.number[counted])
    sizes = sizes[sizes > 0]
    size = float(np.square(sizes).sum() / sizes.sum())  # of an image's group, on average
    squares = np.square(influence)
    if len(sizes) < 2 or squares.max() < ROUNDING**2:
        return size
    typical = float(np.square(squares).sum() / squares.sum())  # of the images that make the variance
    sums = float(np.square(np.bincount(groups.number, weights=influence)).sum()) * len(sizes) / (len(sizes) - 1)
    return max((sums + typical * size**2) / (float(squares.sum()) + typical * size), 1.0)


def student_inflation(units: int, level: float) -> float:
    """By how much Student's t with units - 1 degrees of freedom inflates a variance, compared with the normal."""
    return (quantile(level, max(units - 1, 1)) / quantile(level)) ** 2
