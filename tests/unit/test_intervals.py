"""Wilson's interval against values worked out by hand."""

import pytest

from twofold.intervals import wilson


def test_eight_of_ten():
    # z^2 = 3.8415. Middle (.8 + .19207) / 1.38415 = .71674; reach 1.96 * sqrt(.016 + .0096037) / 1.38415 = .22658.
    assert wilson(8, 10) == pytest.approx((0.49016, 0.94332), abs=1e-5)


def test_none_and_all_stay_within_bounds():
    # z^2 / (n + z^2) = 3.8415 / 13.8415
    assert wilson(0, 10) == pytest.approx((0, 0.27753), abs=1e-5)
    assert wilson(10, 10) == pytest.approx((0.72247, 1), abs=1e-5)
    assert wilson(0, 10).low == 0
    assert wilson(10, 10).high == 1


def test_no_images_no_interval():
    assert wilson(0, 0) is None
