import csv
import io
import json
import math
import os
import stat
from pathlib import Path

import numpy as np
import pytest

from twofold.core.artifacts import (
    digest,
    publish,
    read_csv,
    read_json,
    read_meta,
    write_all,
    write_bytes,
    write_csv,
    write_json,
    write_meta,
)
from twofold.core.errors import ArtifactError


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_publishing_replaces_the_old_folder(tmp_path):
    target = tmp_path / "out" / "thing"
    for content in ("old", "new"):
        with publish(target) as draft:
            (draft / f"{content}.txt").write_text(content)
            assert not (target / "new.txt").exists()
    assert names(target) == ["new.txt"]
    assert names(tmp_path / "out") == ["thing"]


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_the_umask_decides_who_may_read_a_published_file(tmp_path, umask, mode):
    before = os.umask(umask)
    try:
        with publish(tmp_path / "thing") as draft:
            (draft / "a").write_text("a")
            (draft / "a").chmod(0o600)  # as safetensors leaves its files
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "thing" / "a").stat().st_mode) == mode


def test_a_failed_publication_keeps_the_old_folder_and_removes_the_temporary_one(tmp_path):
    target = tmp_path / "thing"
    with publish(target) as draft:
        (draft / "a").write_text("old")
    with pytest.raises(RuntimeError), publish(target) as draft:
        (draft / "a").write_text("half")
        raise RuntimeError
    assert (target / "a").read_text() == "old"
    assert names(tmp_path) == ["thing"]


def test_a_failed_write_keeps_the_old_file_and_removes_the_temporary_one(tmp_path, monkeypatch):
    write_bytes(tmp_path / "a", b"old")

    def no_space(*_):
        raise OSError("no space left on device")

    monkeypatch.setattr("twofold.core.artifacts.os.replace", no_space)
    with pytest.raises(OSError, match="no space"):
        write_bytes(tmp_path / "a", b"new")
    assert (tmp_path / "a").read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nan_and_infinity_are_refused(tmp_path, bad):
    with pytest.raises(ArtifactError, match=r"m\.json"):
        write_json(tmp_path / "m.json", {"accuracy": bad})
    assert names(tmp_path) == []


def test_json_bytes_do_not_depend_on_the_order_of_keys(tmp_path):
    write_json(tmp_path / "a", {"b": 1, "a": 2})
    write_json(tmp_path / "b", {"a": 2, "b": 1})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize(("text", "words"), [("{", "not JSON"), ("[]", "must be a JSON object, found list")])
def test_invalid_json_is_an_error_that_names_the_file(tmp_path, text, words):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(ArtifactError, match=words):
        read_json(tmp_path / "x.json")


def test_a_missing_file_is_an_error_that_names_it(tmp_path):
    with pytest.raises(ArtifactError, match=r"x\.json: no such file"):
        read_json(tmp_path / "x.json")


def test_an_artifact_of_another_kind_or_version_is_refused(tmp_path):
    write_meta(tmp_path, "raw", 1, labels=["a", "b"])
    assert read_meta(tmp_path, "raw", 1)["labels"] == ["a", "b"]
    for kind, version in (("prepared", 1), ("raw", 2)):
        with pytest.raises(ArtifactError, match="kind and schema version"):
            read_meta(tmp_path, kind, version)


def test_the_digest_of_a_folder_depends_on_names_and_bytes_only(tmp_path):
    for name in ("one", "two", "renamed", "altered"):
        folder = tmp_path / name / "sub"
        folder.mkdir(parents=True)
        (folder / ("b" if name == "renamed" else "a")).write_text("x" if name != "altered" else "y")
    digests = {name: digest(tmp_path / name) for name in ("one", "two", "renamed", "altered")}
    assert digests["one"] == digests["two"]
    assert len(set(digests.values())) == 3


def test_the_digest_of_a_missing_path_is_an_error(tmp_path):
    with pytest.raises(ArtifactError, match="no such file or folder"):
        digest(tmp_path / "absent")


def test_meta_is_readable_json(tmp_path):
    write_meta(tmp_path, "raw", 1, n=3)
    assert json.loads((tmp_path / "meta.json").read_text()) == {"kind": "raw", "schema_version": 1, "n": 3}


class Slow(io.RawIOBase):
    """Writes three bytes at a time, until the disk is full."""

    def __init__(self, room):
        self.written, self.room = b"", room

    def write(self, data):
        if len(self.written) == self.room:
            raise OSError(28, "No space left on device")
        self.written += bytes(data[: min(3, self.room - len(self.written))])
        return min(3, len(data))


def test_write_all_writes_everything_or_raises():
    stream = Slow(99)
    write_all(stream, np.arange(10, dtype=np.uint8).reshape(5, 2, 1).data)
    assert stream.written == bytes(range(10))
    with pytest.raises(OSError, match="No space left"):
        write_all(Slow(7), bytes(10))


FORMULAS = ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", " =1", "'=1", "\uff1d1"]
PLAIN = ["", "a", "'quoted'", "a=b", "-0.5", "+1e-5", "1-2", "C:\\x", "名前"]


def test_no_cell_of_a_csv_is_a_formula_and_reading_it_gives_the_text_back(tmp_path):
    write_csv(tmp_path / "a.csv", ("=head", "value"), [(text, number) for text in FORMULAS for number in (-1, -0.5)])
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as stream:
        head, *rows = csv.reader(stream)
    assert head == ["'=head", "value"]
    assert [row[0] for row in rows[::2]] == [f"'{text}" for text in FORMULAS]
    assert [row[1] for row in rows[:2]] == ["-1", "-0.5"], "a number is none"
    assert [row["=head"] for row in read_csv(tmp_path / "a.csv")[::2]] == FORMULAS


def test_other_cells_of_a_csv_stay_as_they_are(tmp_path):
    write_csv(tmp_path / "a.csv", ("text", "other"), [(text, None) for text in PLAIN])
    with (tmp_path / "a.csv").open(encoding="utf-8", newline="") as stream:
        assert [row["text"] for row in csv.DictReader(stream)] == PLAIN
    assert [row["text"] for row in read_csv(tmp_path / "a.csv")] == PLAIN


def test_every_csv_is_written_by_the_one_function_that_writes_no_formula():
    package = Path(__file__).parents[3] / "twofold"
    writers = {path.name for path in package.rglob("*.py") if "csv.writer(" in path.read_text(encoding="utf-8")}
    assert writers == {"artifacts.py"}
