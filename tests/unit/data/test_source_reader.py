"""Cached files of a local folder are not sent to the workers; the result and its order are the same."""

import numpy as np
import pytest

from tests.support.makers import encode, make_folder, pixels
from twofold.data import source_reader
from twofold.data.decoding import Limits
from twofold.data.source_reader import read_files, set_texts_aside
from twofold.sources.base import IgnoredFile
from twofold.sources.local_folder import FolderSource
from twofold.storage import cache

LIMITS = Limits(max_bytes=100_000, max_pixels=10_000, min_side=4)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """70 images in several tasks; one is damaged, one has the content of another, one is too large."""
    monkeypatch.setenv("TWOFOLD_WORKERS", "2")
    root = make_folder(tmp_path / "images", per_class=35, size=16)
    paths = sorted(root.glob("*/*.png"))
    paths[3].write_bytes(paths[3].read_bytes()[:-20])
    paths[40].write_bytes(paths[41].read_bytes())
    paths[50].write_bytes(bytes(LIMITS.max_bytes + 1))
    return root


@pytest.fixture
def sent(monkeypatch):
    """The keys that went to the workers."""
    keys = []
    uncached_tasks = source_reader._uncached_tasks

    def recorded(*args):
        for task in uncached_tasks(*args):
            keys.extend(request.key for request in task)
            yield task

    monkeypatch.setattr(source_reader, "_uncached_tasks", recorded)
    return keys


def read(root):
    source = FolderSource(root)
    return list(read_files(source, source.listing().entries, LIMITS, strict=False))


def read_alone(root, monkeypatch):
    """Read by one process without threads, and with an empty cache."""
    with monkeypatch.context() as patch:
        patch.setenv("TWOFOLD_WORKERS", "1")
        patch.setenv("TWOFOLD_CACHE", str(root.parent / "another"))
        return read(root)


def test_cached_files_do_not_go_to_the_workers(folder, sent, monkeypatch):
    expected = read_alone(folder, monkeypatch)
    assert read(folder) == expected
    keys = [one.key for one in expected]
    assert len(keys) == 70
    assert sent == keys
    sent.clear()
    assert read(folder) == expected
    assert sent == [one.key for one in expected if "100001 bytes" in one.seen.reason]


def test_new_files_among_cached_ones_keep_their_order(folder, sent, monkeypatch):
    read(folder)
    sent.clear()
    paths = sorted(folder.glob("*/*.png"))
    new = [paths[place] for place in (0, 1, 33, 69)]  # the first of a task, in the middle, the last of all
    for number, path in enumerate(new):
        path.write_bytes(encode(pixels(np.random.default_rng([7, number]), 16, bad=True)))
    found = read(folder)
    assert found == read_alone(folder, monkeypatch)
    assert {path.relative_to(folder).as_posix() for path in new} <= set(sent)
    # If the first file of a task is new, the others are not looked up.
    assert set(sent) >= {one.key for one in found[:32]}
    assert len(sent) < 40


def test_an_invalid_cached_value_is_not_used(folder, sent, monkeypatch):
    expected = read(folder)
    get = cache.lookup

    def cut_short(keys):
        return {key: value[:-1] for key, value in get(keys).items()}

    def swapped(keys):
        found = get(keys)
        return dict(zip(found, reversed(found.values()), strict=True)) if len(found) > 1 else {}

    for wrong in (cut_short, swapped):
        monkeypatch.setattr(cache, "lookup", wrong)
        sent.clear()
        assert read(folder) == expected
        assert len(sent) == 70


def test_a_missing_file_is_reported_by_a_worker(folder, sent):
    source = FolderSource(folder)
    entries = source.listing().entries
    (folder / entries[9].key).write_bytes(b"")  # so that the result for empty content is cached
    list(read_files(source, entries, LIMITS, strict=False))
    sent.clear()
    (folder / entries[5].key).unlink()
    found = list(read_files(source, entries, LIMITS, strict=False))
    assert found[5].seen.reason == "no such file"
    assert entries[5].key in sent
    assert [one.key for one in found] == [entry.key for entry in entries]


def test_an_error_of_the_source_is_raised(folder, monkeypatch):
    read(folder)

    def broken(self, requests, limit):
        raise RuntimeError("the disk is gone")

    monkeypatch.setattr(FolderSource, "fetch", broken)
    with pytest.raises(RuntimeError, match="the disk is gone"):
        read(folder)


@pytest.mark.parametrize(
    ("data", "counts"),
    [
        (b"# Images\n", False),
        ("Lizenz für Bilder".encode("latin-1"), False),
        (encode(pixels(np.random.default_rng(0), 16, True), "JPEG"), True),
        (encode(pixels(np.random.default_rng(0), 16, True), "WEBP"), True),
        (b"GIF89a" + bytes(9), True),
        (b"", True),
        (b"\0" + bytes(1 << 21), True),
    ],
)
@pytest.mark.parametrize("name", ["a.md", "a.png", "a"])
def test_outside_every_class_folder_a_text_counts_as_no_image(tmp_path, name, data, counts):
    source = FolderSource(make_folder(tmp_path / "images", per_class=1, size=16))
    (source.root / name).write_bytes(data)
    (item,) = set_texts_aside(source, source.listing().ignored)
    assert (item.key, item.counts, item.reason.endswith("outside every class folder")) == (name, counts, True)


def test_other_files_that_are_not_offered_are_not_read():
    items = [IgnoredFile("a\\n.md", "", "rename it", True), IgnoredFile("b.md", "", "not named in labels.csv", False)]
    assert set_texts_aside(None, items) == items
