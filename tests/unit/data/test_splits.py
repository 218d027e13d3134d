"""Splits that do not change when data is added, and the exclusion of exact duplicates."""

from collections import Counter

import pytest

from tests.support.makers import image_record
from twofold.core.errors import DataError
from twofold.data.splits import assign_splits, check_splits, count_split_groups, find_repeats

MANY = [image_record(number) for number in range(4000)]


def splits_of(images, test=0.2, validation=0.15, salt="s"):
    splits = assign_splits(images, test=test, validation=validation, salt=salt)
    return dict(zip((one.sha256 for one in images), splits, strict=True))


def test_fractions_are_close_to_the_requested_ones():
    counts = Counter(splits_of(MANY).values())
    assert abs(counts["test"] / 4000 - 0.2) < 0.02
    assert abs(counts["validation"] / 4000 - 0.15) < 0.02


def test_data_added_in_three_steps_has_the_same_splits_as_all_at_once():
    whole = splits_of(MANY)
    for count in (500, 2000, 4000):
        part = splits_of(list(reversed(MANY[:count])))
        assert part == {sha256: whole[sha256] for sha256 in part}


def test_a_renamed_image_keeps_its_split():
    renamed = [one._replace(key=f"renamed/{number}.png") for number, one in enumerate(MANY[:500])]
    assert splits_of(renamed) == splits_of(MANY[:500])


def test_another_validation_share_never_touches_test():
    before, after = splits_of(MANY), splits_of(MANY, validation=0.4)
    tests = {sha256 for sha256, split in before.items() if split == "test"}
    assert tests == {sha256 for sha256, split in after.items() if split == "test"}
    # A larger fraction moves no image back to train either.
    assert all(after[sha256] == "validation" for sha256, split in before.items() if split == "validation")


def test_a_larger_test_share_keeps_the_old_test_images():
    before, after = splits_of(MANY), splits_of(MANY, test=0.3)
    assert all(after[sha256] == "test" for sha256, split in before.items() if split == "test")


def test_another_salt_draws_other_splits():
    assert splits_of(MANY) != splits_of(MANY, salt="t")


def test_a_group_stays_together():
    images = [one._replace(group=f"g{number % 300}") for number, one in enumerate(MANY)]
    splits = assign_splits(images, test=0.2, validation=0.2, salt="s")
    assert count_split_groups(images, splits) == 0
    assert len(set(splits)) == 3
    assert count_split_groups(images, ["train"] * 3999 + ["test"]) == 1


def test_given_splits_win():
    images = [one._replace(split="validation", group="g") for one in MANY[:5]] + [MANY[5]._replace(split="test")]
    assert assign_splits(images, test=0.9, validation=0.05, salt="s") == ["validation"] * 5 + ["test"]
    with pytest.raises(DataError, match="6 of 7 images came with a split"):
        assign_splits([*images, MANY[6]], test=0.1, validation=0.1, salt="s")


def test_duplicates_across_splits_are_excluded_from_the_one_closer_to_training():
    names = ["t", "v", "tr", "alone", "tr2"]
    images = [image_record(name, content="same" if name != "alone" else "other") for name in names]
    splits = ["test", "validation", "train", "train", "train"]
    out = find_repeats(images, splits)
    assert sorted(out) == [1, 2, 4]
    assert {left.of for left in out.values()} == {images[0].sha256}
    assert out[1] == (images[1].sha256, "v.png", "validation", "same pixels as an image of test", images[0].sha256)
    without_test = find_repeats(images[1:], splits[1:])
    assert {left.reason for left in without_test.values()} == {"same pixels as an image of validation"}


def test_of_duplicates_within_a_split_one_stays_whatever_the_order():
    pair = [image_record("a", content="same"), image_record("b", content="same")]
    kept = [
        {one.sha256 for place, one in enumerate(order) if place not in find_repeats(order, ["test", "test"])}
        for order in (pair, pair[::-1])
    ]
    assert kept[0] == kept[1] == {min(one.sha256 for one in pair)}


def test_every_split_needs_both_classes():
    splits = ["train", "train", "validation", "validation", "test", "test"]
    assert check_splits(labelled("bgbgbg"), splits, ["good", "bad"])["test"] == {"good": 1, "bad": 1}
    with pytest.raises(DataError, match=r"validation: 1 good, 1 bad; test: 1 good, 0 bad; .*"):
        check_splits(labelled("bgbgg"), splits[:5], ["good", "bad"])


def labelled(letters, **changes):
    names = {"b": "bad", "g": "good"}
    return [image_record(number, label=names[one], **changes) for number, one in enumerate(letters)]


HINTS = {
    "no image of a class in test": (labelled("bgbgbgg"), "tvtvvvt", "add images, raise preprocess.test_fraction, or"),
    "none of either class outside train": (
        labelled("bgbgbg"),
        "tttttt",
        "raise preprocess.test_fraction and raise preprocess.validation_fraction, or",
    ),
    "none in train": (labelled("bgbgbg"), "vvvsss", "add images, lower both fractions, or give a split column"),
    "one group": (labelled("bgbgbg", group="g"), "tttttt", "1 groups, which are never divided .*at least 3 are needed"),
    "a group for each class": (
        [image._replace(group=image.label) for image in labelled("bgbgbg")],
        "tsttss",
        "1 groups, which are never divided between splits; at least 3 are needed",
    ),
    "two images of a class": (labelled("bbgggg"), "ttvvss", "bad has 2 images; at least 3 are needed"),
    "given splits": (labelled("bgbg", split="train"), "ttvv", "splits are given.*put both classes into test"),
    "given splits without train": (labelled("bgbgg", split="test"), "vvssv", "put both classes into train"),
}


@pytest.mark.parametrize("name", HINTS)
def test_the_hint_for_a_split_without_a_class_can_help(name):
    images, letters, hint = HINTS[name]
    splits = [{"t": "train", "v": "validation", "s": "test"}[letter] for letter in letters]
    with pytest.raises(DataError, match=hint) as caught:
        check_splits(images, splits, ["good", "bad"])
    assert ("raise" in str(caught.value)) == ("raise" in hint)
