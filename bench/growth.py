"""B9: a data set that grew by 1 %: fetch, decode and features with the memo, against doing it all again.

`python -m bench.growth [COUNT]` runs it with fewer than the 20,000 JPEGs of `python -m bench B9`. The peer is the very
same code with an empty memo, once, as it takes minutes; ours is the median of three growths by 1 %, one after the
other. The frozen base has random weights, which cost what pretrained ones do. Timed are fetch, decode and features,
writing the artifacts' shards and arrays included; the time of the whole steps stands beside it, whose audits look at
all images, old and new, in either case.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch

from bench.ingestion import SIZE, draw_texture, make, spread
from bench.record import told
from bench.rounds import Comparison, goal_of, sized
from twofold import features
from twofold.artifacts import digest
from twofold.model import build
from twofold.numerics import device, settle
from twofold.prepared import Prepared
from twofold.settings import load_yaml
from twofold.steps import ingest as taking_in
from twofold.steps import preprocess as making_ready
from twofold.steps.ingest import Ingest, ingest
from twofold.steps.preprocess import Preprocess, preprocess

T = TypeVar("T")
ROOT = Path(__file__).resolve().parent.parent
COUNT, GROWN, TIMES = 20_000, 0.01, 3
BACKBONE = "efficientnet_lite0"
TIMED = (("fetch", taking_in, "_store"), ("decode", making_ready, "fill"), ("features", features, "extract"))


def run(count: int | None = None) -> list[Comparison]:
    """Everything once; with one hundredth more images, three times, with the memo; and once more without it."""
    count = count or sized(COUNT, 400)
    settle()
    torch.manual_seed(0)
    classifier = build(BACKBONE, 0.5).to(device()).to(memory_format=torch.channels_last)
    sections = load_yaml(ROOT / "params.yaml")
    with tempfile.TemporaryDirectory(prefix="twofold-bench-", dir=os.environ.get("TMPDIR")) as name:
        place = Path(name)
        for label in ("bad", "good"):
            (place / "images" / label).mkdir(parents=True)
        draw_texture().save(place / "texture.png", compress_level=1)
        taking = sections["ingest"] | {"source": str(place / "images"), "positive": "bad"}
        preparing = sections["preprocess"] | {"image_size": SIZE}

        def work(out: str, memo: str) -> tuple[dict[str, float], float]:
            """Seconds of fetch, decode and features, and of everything."""
            os.environ["TWOFOLD_CACHE"] = str(place / memo)
            to = place / out
            spent.clear()
            begin = time.perf_counter()
            written = {"metrics": to / "ingest.json", "audit": to / "audit" / "ingest"}
            ingest(Ingest.model_validate(taking), raw=to / "raw", **written)
            written = {"metrics": to / "preprocess.json", "audit": to / "audit" / "preprocess"}
            preprocess(Preprocess.model_validate(preparing), to / "raw", data=to / "data", **written)
            images = Prepared.open(to / "data")
            for split in ("train", "validation"):
                features.extract(classifier, BACKBONE, "bench", images, images.rows(split), 0)
            return dict(spent), time.perf_counter() - begin

        spent: dict[str, float] = {}
        for part, module, name in TIMED:
            setattr(module, name, timed(getattr(module, name), spent, part))
        spread(make, place, count)
        work("before", "memo")
        ours = []
        for number in range(1, TIMES + 1):
            spread(make, place, round(count * (1 + number * GROWN)))
            ours.append(work("grown", "memo"))
        peer = work("fresh", "empty")
        same = digest(place / "grown" / "data") == digest(place / "fresh" / "data")
        if not same:
            raise SystemExit("bench: the grown data set is not the fresh one; that is not the same work")
    found = Comparison(
        name="B9",
        work=f"ingest, preprocess and features of {count} JPEGs of 500x375 after 1 % more were added, {TIMES} times",
        ours="with the memo",
        peer="all again, with an empty memo, once",
        seconds_ours=[sum(parts.values()) for parts, _ in ours],
        seconds_peer=[sum(peer[0].values())] * TIMES,
        goal=goal_of("B9", ""),
        equal=f"data/prepared has the same digest; the whole steps took {told_of(ours)} s and {peer[1]:.1f} s",
        remark="; ".join(
            f"{side}: " + ", ".join(f"{part} {seconds:.1f} s" for part, seconds in parts.items())
            for side, parts in (*(("ours", parts) for parts, _ in ours), ("peer", peer[0]))
        ),
    )
    return [found]


def told_of(runs: list[tuple[dict[str, float], float]]) -> str:
    """The seconds of everything, of each run."""
    return ", ".join(f"{whole:.1f}" for _, whole in runs)


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
