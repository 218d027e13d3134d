"""ingest and preprocess hold memory constant: 20,000 images, all processes counted."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench.harness.memory import MIB, peak
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
    """Different images that cost little to make: one a class, with its number written into the first pixels."""
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
    held, most = peak(process)
    assert process.returncode == 0
    assert np.load(tmp_path / "data" / "part-00000.npy", mmap_mode="r").shape[1:] == (224, 224, 1)
    print(f"peak {held / MIB:.0f} MiB in {most} processes")
    assert most > 1 or len(os.sched_getaffinity(0)) == 1
    assert 0 < held < LIMIT


def test_a_child_that_was_only_just_started_is_not_counted_as_another_copy_of_its_parent():
    code = "import subprocess; held = b'1' * (200 << 20)\nfor _ in range(500): subprocess.run(['true'])"
    held, processes = peak(subprocess.Popen([sys.executable, "-c", code]))
    assert 200 * MIB <= held < 300 * MIB
    assert processes <= 2
