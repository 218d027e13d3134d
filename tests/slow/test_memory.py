"""The memory of ingest and preprocess does not grow with the number of images: 20,000 images, all processes."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench.harness.memory import MIB, peak_memory
from tests.support.makers import encode, pixels

LIMIT = 1024 * MIB
PER_CLASS = 10_000
SCRIPT = """
import sys
from pathlib import Path
from tests.support.makers import make_prepared, make_raw
root = Path(sys.argv[1])
make_prepared(make_raw(root / "images", root / "raw"), root / "data", image_size=224)
"""


def make_many(root):
    """Write different images quickly: one per class, with the image's number in the first pixels."""
    for label in ("bad", "good"):
        (root / label).mkdir(parents=True)
        base = pixels(np.random.default_rng(len(label)), 128, label == "bad")
        for number in range(PER_CLASS):
            base[0, :4] = np.frombuffer(number.to_bytes(4, "little"), np.uint8)
            (root / label / f"{number:05d}.png").write_bytes(encode(base, compress_level=1))
    return root


@pytest.mark.slow
def test_memory_stays_below_a_gigabyte_at_20000_images(tmp_path):
    make_many(tmp_path / "images")
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path)], cwd=root, env=environment)
    memory, processes = peak_memory(process)
    assert process.returncode == 0
    assert np.load(tmp_path / "data" / "part-00000.npy", mmap_mode="r").shape[1:] == (224, 224, 1)
    print(f"peak {memory / MIB:.0f} MiB in {processes} processes")
    assert processes > 1 or len(os.sched_getaffinity(0)) == 1
    assert 0 < memory < LIMIT


def test_a_child_that_has_just_started_is_not_counted_with_its_parents_memory():
    code = "import subprocess; held = b'1' * (200 << 20)\nfor _ in range(500): subprocess.run(['true'])"
    memory, processes = peak_memory(subprocess.Popen([sys.executable, "-c", code]))
    assert 200 * MIB <= memory < 300 * MIB
    assert processes <= 2
