"""`python -m bench.studies.near_duplicate_recall [--many 50000]`: which near duplicates are found, by what was done to them, and at what cost.

In: 2,624 photographs of solar cells (the package elpv-dataset), which look very alike, and as many generated pictures
of one kind of part. Out: lines, and `near.json` in bench/results/<hardware>/: for each change, how many of 100 changed
copies beside all the others are found, and how many other pairs are reported that were not reported without the copies.

`--many N` measures time and memory on N thumbnails instead.
"""

import argparse
import io
import resource
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import gaussian_filter

from bench.harness.memory import MIB
from bench.harness.results import save
from twofold.audit.near_duplicates import find_near_duplicates
from twofold.data.process_pool import worker_count
from twofold.data.resizing import Pixels
from twofold.data.thumbnails import SIDE, Thumbnails, thumbnail

COUNT, COPIES, SIZE = 2624, 100, 300  # images, copies of a change, pixels of a side
Change = Callable[[Image.Image], Image.Image]


def encoded(kind: str, quality: int) -> Change:
    """Saved and read again."""

    def change(image: Image.Image) -> Image.Image:
        stream = io.BytesIO()
        image.save(stream, kind, quality=quality)
        return Image.open(stream).convert("L")

    return change


def resized(x: float, y: float | None = None) -> Change:
    """Made smaller or larger."""
    return lambda image: image.resize(
        (round(image.width * x), round(image.height * (x if y is None else y))), Image.Resampling.BICUBIC
    )


