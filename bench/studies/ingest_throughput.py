"""`python -m bench.studies.ingest_throughput [COUNT]`: rate and peak memory of ingest and preprocess on many JPEGs.

Generates COUNT (50,000) JPEGs of 500x375. Prints the results and writes bench/results/<hardware>/ingestion.json: the
images per second of each step, compared with Pillow decoding the same files in as many processes, and the peak memory
of all processes of a step together.
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

from bench.harness.memory import MIB, peak_memory
from bench.harness.results import save
from bench.harness.timing import measure_seconds
from bench.workloads.jpeg_files import HEIGHT, WIDTH, distribute, image_path, write_images, write_texture
from bench.workloads.step_commands import ROOT
from twofold.data.process_pool import worker_count

COUNT, SIZE = 50_000, 224
LIMIT = 1024 * MIB
# With all checks, as users run the steps, but only as warnings, so that no image is left out.
STEPS = {
    "ingest": "make_raw(root / 'images', root / 'raw', "
    "audit=dict.fromkeys(UNJUDGED, 'warn') | {'both_labels': 'fail'})",
    "preprocess": f"make_prepared(root / 'raw', root / 'prepared', image_size={SIZE}, "
    "audit=dict.fromkeys(UNAUDITED, 'warn'))",
}


def run(count: int, folder: Path) -> dict[str, Any]:
    """Write the files, run each step in a separate process, then only decode."""
    write_texture(folder)
    seconds = measure_seconds(lambda: distribute(write_images, folder, count))
    total = sum(item.stat().st_size for item in (folder / "images").rglob("*.jpg"))
    size = f"{total / count / 1000:.0f} kB"
    print(f"{count} JPEGs of {WIDTH}x{HEIGHT}, {size} each, written in {seconds:.0f} s", flush=True)
    result: dict[str, Any] = {"count": count, "workers": worker_count(), "bytes": total}
    environment = os.environ | {"TWOFOLD_CACHE": str(folder / "cache")}  # empty, so that every file is decoded
    for name, call in STEPS.items():
        script = f"from pathlib import Path; from tests.support.makers import *; root = Path({str(folder)!r}); {call}"
        begin = time.perf_counter()
        memory, processes = peak_memory(subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, env=environment))
        rate = count / (time.perf_counter() - begin)
        result[name] = {"images_per_second": rate, "peak_bytes": memory, "processes": processes}
        metrics = json.loads((folder / ("raw.json" if name == "ingest" else "prepared.json")).read_text())
        if metrics["images"] != count:
            raise SystemExit(f"bench: {name} kept {metrics['images']} of {count} images; this is not the same work")
    limit = count / measure_seconds(lambda: distribute(_decode, folder, count))
    result["decode_limit"] = limit
    for name in STEPS:
        rate, memory, processes = result[name].values()
        print(
            f"{name:<10} {rate:6.0f} images/s, {rate / limit:.2f} of the decode limit of {limit:.0f}; peak memory "
            f"{memory / MIB:.0f} MiB in {processes} processes ({'below' if memory < LIMIT else 'ABOVE'} 1024)",
            flush=True,
        )
    return result


def _decode(folder: Path, numbers: Iterable[int]) -> None:
    for number in numbers:
        with Image.open(image_path(folder, number)) as image:
            image.load()


def main() -> None:
    """Run the study in a temporary folder and write the result."""
    parser = argparse.ArgumentParser(prog="python -m bench.studies.ingest_throughput")
    parser.add_argument("count", nargs="?", type=int, default=COUNT)
    count = parser.parse_args().count
    with tempfile.TemporaryDirectory(prefix="twofold-bench-", dir=os.environ.get("TMPDIR")) as name:
        save("ingestion", run(count, Path(name)))


if __name__ == "__main__":
    main()
