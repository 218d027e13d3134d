"""How many candidates the test images have judged, image by image, and the error rate that is left."""

import pytest

from twofold.promotion import test_reuse as reuse
from twofold.promotion.test_reuse import EarlierTest, Looks, confidence_text, count_looks, error_rate

FIFTY = reuse.TestReuse(candidates=50, error_rate=0.005)
OLD = frozenset("abcdefgh")


@pytest.mark.parametrize(
    ("candidates", "look", "rate"),
    [
        (50, 1, 0.05),
        (50, 2, 0.05),  # the first that has a champion beside it
        (50, 3, 0.025),
        (50, 11, 0.005),
        (50, 12, 0.005),
        (50, 50, 0.005),
        (50, 51, 0.0),
        (0, 10_000, 0.05),
    ],
)
def test_the_error_rate_falls_with_the_comparisons_and_after_the_last_candidate_none_is_left(candidates, look, rate):
    assert error_rate(reuse.TestReuse(candidates=candidates, error_rate=0.005), look) == pytest.approx(rate)


def test_the_bounds_confidence_in_words():
    assert [confidence_text(rate) for rate in (0.05, 0.002, 0.1 / 3)] == ["95 %", "99.8 %", "96.67 %"]


@pytest.mark.parametrize(
    ("images", "earlier", "candidate", "promoted"),
    [
        ("abcdefgh", [], 1, 0),
        ("abcdefgh", [EarlierTest(OLD, 36, 3)], 37, 3),
        # Grown by as many images: half of 36. One image of eight is old: 36 / 8, rounded up.
        ("abcdefghijklmnop", [EarlierTest(OLD, 36, 3)], 19, 2),
        ("aijklmno", [EarlierTest(OLD, 36, 3)], 6, 1),
        ("ijkl", [EarlierTest(OLD, 36, 3)], 1, 0),
        # A subset was judged as often as the whole.
        ("abcd", [EarlierTest(OLD, 36, 3)], 37, 3),
        # The sum over several tests, rounded once: (8 * 2 + 4 * 1 + 2 * 3) / 8 = 3.25.
        ("abcdefgh", [EarlierTest(frozenset(t), n, 1) for t, n in (("abcdefgh", 2), ("efghx", 1), ("ab", 3))], 5, 2),
        # Ten tenths are one, not a little more.
        ("abcdefghij", [EarlierTest(frozenset(letter), 1, 0) for letter in "abcdefghij"], 2, 0),
    ],
)  # fmt: skip
def test_the_candidates_number_is_the_mean_over_its_images(images, earlier, candidate, promoted):
    looks = count_looks(list(images), FIFTY, earlier)
    assert (looks.candidate, looks.promoted, looks.uncounted) == (candidate, promoted, 0)


def test_a_test_without_its_list_of_images_is_not_counted_and_that_is_said():
    looks = count_looks(list("ab"), FIFTY, [EarlierTest(None, 4, 1), EarlierTest(frozenset("ab"), 2, 1)])
    gone = "(not counted: 4, their lists of images are gone)"
    assert looks.words == f"candidate 3 (limit 50) on these test images, 1 promoted before {gone}"


def test_a_candidate_that_was_judged_before_keeps_its_number_under_the_present_limit():
    recorded = Looks(candidate=7, promoted=2, allowed=50, error_rate=0.002)
    again = count_looks(
        list("ab"), reuse.TestReuse(candidates=5, error_rate=0.005), [EarlierTest(OLD, 30, 9)], recorded
    )
    assert (again.candidate, again.promoted, again.allowed, again.error_rate) == (7, 2, 5, 0.0)


def test_the_first_candidate_is_number_1():
    assert Looks().words == "candidate 1 on these test images, 0 promoted before"


def test_without_a_limit_the_number_is_said_alone():
    looks = count_looks(list("ab"), reuse.TestReuse(candidates=0, error_rate=0.005), [EarlierTest(OLD, 36, 3)])
    assert (looks.words, looks.error_rate) == ("candidate 37 on these test images, 3 promoted before", 0.05)
