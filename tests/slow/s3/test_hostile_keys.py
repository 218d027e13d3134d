"""Hostile keys in a bucket and in its labels.csv are refused by name or read; nothing is written elsewhere.

Keys that the test server accepts are really stored. It rejects `..`, empty parts, NUL and parts of more than 255 bytes,
and turns a backslash into a slash; other stores accept all of them, so these keys come from a forged listing.
"""

import re
from contextlib import contextmanager

import pytest

from tests.support.makers import file_bytes, make_folder
from tests.support.s3_case import fill, png, run
from tests.support.tools.faulty_proxy import XML, between
from twofold.core.artifacts import read_csv
from twofold.core.errors import DataError, SourceError
from twofold.sources.factory import open_source

pytestmark = pytest.mark.slow
TAKEN, PASSED_BY, REFUSED = "taken", "passed by", "the key is no relative path of printable UTF-8"

# stored key -> (displayed key, result)
PUT = {
    "bad/%2e%2e/x.png": ("bad/%2e%2e/x.png", TAKEN),
    "bad/a%2Fx.png": ("bad/a%2Fx.png", TAKEN),
    "bad/a\nb.png": ("bad/a\\nb.png", REFUSED),
    "bad/a\rb.png": ("bad/a\\rb.png", REFUSED),
    "bad/a\tb.png": ("bad/a\\tb.png", REFUSED),
    "bad/a\x01b.png": ("bad/a\\x01b.png", REFUSED),
    "bad/a\u200fb.png": ("bad/a\\u200fb.png", REFUSED),
    "bad/gnp\u202egnp.png": ("bad/gnp\\u202egnp.png", REFUSED),
    "bad/a\u200bb.png": ("bad/a\\u200bb.png", REFUSED),
    "bad/\ufeffa.png": ("bad/\\ufeffa.png", REFUSED),
    "bad/\ufffe.png": ("bad/\\ufffe.png", REFUSED),
    "bad/" + 506 * "x/" + "xx.png": (
        "bad/" + 506 * "x/" + "xx.png",
        TAKEN,
    ),  # 1,024 bytes with the prefix, S3's maximum
    "bad/" + 251 * "x" + ".png": ("bad/" + 251 * "x" + ".png", TAKEN),
    "bad/folder.png": ("bad/folder.png", TAKEN),  # an object, and the folder of the next one
    "bad/folder.png/x.png": ("bad/folder.png/x.png", TAKEN),
    "bad/A.png": ("bad/A.png", TAKEN),
    "bad/a.png": ("bad/a.png", TAKEN),
    "bad/\u00e9.png": ("bad/\u00e9.png", TAKEN),
    "bad/e\u0301.png": ("bad/e\u0301.png", TAKEN),
    "bad/-rf.png": ("bad/-rf.png", TAKEN),
    "bad/a.png ": ("bad/a.png ", TAKEN),
    "bad/CON.png": ("bad/CON.png", TAKEN),
    "bad/a+b&c=d?e#f;.png": ("bad/a+b&c=d?e#f;.png", TAKEN),
    "bad/&amp;]]>.png": ("bad/&amp;]]>.png", TAKEN),
    '=cmd("x"),1.txt': ('=cmd("x"),1.txt', "outside every class folder"),
    "bad/<script>.png": ("bad/<script>.png", TAKEN),
    "bad/\U0001f600.png": ("bad/\U0001f600.png", TAKEN),
    "bad/..x.png": ("bad/..x.png", PASSED_BY),
    "bad/__MACOSX/x.png": ("bad/__MACOSX/x.png", PASSED_BY),
    "bad/Thumbs.db": ("bad/Thumbs.db", PASSED_BY),
    "bad/x.jfif": ("bad/x.jfif", TAKEN),
    "bad/no extension": ("bad/no extension", TAKEN),
}


