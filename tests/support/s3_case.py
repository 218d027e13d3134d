"""Fills buckets for tests, and reads them as sources."""

import io

import numpy as np
from PIL import Image

from tests.support.makers import make_raw
from twofold.data.raw import RawDataset

LIMIT = 1 << 28


def fill(store, bucket, folder, prefix=""):
    store.create_bucket(Bucket=bucket)
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            store.put_object(Bucket=bucket, Key=prefix + path.relative_to(folder).as_posix(), Body=path.read_bytes())


def png(seed, size=32):
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size, size), np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def run(source, tmp_path, **values):
    return RawDataset.open(make_raw(source, tmp_path / "raw", **values))


def tree(source):
    """Return {key: bytes} of all images of a source."""
    entries = source.listing().entries
    wanted = [source.request(entry.key) for entry in entries]
    return {one.key: got.data for one, got in zip(wanted, source.fetch(wanted, LIMIT), strict=True)}
