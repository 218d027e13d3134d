"""Groups of images and the design effect against values computed by hand and known designs."""

import numpy as np
import pytest

from twofold.metrics.design_effect import Groups, design_effect, sampling_units, student_inflation


def effect(influence, names, counted=None):
    values = np.asarray(influence, dtype=float)
    return design_effect(values, np.ones(len(values), bool) if counted is None else counted, sampling_units(names))


def test_an_image_without_a_name_is_a_unit_of_its_own():
    number, clustered = sampling_units(["a", None, "b", "a", None, None])
    assert number.tolist() == [0, 1, 2, 0, 3, 4]
    assert clustered
    assert not sampling_units([None, None, "a", "b"]).clustered
    assert sampling_units([]).number.tolist() == []
    # A name may look like a number of a row.
    assert sampling_units([1, None, 1]).number.tolist() == [0, 1, 0]


def test_without_groups_it_is_exactly_1():
    errors = np.random.default_rng(0).normal(size=50)
    assert effect(errors, [None] * 50) == 1
    assert effect(errors, range(50)) == 1
    assert design_effect(errors, np.ones(50, bool), Groups(np.arange(50), False)) == 1


def test_two_groups_are_enough_for_it():
    # Their sums are 0, and one group of two equal errors is added: (0 + 2 * 2) / (4 + 2), which is at least 1.
    assert effect([1, -1, 1, -1], list("aabb")) == 1
    assert effect([1, -1], list("aa")) == 2


@pytest.mark.parametrize("size", [2, 5, 8])
def test_identical_copies_count_as_one_image(size):
    rng = np.random.default_rng(size)
    for groups, tolerance in ((30, 0.1), (3000, 0.002)):
        names = np.repeat(np.arange(groups), size)
        errors = np.repeat(rng.normal(size=groups), size)
        order = rng.permutation(len(names))  # groups need not be neighbours
        assert effect((errors - errors.mean())[order], names[order].tolist()) == pytest.approx(size, rel=tolerance)


def test_one_wrong_group_by_hand():
    # Four groups of two; both images of the first weigh 3, all others -1: sums 6, -2, -2, -2, squares 48 by 3/4.
    # One group as wrong as a wrong image is added: fourth powers 2 * 81 + 6 = 168 by squares 24 make 7 an image.
    errors = [3, 3, *[-1] * 6]
    assert effect(errors, [0, 0, 1, 1, 2, 2, 3, 3]) == pytest.approx((48 * 4 / 3 + 7 * 4) / (24 + 7 * 2))


def test_without_an_error_it_is_the_size_of_an_images_group():
    assert effect(np.zeros(40), [row // 4 for row in range(40)]) == 4
    # Sizes 1, 2 and 3: an image's group has (1 + 4 + 9) / 6 images.
    assert effect(np.zeros(6), ["a", "b", "b", "c", "c", "c"]) == pytest.approx(14 / 6)
    assert effect([0.5, -0.5], ["a", "a"]) == 2  # one group says nothing about others


def test_only_images_that_count_make_a_group_larger():
    counted = np.array([True, False, False, True, True, False])
    assert effect(np.zeros(6), ["a", "a", "a", "b", "b", "c"], counted) == pytest.approx((1 + 4) / 3)


def test_it_is_never_below_1():
    # In each group one error takes back the other, in far more groups than the added one outweighs.
    errors = np.tile([1.0, -1.0], 500)
    assert effect(errors, [row // 2 for row in range(1000)]) == 1


def test_errors_that_do_not_cluster_hardly_count():
    errors = np.random.default_rng(3).normal(size=8000)
    assert effect(errors - errors.mean(), [row // 4 for row in range(8000)]) == pytest.approx(1, abs=0.05)


def test_a_common_part_of_errors_counts_as_kish_says():
    # 1 + (size - 1) * ICC, here of groups of 8 with ICC .7.
    rng = np.random.default_rng(4)
    errors = np.repeat(rng.normal(size=4000), 8) * 0.7**0.5 + rng.normal(size=32_000) * 0.3**0.5
    names = np.repeat(np.arange(4000), 8).tolist()
    assert effect(errors - errors.mean(), names) == pytest.approx(1 + 7 * 0.7, rel=0.05)


def test_groups_of_unequal_sizes_count_by_their_images():
    # 300 groups of one image and 300 of nine copies: variance 300 + 300 * 81 of 300 + 300 * 9.
    rng = np.random.default_rng(5)
    sizes = np.array([1] * 300 + [9] * 300)
    errors = np.repeat(rng.choice([-1.0, 1.0], 600), sizes)
    names = np.repeat(np.arange(600), sizes).tolist()
    assert effect(errors, names) == pytest.approx(24_600 / 3000, rel=0.01)


def test_few_units_inflate_by_students_t():
    # 2.2622 with nine degrees of freedom, and 12.706 with one, against 1.96.
    assert student_inflation(10, 0.95) == pytest.approx((2.262157 / 1.959964) ** 2, rel=1e-5)
    assert (
        student_inflation(1, 0.95) == student_inflation(2, 0.95) == pytest.approx((12.7062 / 1.959964) ** 2, rel=1e-5)
    )
    assert student_inflation(100_000, 0.9) == pytest.approx(1, abs=1e-4)
