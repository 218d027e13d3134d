"""What an error says about a source that does not offer two classes."""

import pytest

from twofold.sources.base import Entry, IgnoredFile, Listing
from twofold.sources.labels import OUTSIDE
from twofold.sources.layout_hints import explain_classes, is_near_table


def listing(*keys, ignored=(), hidden=()):
    entries = [Entry(key, key.split("/")[0], None, None, ()) for key in keys]
    return Listing(entries, [IgnoredFile(*item) for item in ignored], (), list(hidden))


def test_files_left_aside_are_counted_by_reason_and_the_first_are_named():
    refused = [(f"{name}.png", "", OUTSIDE, True) for name in "abcd"] + [("x", "", "a symbolic link to a folder", True)]
    text = explain_classes(listing("good/a.png", ignored=refused, hidden=["bad/.a.png", "bad/Thumbs.db"]))
    assert text.splitlines() == [
        "",
        "  left aside: 1 (x), a symbolic link to a folder",
        "  left aside: 2 (bad/.a.png, bad/Thumbs.db), hidden, or a system's or an editor's own",
        "  left aside: 4 (a.png, b.png, c.png, …), outside every class folder",
    ]


def test_nothing_is_said_where_nothing_is_known():
    assert explain_classes(listing("good/a.png", "bad/a.png", "ugly/a.png")) == ""
    assert explain_classes(listing()) == ""


@pytest.mark.parametrize(
    ("keys", "hint"),
    [
        (["train/a/x", "test/x"], "test: none; train: a"),
        (["train/a/x", "train/b/x", "val/a/x"], "train: a, b; val: a"),
        (["in/good/x", "in/bad/x", "in/ugly/x"], "in holds bad, good, ugly;"),
        (
            ["in/train/a/x", "in/test/a/x"],
            "in holds test, train; if they are the classes or splits, make it the source",
        ),
        (["Bad/x", "bad/x", "good/x"], "some differ only in upper and lower case"),
        (
            ["set/labels.csv", "set/x"],
            "set/labels.csv: a table of labels must be called labels.csv, in the source's own",
        ),
    ],
)
def test_the_layout_is_explained(keys, hint):
    assert hint in explain_classes(listing(*keys))


@pytest.mark.parametrize(
    "name",
    ["Labels.csv", "LABELS.CSV", "label.csv", "labels.csv.txt", "labels (1).csv", "labels.tsv", "train_labels.csv"],
)
def test_a_name_near_that_of_the_table(name):
    assert is_near_table(name)
    assert f"{name}: a table" in explain_classes(listing("good/a", ignored=[(name, "", OUTSIDE, True)]))


@pytest.mark.parametrize("name", ["README.md", "metadata.csv", "classes.txt", "photo.png", "good/Labels.csv"])
def test_other_names(name):
    assert not is_near_table(name)
