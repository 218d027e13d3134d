"""B9: fetch, decode and features of a data set that grew by 1 %, with the cache, against doing everything again.

`python -m bench.benchmarks.b09_incremental_data [COUNT]` uses another number than the 20,000 JPEGs of
`python -m bench B9`. Our result is the median of three growths by 1 %. The peer is the same code with an empty cache.
It takes minutes, so it runs once, on the images of the last growth; its seconds are scaled by the number of images.
The frozen base has random weights, which do not change the speed. The measured seconds are those of fetch, decode and
features, with writing the shards and arrays. The result also states the time of the whole steps, whose audits check
all images in either case.

Most of our time is spent on filling new pages of memory with the data to write, which depends on the machine: a
virtual one may return free memory to its host and request it again. So each side runs in two conditions: with memory
as it is found, and after its free pages have been written to. For each, the result states how long a plain write of
as many bytes as `data/prepared` takes.
"""

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch

from bench.harness.memory import touch_free_memory
from bench.harness.results import format_comparison
from bench.harness.timing import Comparison, goal_of, measure_seconds, work_size
from bench.workloads.jpeg_files import distribute, write_images, write_texture
from bench.workloads.step_commands import ROOT
from twofold.core.artifacts import digest
from twofold.data.prepared import PreparedDataset
from twofold.model.classifier import build_classifier
from twofold.model.device import device, make_deterministic
from twofold.orchestration.params_file import load_yaml
from twofold.steps import ingest as ingest_step
from twofold.steps import preprocess as preprocess_step
from twofold.training import feature_extraction

T = TypeVar("T")
COUNT, GROWTH, TIMES = 20_000, 0.01, 3
SIZE = 224  # px
IMAGE_BYTES = 600_000  # of free memory per image; a first run writes 360,000 to the cache and both artifacts
AS_FOUND, TOUCHED = "memory as found", "memory at hand"
BACKBONE = "efficientnet_lite0"
MEASURED = (
    ("fetch", ingest_step, "_store"),
    ("decode", preprocess_step, "write_parts"),
    ("features", feature_extraction, "extract_features"),
)


class Times(NamedTuple):
    """Seconds of fetch, decode and features, and of all steps."""

    parts: dict[str, float]
    whole: float

    @property
    def measured(self) -> float:
        """Seconds of fetch, decode and features together."""
        return sum(self.parts.values())

    def __str__(self) -> str:
        return ", ".join(f"{part} {seconds:.1f} s" for part, seconds in self.parts.items())


def run(count: int | None = None) -> list[Comparison]:
    """Run everything once, then six times after 1 % growth with the cache, and twice without it."""
    count = count or work_size(COUNT, 400)
    make_deterministic()
    torch.manual_seed(0)
    classifier = build_classifier(BACKBONE, 0.5).to(device()).to(memory_format=torch.channels_last)
    sections = load_yaml(ROOT / "params.yaml")
    with tempfile.TemporaryDirectory(prefix="twofold-bench-", dir=os.environ.get("TMPDIR")) as name:
        folder = Path(name)
        write_texture(folder)
        ingest_params = ingest_step.Ingest.model_validate(
            sections["ingest"] | {"source": str(folder / "images"), "positive": "bad"}
        )
        preprocess_params = preprocess_step.Preprocess.model_validate(sections["preprocess"] | {"image_size": SIZE})

        def process(out: str, cache: str, condition: str) -> Times:
            """Run everything into folder `out` with the cache in folder `cache`."""
            os.environ["TWOFOLD_CACHE"] = str(folder / cache)
            to = folder / out
            if condition == TOUCHED:
                touch_free_memory(count * IMAGE_BYTES)
            seconds.clear()
            begin = time.perf_counter()
            written = {"metrics": to / "ingest.json", "audit": to / "audit" / "ingest"}
            ingest_step.ingest(ingest_params, raw=to / "raw", **written)
            written = {"metrics": to / "preprocess.json", "audit": to / "audit" / "preprocess"}
            preprocess_step.preprocess(preprocess_params, to / "raw", data=to / "data", **written)
            images = PreparedDataset.open(to / "data")
            for split in ("train", "validation"):
                feature_extraction.extract_features(classifier, BACKBONE, "bench", images, images.rows(split), 0)
            return Times(dict(seconds), time.perf_counter() - begin)

        seconds: dict[str, float] = {}
        for part, module, function in MEASURED:
            setattr(module, function, _add_seconds(getattr(module, function), seconds, part))
        distribute(write_images, folder, count)
        process("before", "cache", AS_FOUND)
        ours: dict[str, list[Times]] = {}
        counts: dict[str, list[int]] = {}
        plain = {}
        total = count
        for condition in (AS_FOUND, TOUCHED):  # not alternately: touched memory is still available to the next run
            ours[condition], counts[condition] = [], []
            for _ in range(TIMES):
                total += round(count * GROWTH)
                distribute(write_images, folder, total)
                ours[condition].append(process("grown", "cache", condition))
                counts[condition].append(total)
            size = sum(path.stat().st_size for path in (folder / "grown" / "data").rglob("*") if path.is_file())
            if condition == TOUCHED:
                touch_free_memory(count * IMAGE_BYTES)
            plain[condition] = _plain_write_time(folder / "plain", size)
            shutil.rmtree(folder / "before", ignore_errors=True)
        peers = {}
        for condition in ours:
            peers[condition] = process("fresh", "empty", condition)
            if digest(folder / "grown" / "data") != digest(folder / "fresh" / "data"):
                raise SystemExit("bench: B9: both sides prepared different data; this is not the same work")
            for made in ("fresh", "empty"):
                shutil.rmtree(folder / made)
    return [
        Comparison(
            name="B9",
            part=condition,
            work=f"ingest, preprocess and features of {count} JPEGs of 500x375 after 1 % more, {TIMES} times",
            ours="with the cache",
            peer="everything again, with an empty cache, once, scaled by the number of images",
            seconds_ours=[times.measured for times in ours[condition]],
            seconds_peer=[peers[condition].measured * images / total for images in counts[condition]],
            goal=goal_of("B9", condition),
            equal=f"data/prepared has the same digest; the whole steps took "
            f"{', '.join(f'{times.whole:.1f}' for times in ours[condition])} s and {peers[condition].whole:.1f} s",
            remark="; ".join(
                [f"ours: {times}" for times in ours[condition]]
                + [f"peer: {peers[condition]}", f"a plain write of as many bytes: {plain[condition]:.1f} s"]
            ),
        )
        for condition in ours
    ]


def _plain_write_time(path: Path, size: int) -> float:
    """Seconds to write this many bytes to a file, which is removed afterwards."""
    piece = bytes(256 * 1024)

    def write() -> None:
        with path.open("wb", buffering=0) as file:
            for _ in range(0, size, len(piece)):
                file.write(piece)

    seconds = measure_seconds(write)
    path.unlink()
    return seconds


def _add_seconds(function: Callable[..., T], seconds: dict[str, float], part: str) -> Callable[..., T]:
    """The same function, which adds its wall seconds to those of a part."""

    def measured(*positional: Any, **keywords: Any) -> T:
        begin = time.perf_counter()
        try:
            return function(*positional, **keywords)
        finally:
            seconds[part] = seconds.get(part, 0.0) + time.perf_counter() - begin

    return measured


if __name__ == "__main__":
    print("\n".join(map(format_comparison, run(int(sys.argv[1]) if len(sys.argv) > 1 else None))), flush=True)
