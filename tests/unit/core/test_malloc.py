"""Freed memory is kept, so that the next work does not map it again."""

import platform
import resource
import subprocess
import sys

import pytest

from twofold.core import malloc
from twofold.data import process_pool

# Like one image after another: memory is allocated, written to, freed, and allocated again. The blocks are larger than
# any gap that imports leave in the heap, in which nothing would be mapped anew.
BLOCKS, BYTES, ROUNDS = 3, 15 << 20, 5
WORK = f"""
import platform
import resource
from twofold.core import malloc
from twofold.data import process_pool
{{before}}
faults = []
for _ in range(2 * {ROUNDS}):
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
    blocks = [b"x" * {BYTES} for _ in range({BLOCKS})]
    del blocks
print(faults[-1] - faults[-1 - {ROUNDS}])
"""


def faults(before):
    script = WORK.format(before=before)
    return int(subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
@pytest.mark.parametrize("name", ["keep_freed_memory", "keep_all_freed_memory"])
def test_repeated_work_maps_no_new_pages(name):
    page = resource.getpagesize()
    anew = ROUNDS * BLOCKS * BYTES // page
    assert faults("") > anew / 10
    assert faults(f"malloc.{name}()") < anew / 100


def test_without_glibc_nothing_is_set(monkeypatch):
    monkeypatch.setattr(malloc.platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(malloc.ctypes, "CDLL", lambda name: pytest.fail("mallopt does not exist"))
    malloc.keep_freed_memory()


def again(rounds):
    """Page faults in the last of several rounds of the same work."""
    before = 0
    for _ in range(rounds):
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        blocks = [bytes(150_000) for _ in range(16)]
        del blocks
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="mallopt is glibc's")
def test_pool_workers_keep_freed_memory():
    anew = 16 * 150_000 // resource.getpagesize()
    assert all(faults < anew / 10 for faults in process_pool.map_in_order(again, [20] * 4, 2))
