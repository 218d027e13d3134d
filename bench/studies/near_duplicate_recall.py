"""`python -m bench.studies.near_duplicate_recall [--many N]`: recall and precision of the near-duplicate search.

Uses the 2,624 photographs of solar cells of the package elpv-dataset, which are very similar to each other, and as many
generated images of one kind of part. For each change, adds 100 changed copies to all images, and counts the copies that
are found and the other pairs that are found only with the copies present. Prints the counts and writes
bench/results/<hardware>/near.json.

With --many N, cuts N squares out of the cells, at random places, of random size and orientation: with a million, the
nearest neighbour of an image is as similar to it as with the cells themselves. Adds 100 copies for each change but
crops. Measures seconds and peak memory of the search, the copies found, and the recall of all pairs of 1,000 images,
which are compared with all others. Writes bench/results/<hardware>/near_N.json.
"""

import argparse
import io
import resource
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import cache, reduce
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from bench.harness.memory import MIB
from bench.harness.results import save
from twofold.audit.near_duplicates import MIN_CORRELATION, _orient, _whiten, find_near_duplicates
from twofold.data.process_pool import worker_count
from twofold.data.thumbnails import SIDE, Thumbnails, thumbnail

COUNT, COPIES, SIZE = 2624, 100, 300  # images, copies per change, pixels of a side
SCALES = ((1.5, 20), (4, 30), (12, 25))  # sigma and gain of the structure of a generated part
SHARES = (0.65, 0.95)  # of a cell's side, the smallest and largest square that is cut out of it
EXHAUSTIVE = 500  # images, and as many copies, that are compared with all others
CHUNK = 1000  # thumbnails made or compared at once
Change = Callable[[Image.Image], Image.Image]


def _encode(kind: str, quality: int) -> Change:
    def change(image: Image.Image) -> Image.Image:
        stream = io.BytesIO()
        image.save(stream, kind, quality=quality)
        return Image.open(stream).convert("L")

    return change


def _resize(x: float, y: float | None = None) -> Change:
    return lambda image: image.resize(
        (round(image.width * x), round(image.height * (x if y is None else y))), Image.Resampling.BICUBIC
    )


