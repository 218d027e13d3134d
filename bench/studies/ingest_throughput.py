"""`python -m bench.studies.ingest_throughput [COUNT]`: many JPEGs of 500x375 through ingest and preprocess: rate and peak memory.

In: how many (50,000), made here of one large texture, each a window of its own. Out: lines, and
`ingestion.json` in bench/results/<hardware>/: images a second of either step beside the decode limit, which is Pillow
alone on the same files in as many processes, and the most memory that all processes of a step held together.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from PIL import Image

from bench.harness.memory import MIB, peak
from bench.harness.results import save
from bench.harness.timing import clocked
from bench.workloads.jpeg_files import HEIGHT, WIDTH, draw_texture, make, named, spread
from twofold.data.process_pool import worker_count

ROOT = Path(__file__).resolve().parents[2]
COUNT, SIZE = 50_000, 224
LIMIT = 1024 * MIB
# With everything looked for, as users run it; what is found is listed alone, so that no image is left out.
STEPS = {
    "ingest": "make_raw(root / 'images', root / 'raw', "
    "audit=dict.fromkeys(UNJUDGED, 'warn') | {'both_labels': 'fail'})",
    "preprocess": f"make_prepared(root / 'raw', root / 'prepared', image_size={SIZE}, "
    "audit=dict.fromkeys(UNAUDITED, 'warn'))",
}


def run(count: int, place: Path) -> dict[str, Any]:
    """Make the files, run either step in a process of its own, then decode alone."""
    took = clocked(lambda: spread(make, place, count))
    total = sum(item.stat().st_size for item in (place / "images").rglob("*.jpg"))
    print(f"{count} JPEGs of {WIDTH}x{HEIGHT}, {total / count / 1000:.0f} kB each, made in {took:.0f} s", flush=True)
    result: dict[str, Any] = {"count": count, "workers": worker_count(), "bytes": total}
    for name, call in STEPS.items():
        script = f"from pathlib import Path; from tests.support.makers import *; root = Path({str(place)!r}); {call}"
        begin = time.perf_counter()
        # A memo of its own: one that has seen these files before would answer in the decoder's place.
        environment = {**os.environ, "TWOFOLD_CACHE": str(place / "memo")}
        held, most = peak(subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, env=environment))
        rate = count / (time.perf_counter() - begin)
        result[name] = {"images_per_second": rate, "peak_bytes": held, "processes": most}
        figures = json.loads((place / ("raw.json" if name == "ingest" else "prepared.json")).read_text())
        if figures["images"] != count:
            raise SystemExit(f"bench: {name} kept {figures['images']} of {count} images; that is not the work")
    limit = count / clocked(lambda: spread(decode, place, count))
    result["decode_limit"] = limit
    for name in STEPS:
        rate, held, most = result[name].values()
        print(
            f"{name:<10} {rate:6.0f} images/s, {rate / limit:.2f} of the decode limit of {limit:.0f}; "
            f"peak memory {held / MIB:.0f} MiB in {most} processes ({'below' if held < LIMIT else 'ABOVE'} 1024)",
            flush=True,
        )
    return result


def decode(place: Path, numbers: Iterable[int]) -> None:
    """What no step can do without."""
    for number in numbers:
        with Image.open(named(place, "bad" if number % 2 else "good", number)) as image:
            image.load()


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m bench.studies.ingest_throughput")
    parser.add_argument("count", nargs="?", type=int, default=COUNT)
    count = parser.parse_args().count
    with tempfile.TemporaryDirectory(prefix="twofold-bench-", dir=os.environ.get("TMPDIR")) as name:
        place = Path(name)
        for label in ("bad", "good"):
            (place / "images" / label).mkdir(parents=True)
        draw_texture().save(place / "texture.png", compress_level=1)
        result = run(count, place)
    save("ingestion", result)


if __name__ == "__main__":
    main()
