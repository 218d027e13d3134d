"""B9: a data set that grew by 1 %: fetch, decode and features with the memo, against doing it all again.

`python -m bench.benchmarks.b09_incremental_data [COUNT]` runs it with fewer than the 20,000 JPEGs of `python -m bench B9`. The peer is the very
same code with an empty memo, once, as it takes minutes, its seconds taken by image, as it has the images of the last
growth; ours is the median of three growths by 1 %. The frozen base has random weights, which cost what pretrained ones
do. Timed are fetch, decode and features, writing the artifacts' shards and arrays included; the time of the whole steps
stands beside it, whose audits look at all images, old and new, in either case.

Most of what ours takes is to fill new pages of memory with what it writes, and what a page costs is the machine's: a
virtual one may give free memory back to its host and get it anew. So either side runs in two conditions: with memory
as it is found, and with memory at hand, free pages having been written to beforehand. Beside them stands what a
plain write of as much as `data/prepared` holds takes in either.
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

from bench.harness.memory import at_hand
from bench.harness.results import told
from bench.harness.timing import Comparison, goal_of, sized
from bench.workloads.jpeg_files import draw_texture, make, spread
from twofold.core.artifacts import digest
from twofold.data.prepared import PreparedDataset
from twofold.model.classifier import build_classifier
from twofold.model.device import device, make_deterministic
from twofold.orchestration.params_file import load_yaml
from twofold.steps import ingest as taking_in
from twofold.steps import preprocess as making_ready
from twofold.steps.ingest import Ingest, ingest
from twofold.steps.preprocess import Preprocess, preprocess
from twofold.training import feature_extraction

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[2]
COUNT, GROWN, TIMES = 20_000, 0.01, 3
SIZE = 224  # px
AN_IMAGE = 600_000  # bytes of memory at hand for an image: a fresh run writes 360,000 to the memo and both artifacts
FOUND, AT_HAND = "memory as found", "memory at hand"
BACKBONE = "efficientnet_lite0"
TIMED = (("fetch", taking_in, "_store"), ("decode", making_ready, "fill"), ("features", feature_extraction, "extract"))


class Spent(NamedTuple):
    """Seconds of fetch, decode and features, each, and of everything."""

    of: dict[str, float]
    whole: float

    @property
    def parts(self) -> float:
        """Seconds of what is compared."""
        return sum(self.of.values())

    def __str__(self) -> str:
        return ", ".join(f"{part} {seconds:.1f} s" for part, seconds in self.of.items())


def run(count: int | None = None) -> list[Comparison]:
    """Everything once; six times with one hundredth more images and the memo; and twice more without it."""
    count = count or sized(COUNT, 400)
    make_deterministic()
    torch.manual_seed(0)
    classifier = build_classifier(BACKBONE, 0.5).to(device()).to(memory_format=torch.channels_last)
    sections = load_yaml(ROOT / "params.yaml")
    with tempfile.TemporaryDirectory(prefix="twofold-bench-", dir=os.environ.get("TMPDIR")) as name:
        place = Path(name)
        for label in ("bad", "good"):
            (place / "images" / label).mkdir(parents=True)
        draw_texture().save(place / "texture.png", compress_level=1)
        taking = sections["ingest"] | {"source": str(place / "images"), "positive": "bad"}
        preparing = sections["preprocess"] | {"image_size": SIZE}

        def work(out: str, memo: str, condition: str) -> Spent:
            """One run of everything into folder `out`, with the memo in folder `memo`."""
            os.environ["TWOFOLD_CACHE"] = str(place / memo)
            to = place / out
            if condition == AT_HAND:
                at_hand(count * AN_IMAGE)
            spent.clear()
            begin = time.perf_counter()
            written = {"metrics": to / "ingest.json", "audit": to / "audit" / "ingest"}
            ingest(Ingest.model_validate(taking), raw=to / "raw", **written)
            written = {"metrics": to / "preprocess.json", "audit": to / "audit" / "preprocess"}
            preprocess(Preprocess.model_validate(preparing), to / "raw", data=to / "data", **written)
            images = PreparedDataset.open(to / "data")
            for split in ("train", "validation"):
                feature_extraction.extract_features(classifier, BACKBONE, "bench", images, images.rows(split), 0)
            return Spent(dict(spent), time.perf_counter() - begin)

        def write(condition: str) -> float:
            """Seconds of a plain write of as much as the prepared images are."""
            size = sum(path.stat().st_size for path in (place / "grown" / "data").rglob("*") if path.is_file())
            if condition == AT_HAND:
                at_hand(count * AN_IMAGE)
            return plain_write(place / "plain", size)

        spent: dict[str, float] = {}
        for part, module, name in TIMED:
            setattr(module, name, timed(getattr(module, name), spent, part))
        spread(make, place, count)
        work("before", "memo", FOUND)
        ours: dict[str, list[Spent]] = {}
        counts: dict[str, list[int]] = {}
        plain = {}
        grown = count
        for condition in (FOUND, AT_HAND):  # not in turn: memory that was at hand is still there for what comes next
            ours[condition], counts[condition] = [], []
            for _ in range(TIMES):
                grown += round(count * GROWN)
                spread(make, place, grown)
                ours[condition].append(work("grown", "memo", condition))
                counts[condition].append(grown)
            plain[condition] = write(condition)
            shutil.rmtree(place / "before", ignore_errors=True)
        peers = {}
        for condition in ours:
            peers[condition] = work("fresh", "empty", condition)
            if digest(place / "grown" / "data") != digest(place / "fresh" / "data"):
                raise SystemExit("bench: the grown data set is not the fresh one; that is not the same work")
            for made in ("fresh", "empty"):
                shutil.rmtree(place / made)
    return [
        Comparison(
            name="B9",
            part=condition,
            work=f"ingest, preprocess and features of {count} JPEGs of 500x375 after 1 % more, {TIMES} times",
            ours="with the memo",
            peer="all again, with an empty memo, once, by image",
            seconds_ours=[one.parts for one in ours[condition]],
            seconds_peer=[peers[condition].parts * of / grown for of in counts[condition]],
            goal=goal_of("B9", condition),
            equal=f"data/prepared has the same digest; the whole steps took "
            f"{', '.join(f'{one.whole:.1f}' for one in ours[condition])} s and {peers[condition].whole:.1f} s",
            remark="; ".join(
                [f"ours: {one}" for one in ours[condition]]
                + [f"peer: {peers[condition]}", f"a plain write of as much: {plain[condition]:.1f} s"]
            ),
        )
        for condition in ours
    ]


def plain_write(path: Path, size: int) -> float:
    """Seconds that so many bytes take to a file, which is removed afterwards."""
    piece = bytes(256 * 1024)
    begin = time.perf_counter()
    with path.open("wb", buffering=0) as file:
        for _ in range(0, size, len(piece)):
            file.write(piece)
    seconds = time.perf_counter() - begin
    path.unlink()
    return seconds


def timed(work: Callable[..., T], spent: dict[str, float], part: str) -> Callable[..., T]:
    """The same work, its wall seconds added to those of a part."""

    def inner(*given: Any, **named: Any) -> T:
        begin = time.perf_counter()
        try:
            return work(*given, **named)
        finally:
            spent[part] = spent.get(part, 0.0) + time.perf_counter() - begin

    return inner


if __name__ == "__main__":
    print("\n".join(map(told, run(int(sys.argv[1]) if len(sys.argv) > 1 else None))), flush=True)