def _map_levels(function: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Change:
    """Apply a function to every level, 0..1."""
    table = [round(float(level) * 255) for level in np.clip(function(np.arange(256) / 255), 0, 1)]
    return lambda image: image.point(table)


def _crop(share: float) -> Change:
    """Cut this share of the width and height off each side."""

    def change(image: Image.Image) -> Image.Image:
        x, y = round(image.width * share), round(image.height * share)
        return image.crop((x, y, image.width - x, image.height - y))

    return change


def _transpose(way: Image.Transpose) -> Change:
    return lambda image: image.transpose(way)


def _combine(*changes: Change) -> Change:
    def change(image: Image.Image) -> Image.Image:
        for step in changes:
            image = step(image)
        return image

    return change


CHANGES: dict[str, Change] = {
    "resized x 0.5": _resize(0.5),
    "resized x 0.75": _resize(0.75),
    "resized x 2": _resize(2),
    "width x 1, height x 0.5": _resize(1, 0.5),
    **{f"JPEG {quality}": _encode("JPEG", quality) for quality in (30, 40, 60, 80, 95)},
    **{f"WebP {quality}": _encode("WEBP", quality) for quality in (40, 60, 80)},
    **{way.name.lower().replace("_", " "): _transpose(way) for way in Image.Transpose},
    "gamma 0.8": _map_levels(lambda level: level**0.8),
    "gamma 1.25": _map_levels(lambda level: level**1.25),
    "brightness x 0.8": _map_levels(lambda level: level * 0.8),
    "brightness x 1.15, cut off at white": _map_levels(lambda level: level * 1.15),
    "mirrored, x 0.5, JPEG 60": _combine(
        _transpose(Image.Transpose.FLIP_LEFT_RIGHT), _resize(0.5), _encode("JPEG", 60)
    ),
    "turned, gamma 0.8, WebP 60": _combine(
        _transpose(Image.Transpose.ROTATE_90), _map_levels(lambda level: level**0.8), _encode("WEBP", 60)
    ),
    **{f"{share:.1%} cut off each side": _crop(share) for share in (0.005, 0.01, 0.02, 0.03)},
}


@cache
def _solar_cells() -> list[Path]:
    return sorted((Path(str(find_spec("elpv_dataset").origin)).parent / "data" / "images").glob("*.png"))  # type: ignore[union-attr]


@cache
def _solar_cell(number: int) -> Image.Image:
    return Image.open(_solar_cells()[number]).convert("L")


def _generated_part(number: int) -> Image.Image:
    """An image with the ribs and the shading of all parts, and structure of its own at three scales."""
    rng = np.random.default_rng([7, number])
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    own = sum(gaussian_filter(rng.normal(size=(SIZE, SIZE)), sigma) * sigma * gain for sigma, gain in SCALES)
    common = 30 * np.sin(60 * y) * (np.sin(60 * y) > 0.6) + 25 * x
    return Image.fromarray(np.clip(130 + own - common, 0, 255).astype(np.uint8))


IMAGES: dict[str, Callable[[int], Image.Image]] = {"solar cells": _solar_cell, "generated parts": _generated_part}


def make_thumbnails(kind: str, numbers: range, change: str | None = None) -> list[Thumbnails]:
    """Thumbnails of some images of a kind of IMAGES, optionally with a change of CHANGES."""
    images = (IMAGES[kind](number) for number in numbers)
    changed = (image if change is None else CHANGES[change](image) for image in images)
    return [thumbnail(image) for image in changed]


def _measure_recall(kind: str, executor: ProcessPoolExecutor) -> dict[str, Any]:
    """Apply every change to 100 images, evenly spaced among all."""
    chunks = [range(start, min(start + 64, COUNT)) for start in range(0, COUNT, 64)]
    chunked = executor.map(make_thumbnails, [kind] * len(chunks), chunks)
    originals = np.stack([each for chunk in chunked for each in chunk])
    before = {pair[:2] for pair in find_near_duplicates(originals)}
    print(f"{kind}: {COUNT} images, {len(before)} pairs among them without copies")
    chosen = range(0, COUNT, COUNT // COPIES)[:COPIES]
    expected = {(number, COUNT + place) for place, number in enumerate(chosen)}
    # A copy of an image that already has a near duplicate is a near duplicate of that one too.
    related = {
        (number, COUNT + place)
        for place, original in enumerate(chosen)
        for pair in before
        if original in pair
        for number in pair
    }
    rows = {}
    changes = executor.map(make_thumbnails, [kind] * len(CHANGES), [chosen] * len(CHANGES), CHANGES)
    for name, copies in zip(CHANGES, changes, strict=True):
        pairs = {pair[:2] for pair in find_near_duplicates(np.concatenate([originals, np.stack(copies)]))}
        found, others = len(pairs & expected), len(pairs - expected - related - before)
        rows[name] = {"found": found, "planted": len(expected), "others": others}
        precision = found / max(1, found + others)
        print(f"  {name:<36} {found:>3} of {len(expected)}   precision {precision:.3f}", flush=True)
    return {"images": COUNT, "pairs_before": len(before), "changes": rows}


def _cut(number: int) -> Image.Image:
    """A square of a cell, in one of the eight orientations."""
    rng = np.random.default_rng([11, number])
    cell = _solar_cell(number % COUNT)
    side = round(rng.uniform(*SHARES) * cell.width)
    x, y = rng.integers(0, cell.width - side + 1, 2)
    square, way = cell.crop((x, y, x + side, y + side)), int(rng.integers(8))
    return square.transpose(Image.Transpose(way)) if way < len(Image.Transpose) else square


def cut_thumbnails(numbers: list[int], change: str | None = None) -> Thumbnails:
    """Thumbnails of squares cut out of cells, optionally with a change of CHANGES."""
    images = (_cut(number) if change is None else CHANGES[change](_cut(number)) for number in numbers)
    return np.stack([thumbnail(image) for image in images])


def _compare_with_all(thumbnails: Thumbnails, chosen: set[int]) -> Iterator[tuple[int, int]]:
    """The near duplicates of some images by comparison with all others in every orientation."""
    indices = np.flatnonzero([each.any() for each in thumbnails])
    white = _whiten(thumbnails, indices)
    rows = np.flatnonzero(np.isin(indices, list(chosen)))
    turned = [_orient(white[rows], number).astype(np.float32).reshape(len(rows), -1) for number in range(8)]
    for start in range(0, len(white), CHUNK):
        some = white[start : start + CHUNK].astype(np.float32).reshape(-1, SIDE * SIDE)
        correlations = reduce(np.maximum, (one @ some.T for one in turned))
        for row, column in zip(*np.nonzero(correlations >= MIN_CORRELATION), strict=True):
            first, second = sorted((int(indices[rows[row]]), int(indices[start + column])))
            if first != second:
                yield first, second


def _measure_cost(count: int, executor: Executor) -> dict[str, Any]:
    """Seconds, peak memory and recall of the search among this many thumbnails."""
    changes = [name for name in CHANGES if "cut off each side" not in name]
    added = COPIES * len(changes)
    unchanged = count - added
    if unchanged < added:
        raise SystemExit(f"--many {count}: at least {2 * added}, to copy {added} of them")
    originals = list(range(0, unchanged, unchanged // added))[:added]
    chunks = [list(range(start, min(start + CHUNK, unchanged))) for start in range(0, unchanged, CHUNK)]
    thumbnails = np.empty((count, SIDE, SIDE), np.float16)
    for chunk, some in zip(chunks, executor.map(cut_thumbnails, chunks), strict=True):
        thumbnails[chunk[0] : chunk[-1] + 1] = some
    copied = [originals[start : start + COPIES] for start in range(0, added, COPIES)]
    thumbnails[unchanged:] = np.concatenate(list(executor.map(cut_thumbnails, copied, changes)))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    begin = time.perf_counter()
    found = {pair[:2] for pair in find_near_duplicates(thumbnails)}
    seconds = time.perf_counter() - begin
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"{count} images: {seconds:.0f} s, peak memory {peak / MIB:.0f} MiB ({before / MIB:.0f} before the search)")
    planted = {
        name: len(found & set(zip(chunk, range(start, start + COPIES), strict=True)))
        for name, chunk, start in zip(changes, copied, range(unchanged, count, COPIES), strict=True)
    }
    print(f"{len(found)} pairs; {sum(planted.values())} of {added} copies found", flush=True)
    rows = {*range(0, unchanged, unchanged // EXHAUSTIVE), *range(unchanged, count, added // EXHAUSTIVE)}
    expected = set(_compare_with_all(thumbnails, rows))
    print(f"{len(expected & found)} of the {len(expected)} pairs of {len(rows)} images found")
    return {
        "images": count,
        "seconds": seconds,
        "peak_bytes": peak,
        "bytes_before": before,
        "pairs": len(found),
        "copies_found": planted,
        "exhaustive": {"images": len(rows), "pairs": len(expected), "found": len(expected & found)},
    }


def main() -> None:
    """Run the study that the command line selects and write its result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--many", type=int, metavar="N", help="measure time, memory and recall among N thumbnails")
    many = parser.parse_args().many
    with ProcessPoolExecutor(worker_count()) as executor:
        if many:
            save(f"near_{many}", _measure_cost(many, executor))
        else:
            save("near", {kind: _measure_recall(kind, executor) for kind in IMAGES})


if __name__ == "__main__":
    main()
