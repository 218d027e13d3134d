"""Generated images for tests: small, deterministic for a seed, of two classes that a small model can distinguish."""

import hashlib
import io
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from twofold.audit.ingest_checks import Audit
from twofold.core.params import check_section
from twofold.data.raw import ImageRecord
from twofold.data.resizing import Fit, resize, to_image
from twofold.steps.ingest import Ingest, ingest
from twofold.steps.preprocess import Preprocess, preprocess

CLASSES = ("bad", "good")  # `bad` is the positive one
# Policies of ingest that ignore all checks: generated images are too similar, or outliers, in most tests. Conflicting
# labels cannot be ignored.
UNJUDGED = dict.fromkeys(Audit.model_fields, "ignore") | {"both_labels": "fail"}
# Policies of preprocess that ignore all checks: generated images are similar on purpose in some tests.
UNAUDITED = dict.fromkeys(("leaks", "groups", "label_conflicts", "near_duplicates"), "ignore")


def pixels(rng: np.random.Generator, size: int, bad: bool, channels: int = 1) -> np.ndarray:
    """One image of smooth noise, with a dark line at a random place and slope if `bad`: (S, S[, 3]) uint8."""
    base = rng.normal(150, 12, (size, size))
    base += np.linspace(-20, 20, size)[None, :] * rng.uniform(-1, 1)
    if bad:
        y, x = np.mgrid[:size, :size] / size
        distance = np.abs(y - 0.5 - rng.uniform(-0.2, 0.2) - (x - 0.5) * rng.uniform(-1, 1))
        base -= 110 * (distance < 0.06)
    grey = np.clip(base, 0, 255).astype(np.uint8)
    return grey if channels == 1 else np.stack([grey, grey[::-1], 255 - grey], axis=2)


def scaled(picture: np.ndarray, size: int, fit: Fit) -> np.ndarray:
    """The whole of (H, W, C) pixels as a square (size, size, C)."""
    image = to_image(picture)
    return np.asarray(resize(image, (0, 0, *image.size), size, fit)).reshape(size, size, -1)


def encode(image: np.ndarray | Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The bytes of the image's file; `kind` is Pillow's name of the format."""
    stream = io.BytesIO()
    (Image.fromarray(image) if isinstance(image, np.ndarray) else image).save(stream, kind, **options)
    return stream.getvalue()


def image_record(name: object, **changes: Any) -> ImageRecord:
    """A row of the manifest for a grey PNG of 4 x 4 pixels; `sha256` and `content` are the SHA-256 of the name."""
    sha256 = hashlib.sha256(str(name).encode()).hexdigest()
    record = ImageRecord(sha256, f"{name}.png", "bad", None, None, 1, 4, 4, "L", "PNG", 1, sha256, 0, 0, ())
    return record._replace(**changes)


def make_folder(root: Path, per_class: int = 30, size: int = 64, seed: int = 0) -> Path:
    """Write `per_class` grey PNG images of each of `bad` (positive) and `good` into class folders.

    The first images of a class do not depend on `per_class`, so a folder can grow.
    """
    for label in CLASSES:
        (root / label).mkdir(parents=True, exist_ok=True)
        for number in range(per_class):
            rng = np.random.default_rng([seed, CLASSES.index(label), number])
            (root / label / f"{number:05d}.png").write_bytes(encode(pixels(rng, size, label == "bad")))
    return root


def make_raw(source: Path | str, out: Path, **changes: Any) -> Path:
    """Run ingest on a source of `bad` and `good`, with changed parameters; metrics and audit are beside `out`."""
    values = {
        "source": str(source),
        "positive": "bad",
        "require_checksum": False,
        "max_bytes": 10_000_000,
        "max_pixels": 1_000_000,
        "min_side": 4,
        "max_refused_fraction": 0.0,
        "min_per_class": 2,
        "audit": UNJUDGED,
    }
    params = check_section(Ingest, "ingest", values | changes)
    ingest(params, raw=out, metrics=out.with_suffix(".json"), audit=out.with_suffix(".audit"))
    return out


def make_prepared(raw: Path, out: Path, **changes: Any) -> Path:
    """Run preprocess on `raw`, with changed parameters; metrics and audit are beside `out`."""
    values = {
        "image_size": 32,
        "fit": "squash",
        "test_fraction": 0.25,
        "validation_fraction": 0.25,
        "split_salt": "tests",
        "audit": UNAUDITED,
    }
    params = check_section(Preprocess, "preprocess", values | changes)
    preprocess(params, raw, data=out, metrics=out.with_suffix(".json"), audit=out.with_suffix(".audit"))
    return out


def file_bytes(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its relative path."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def write_labels(folder: Path, rows: Iterable[Iterable[str]], header: str = "path,label") -> Path:
    """Write a `labels.csv` into the folder; returns the folder."""
    lines = [header, *(",".join(row) for row in rows)]
    (folder / "labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def chunk(name: bytes, content: bytes = b"") -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def bomb(width: int = 60_000, height: int = 60_000) -> bytes:
    """A PNG of a few bytes that claims an enormous size."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND")
