"""The calibration error against cases computed by hand."""

import numpy as np
import pytest

from twofold.core.errors import DataError
from twofold.metrics.calibration import BINS, ece_interval, expected_calibration_error, reliability_bins
from twofold.metrics.curves import bin_numbers

# .9 four times, three of them positive; .1 six times, none of them positive.
TARGET, PROBABILITY = [1, 1, 1, 0, *[0] * 6], [0.9] * 4 + [0.1] * 6


def test_distances_are_averaged_over_the_images():
    # |.9 - .75| on 4 and |.1 - 0| on 6 of 10.
    assert expected_calibration_error(TARGET, PROBABILITY) == pytest.approx((4 * 0.15 + 6 * 0.1) / 10, abs=1e-12)


def test_errors_within_a_bin_cancel():
    # .61 and .65 share the bin 9/15 to 10/15; they sum to 1.26 for one positive image: .13 too much each.
    assert expected_calibration_error([1, 0], [0.61, 0.65]) == pytest.approx(0.13, abs=1e-12)
    # .59 and .61 do not.
    assert expected_calibration_error([1, 0], [0.59, 0.61]) == pytest.approx((0.41 + 0.61) / 2, abs=1e-12)


def test_the_bins_of_the_diagram():
    found = reliability_bins([0, 1, 1, 0], [0.0, 0.95, 1.0, 0.97])
    assert found.low.tolist() == [0, 14 / 15]
    assert found.high.tolist() == [1 / 15, 1]
    assert (found.n.tolist(), found.positive.tolist()) == ([1, 3], [0, 2])
    assert found.probability == pytest.approx([0, 2.92 / 3])
    assert found.share == pytest.approx([0, 2 / 3])


def test_a_bin_holds_its_lower_edge_and_the_last_one_both():
    assert bin_numbers(np.array([0.0, 0.2, np.nextafter(0.2, 0), 14 / 15, 1.0]), BINS).tolist() == [0, 3, 2, 14, 14]


def test_all_right_and_all_wrong():
    assert expected_calibration_error([1, 0], [1.0, 0.0]) == 0
    assert expected_calibration_error([0, 1], [1.0, 0.0]) == 1


def test_invalid_probabilities_are_rejected():
    with pytest.raises(DataError, match="lie outside 0"):
        expected_calibration_error([1, 0], [0.5, 1.5])


def test_the_interval_holds_the_measured_error_and_zero_only_if_that_may_be_chance():
    # Of 100 images at .8, 80 are positive, 75 are, 60 are. The number of positive ones has a standard deviation of 4.
    for positive, chance in ((80, True), (75, True), (60, False)):
        target, probability = [1] * positive + [0] * (100 - positive), [0.8] * 100
        found, measured = ece_interval(target, probability), expected_calibration_error(target, probability)
        assert measured == pytest.approx(0.8 - positive / 100, abs=1e-12)
        assert found.low <= measured <= found.high
        assert (found.low == 0) == chance, positive
    # 60: 1.96 standard deviations of about sqrt(.6 * .4 / 100) = .049 to either side of .2.
    assert found == pytest.approx((0.104, 0.296), abs=0.02)


def test_the_interval_is_the_same_each_time_and_narrower_for_more_images():
    rng = np.random.default_rng(1)
    probability = rng.random(2000)
    target = (rng.random(2000) < 0.5 + (probability - 0.5) * 0.5).astype(int)
    small, large = ece_interval(target[:200], probability[:200]), ece_interval(target, probability)
    assert large == ece_interval(target, probability)
    assert large.high - large.low < (small.high - small.low) / 2


def test_bins_of_a_few_positive_images_do_not_prove_shares_of_1():
    target, probability = [1] * 8, [0.97] * 3 + [0.8] * 5
    # Under shares of 1 the measured error would be the largest possible one.
    assert ece_interval(target, probability).high > expected_calibration_error(target, probability) + 0.03


def test_few_images_have_a_valid_interval():
    for target, probability in (([1], [0.9]), ([0, 1], [0.0, 1.0]), ([0, 1], [1.0, 0.0]), ([1, 0, 1], [0.5] * 3)):
        found = ece_interval(target, probability)
        assert 0 <= found.low <= expected_calibration_error(target, probability) <= found.high <= 1


def test_no_error_on_few_images_does_not_prove_a_perfect_calibration():
    # All of n are right at the probability 1: the upper bound is that of 0 of n, 1 less the n-th root of .025.
    for n in (3, 20, 100):
        assert ece_interval([1] * n, [1.0] * n) == pytest.approx((0, 1 - 0.025 ** (1 / n)), abs=0.03), n
        # All of n are wrong: the lower bound mirrors it.
        assert ece_interval([0] * n, [1.0] * n) == pytest.approx((0.025 ** (1 / n), 1), abs=0.05), n


def test_a_bin_of_two_positive_images_does_not_prove_a_share_of_1():
    # At .8 both are positive: shares from sqrt(.025) = .158 may be, and the error of .8 less that.
    low, high = ece_interval([1, 1], [0.8, 0.8])
    assert low == 0
    assert 0.642 <= high <= 0.8


def test_a_bin_without_a_gap_does_not_prove_that_there_is_none():
    # Half of 100 are positive at .5: true shares of .46 and .54, a standard deviation of .05 away, may well be.
    low, high = ece_interval([0, 1] * 50, [0.5] * 100)
    assert low == 0
    assert 0.03 < high < 0.1
    # At .998 all of 100 are positive: shares down to .025^(1/100) = .964 may be.
    assert ece_interval([1] * 100, [0.998] * 100) == pytest.approx((0, 0.998 - 0.025**0.01), abs=0.02)


def test_inflation_counts_each_image_as_a_part_of_one():
    rng = np.random.default_rng(2)
    probability = rng.random(400)
    target = (rng.random(400) < 0.5 + (probability - 0.5) * 0.5).astype(int)
    plain, inflated = ece_interval(target, probability), ece_interval(target, probability, inflation=4)
    # Both ends fall, as more of the measured error may be chance.
    assert (inflated.low < plain.low) and (inflated.high - inflated.low > 1.3 * (plain.high - plain.low))
    # 80 of 100 at .5, four images to a group: as 20 of 25.
    few, groups = ece_interval([1] * 20 + [0] * 5, [0.5] * 25), ece_interval([1] * 80 + [0] * 20, [0.5] * 100, 0.95, 4)
    assert groups == pytest.approx(few, abs=0.005)
    # Without an error too: 10 groups of 10 images tell what 10 images do.
    assert ece_interval([1] * 100, [1.0] * 100, 0.95, 10) == pytest.approx((0, 1 - 0.025**0.1), abs=0.03)


def test_no_image_in_the_highest_bins_is_no_error():
    found = ece_interval([0, 1, 0, 0], [0.1, 0.2, 0.2, 0.1])
    assert 0 <= found.low <= found.high <= 1
