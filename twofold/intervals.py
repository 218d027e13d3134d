"""How far a measured rate may be from the true one: in come counts, out goes a 95 % interval."""

import math
from typing import NamedTuple

Z = 1.959963984540054  # the normal distribution's 97.5 % point


class Interval(NamedTuple):
    """Both ends in 0..1."""

    low: float
    high: float


def wilson(hits: int, n: int) -> Interval | None:
    """95 % interval for the rate hits / n; None where n is 0 and there is no rate.

    Wilson (1927), "Probable inference, the law of succession, and statistical inference". It takes the n images to be
    independent: several images of one group make the true interval wider.
    """
    if n == 0:
        return None
    rate = hits / n
    middle = rate + Z * Z / (2 * n)
    reach = Z * math.sqrt(rate * (1 - rate) / n + Z * Z / (4 * n * n))
    scale = 1 + Z * Z / n
    # The ends are exact by the formula, and a rounding away from it by the machine.
    low = 0.0 if hits == 0 else (middle - reach) / scale
    high = 1.0 if hits == n else (middle + reach) / scale
    return Interval(low, high)