def test_keys_that_the_test_server_accepts(store, tmp_path):
    fill(store, "hostile", make_folder(tmp_path / "images", per_class=3, size=24), "p/")
    fill(store, "hostile-old", tmp_path / "images", "p-old/")
    store.put_object(Bucket="hostile", Key="p-old/bad/sibling.png", Body=png(9))
    for number, key in enumerate(PUT):
        store.put_object(Bucket="hostile", Key=f"p/{key}", Body=png(100 + number))
    store.put_object(Bucket="hostile", Key="p/bad/empty/", Body=b"")
    around = sorted(tmp_path.rglob("*"))
    raw = run("s3://hostile/p", tmp_path / "out", max_refused_fraction=1.0)
    found = {image.key: TAKEN for image in raw.images if not re.fullmatch(r"(bad|good)/0000\d\.png", image.key)}
    found |= {row["key"]: row["reason"] for row in read_csv(tmp_path / "out" / "raw" / "quarantine.csv")}
    for key, (shown, how) in PUT.items():
        assert how in found.pop(shown, PASSED_BY), key
    assert found == {}
    assert [path for path in sorted(tmp_path.rglob("*")) if "out" not in path.relative_to(tmp_path).parts] == around
    assert all(re.fullmatch(r"images-\d+\.tar|\w+\.(parquet|csv|json)", name) for name in file_bytes(raw.directory))


# key in the forged listing -> displayed key
FORGED = {
    "bad/..%2F..%2Fx.png": "bad/../../x.png",
    "..%2Fx.png": "../x.png",
    "%2Fetc%2Fx.png": "/etc/x.png",
    "bad%2F%2Fx.png": "bad//x.png",
    "bad/.%2Fx.png": "bad/./x.png",
    "bad/a%00b.png": "bad/a\\x00b.png",
    "bad/x.png%2F": "bad/x.png/",
}


@contextmanager
def listed_as(spelled, store, address, tmp_path, monkeypatch):
    """Serve the bucket `forged` with one key of its listing changed."""
    if not exists(store, "forged"):
        fill(store, "forged", make_folder(tmp_path / "images", per_class=3, size=24))

    def forged(handler, listing, status, headers, body):
        changed = re.sub(rb"bad(/|%2F)00000\.png", spelled.encode(), body) if listing else body
        return status, (XML if listing else headers), changed

    with between(address, forged, monkeypatch):
        yield


@pytest.mark.parametrize("spelled", FORGED)
def test_keys_that_only_other_stores_accept(spelled, store, address, tmp_path, monkeypatch):
    with listed_as(spelled, store, address, tmp_path, monkeypatch):
        run("s3://forged", tmp_path / "out", max_refused_fraction=1.0)
    refused = {row["key"]: row["reason"] for row in read_csv(tmp_path / "out" / "raw" / "quarantine.csv")}
    assert list(refused) == [FORGED[spelled]]
    assert REFUSED in refused[FORGED[spelled]]
    assert {path.name for path in tmp_path.iterdir()} <= {"images", "out"}


@pytest.mark.parametrize("spelled", ["bad/a%5C..%5Cx.png", "bad/%FF.png", "bad/%ED%A0%80.png"])
def test_keys_that_cannot_be_requested_again_fail_the_step(spelled, store, address, tmp_path, monkeypatch):
    """A backslash is an ordinary character, and invalid UTF-8 cannot be requested: the object does not exist."""
    with listed_as(spelled, store, address, tmp_path, monkeypatch), pytest.raises(SourceError, match="s3://forged"):
        run("s3://forged", tmp_path / "out")
    assert not (tmp_path / "out" / "raw").exists()


def exists(store, bucket):
    return bucket in [found["Name"] for found in store.list_buckets()["Buckets"]]


ROWS = {
    "../p-old/x.png": "leaves the folder",
    "/p/bad/00000.png": "leaves the folder",
    "s3://other/x.png": "no such object",
    "%2e%2e/x.png": "no such object",
    "bad\\00000.png": "no such object",
    "bad/\u200f.png": "not printable",
    "bad/" + 1100 * "x" + ".png": "no such object",
    "bad": "no such object",
}


@pytest.mark.parametrize("path", ROWS)
def test_rows_of_a_table(path, store, tmp_path):
    if not exists(store, "rows"):
        fill(store, "rows", make_folder(tmp_path / "images", per_class=1, size=24), "p/")
        store.put_object(Bucket="rows", Key="p-old/x.png", Body=png(1))
    store.put_object(Bucket="rows", Key="p/labels.csv", Body=f"path,label\ngood/00000.png,good\n{path},bad\n".encode())
    with pytest.raises(DataError, match=rf"(?s)s3://rows/p/labels\.csv: 1 problems\n  line 3: .*({ROWS[path]})"):
        open_source("s3://rows/p").listing()
