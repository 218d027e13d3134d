"""What the memo knows of a local folder is looked up beside the workers; what comes out is the same, in its order."""

import numpy as np
import pytest

from tests.support.makers import encode, make_folder, pixels
from twofold.data import source_reader
from twofold.data.decoding import Limits
from twofold.data.source_reader import read_files
from twofold.sources.local_folder import FolderSource
from twofold.storage import cache

LIMITS = Limits(max_bytes=100_000, max_pixels=10_000, min_side=4)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """70 images, so that there are several tasks; one is damaged, one is of another's content, one too large."""
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
    unknown = source_reader._unknown

    def noted(*given):
        for task in unknown(*given):
            keys.extend(one.key for one in task)
            yield task

    monkeypatch.setattr(source_reader, "_unknown", noted)
    return keys


def take(root):
    source = FolderSource(root)
    return list(read_files(source, source.listing().entries, LIMITS, strict=False))


def alone(root, monkeypatch):
    """By one process, which looks nothing up beside itself, and without a memo."""
    with monkeypatch.context() as patch:
        patch.setenv("TWOFOLD_WORKERS", "1")
        patch.setenv("TWOFOLD_CACHE", str(root.parent / "another"))
        return take(root)


def test_known_files_do_not_go_to_the_workers(folder, sent, monkeypatch):
    expected = alone(folder, monkeypatch)
    assert take(folder) == expected
    keys = [one.key for one in expected]
    assert len(keys) == 70
    assert sent == keys
    sent.clear()
    assert take(folder) == expected
    assert sent == [one.key for one in expected if "100001 bytes" in one.seen.reason]


def test_new_files_among_known_ones_come_out_in_their_place(folder, sent, monkeypatch):
    take(folder)
    sent.clear()
    paths = sorted(folder.glob("*/*.png"))
    new = [paths[place] for place in (0, 1, 33, 69)]  # the first of a task, in the middle, the last of all
    for number, path in enumerate(new):
        path.write_bytes(encode(pixels(np.random.default_rng([7, number]), 16, bad=True)))
    found = take(folder)
    assert found == alone(folder, monkeypatch)
    assert {path.relative_to(folder).as_posix() for path in new} <= set(sent)
    # A task whose first file is new is not looked at further.
    assert set(sent) >= {one.key for one in found[:32]}
    assert len(sent) < 40


def test_an_entry_that_is_another_files_or_none_is_not_believed(folder, sent, monkeypatch):
    expected = take(folder)
    get = cache.lookup

    def cut_short(keys):
        return {key: value[:-1] for key, value in get(keys).items()}

    def swapped(keys):
        found = get(keys)
        return dict(zip(found, reversed(found.values()), strict=True)) if len(found) > 1 else {}

    for wrong in (cut_short, swapped):
        monkeypatch.setattr(cache, "lookup", wrong)
        sent.clear()
        assert take(folder) == expected
        assert len(sent) == 70


def test_a_file_that_went_missing_is_told_by_the_worker(folder, sent):
    source = FolderSource(folder)
    entries = source.listing().entries
    (folder / entries[9].key).write_bytes(b"")  # so that "empty" is known of no bytes
    list(read_files(source, entries, LIMITS, strict=False))
    sent.clear()
    (folder / entries[5].key).unlink()
    found = list(read_files(source, entries, LIMITS, strict=False))
    assert found[5].seen.reason == "no such file"
    assert entries[5].key in sent
    assert [one.key for one in found] == [entry.key for entry in entries]


def test_a_source_that_fails_ends_it(folder, monkeypatch):
    take(folder)

    def broken(self, wanted, limit):
        raise RuntimeError("the disk is gone")

    monkeypatch.setattr(FolderSource, "fetch", broken)
    with pytest.raises(RuntimeError, match="the disk is gone"):
        take(folder)