def levels(function: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> Change:
    """Every level 0..1 made another one."""
    table = [round(float(level) * 255) for level in np.clip(function(np.arange(256) / 255), 0, 1)]
    return lambda image: image.point(table)


def cut(share: float) -> Change:
    """So much of the width and height taken off each side."""

    def change(image: Image.Image) -> Image.Image:
        x, y = round(image.width * share), round(image.height * share)
        return image.crop((x, y, image.width - x, image.height - y))

    return change


def turned(way: Image.Transpose) -> Change:
    """Flipped or turned."""
    return lambda image: image.transpose(way)


def together(*changes: Change) -> Change:
    """One change after the other."""

    def change(image: Image.Image) -> Image.Image:
        for one in changes:
            image = one(image)
        return image

    return change


CHANGES: dict[str, Change] = {
    "resized x 0.5": resized(0.5),
    "resized x 0.75": resized(0.75),
    "resized x 2": resized(2),
    "width x 1, height x 0.5": resized(1, 0.5),
    **{f"JPEG {quality}": encoded("JPEG", quality) for quality in (30, 40, 60, 80, 95)},
    **{f"WebP {quality}": encoded("WEBP", quality) for quality in (40, 60, 80)},
    **{way.name.lower().replace("_", " "): turned(way) for way in Image.Transpose},
    "gamma 0.8": levels(lambda level: level**0.8),
    "gamma 1.25": levels(lambda level: level**1.25),
    "brightness x 0.8": levels(lambda level: level * 0.8),
    "brightness x 1.15, cut off at white": levels(lambda level: level * 1.15),
    "mirrored, x 0.5, JPEG 60": together(turned(Image.Transpose.FLIP_LEFT_RIGHT), resized(0.5), encoded("JPEG", 60)),
    "turned, gamma 0.8, WebP 60": together(
        turned(Image.Transpose.ROTATE_90), levels(lambda level: level**0.8), encoded("WEBP", 60)
    ),
    **{f"{share:.1%} cut off each side": cut(share) for share in (0.005, 0.01, 0.02, 0.03)},
}


def cell(number: int) -> Image.Image:
    """A solar cell."""
    files = sorted((Path(str(find_spec("elpv_dataset").origin)).parent / "data" / "images").glob("*.png"))  # type: ignore[union-attr]
    return Image.open(files[number]).convert("L")


def part(number: int) -> Image.Image:
    """A generated part: ribs and a shade that all have, structure at three scales that is its own."""
    rng = np.random.default_rng([7, number])
    y, x = np.mgrid[:SIZE, :SIZE] / SIZE
    own = sum(gaussian_filter(rng.normal(size=(SIZE, SIZE)), sigma) * sigma * gain for sigma, gain in _SCALES)
    common = 30 * np.sin(60 * y) * (np.sin(60 * y) > 0.6) + 25 * x
    return Image.fromarray(np.clip(130 + own - common, 0, 255).astype(np.uint8))


_SCALES = ((1.5, 20), (4, 30), (12, 25))
MAKERS = {"solar cells": cell, "generated parts": part}


def look(maker: str, numbers: range, change: str | None = None) -> list[Thumbnails]:
    """Thumbnails of some images, changed if asked for."""
    images: Iterator[Image.Image] = map(MAKERS[maker], numbers)
    made = (image if change is None else CHANGES[change](image) for image in images)
    return [thumbnail(_pixels(image)) for image in made]


def table(maker: str, executor: ProcessPoolExecutor) -> dict[str, Any]:
    """Every change to 100 images, which lie evenly among all."""
    chunks = [range(start, min(start + 64, COUNT)) for start in range(0, COUNT, 64)]
    whole = np.stack(
        [one for some in executor.map(look, *zip(*((maker, c) for c in chunks), strict=True)) for one in some]
    )
    before = {pair[:2] for pair in find_near_duplicates(whole)}
    print(f"{maker}: {COUNT} images, {len(before)} pairs among them before anything is planted")
    chosen = range(0, COUNT, COUNT // COPIES)[:COPIES]
    rows = {}
    names = list(CHANGES)
    planted = dict(zip(names, executor.map(look, *zip(*((maker, chosen, n) for n in names), strict=True)), strict=True))
    for name, copies in planted.items():
        found = {pair[:2] for pair in find_near_duplicates(np.concatenate([whole, np.stack(copies)]))}
        true = {(number, COUNT + place) for place, number in enumerate(chosen)}
        # A copy of one of two images that are reported already is alike to both.
        kin = {(min(a, b), max(a, b)) for a, b in before}
        also = {
            (number, COUNT + place)
            for place, one in enumerate(chosen)
            for pair in kin
            if one in pair
            for number in pair
        }
        rows[name] = {"found": len(found & true), "planted": len(true), "others": len(found - true - also - before)}
        of = rows[name]
        precision = of["found"] / max(1, of["found"] + of["others"])
        print(f"  {name:<36} {of['found']:>3} of {of['planted']}   precision {precision:.3f}", flush=True)
    return {"images": COUNT, "pairs_before": len(before), "changes": rows}


def cost(count: int) -> dict[str, Any]:
    """Seconds, and bytes at most beside the thumbnails, for so many of them; 20 are mirrored copies."""
    rng = np.random.default_rng(0)
    many = np.empty((count, SIDE, SIDE), np.float16)
    for start in range(0, count, 1000):
        some = gaussian_filter(rng.normal(size=(min(1000, count - start), SIDE, SIDE)), (0, 2, 2))
        some -= some.mean(axis=(1, 2), keepdims=True)
        many[start : start + 1000] = some / np.linalg.norm(some, axis=(1, 2), keepdims=True)
    many[-20:] = many[:20, :, ::-1]
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    begin = time.perf_counter()
    found = len(find_near_duplicates(many))
    took = time.perf_counter() - begin
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"{count} images: {took:.0f} s, {most / MIB:.0f} MiB at most ({held / MIB:.0f} before), {found} of 20 found")
    return {"count": count, "seconds": took, "peak_bytes": most, "bytes_before": held, "found": found}


def _pixels(image: Image.Image) -> Pixels:
    return np.asarray(image)[:, :, None]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--many", type=int, help="thumbnails to measure time and memory on")
    options = parser.parse_args()
    if options.many:
        result, name = cost(options.many), "near_cost"
    else:
        with ProcessPoolExecutor(worker_count()) as executor:
            result, name = {maker: table(maker, executor) for maker in MAKERS}, "near"
    save(name, result)


if __name__ == "__main__":
    main()
