"""Hostile images: each gives the same pixels in every run or a clear error, in seconds and below a gigabyte."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench.harness.memory import MIB, peak_memory
from tests.support.hostile_cases import BOMBS, CASES, ODD, TURNED, UNUSUAL
from tests.support.hostile_images import BASES, DECODED, EITHER, Case
from tests.support.makers import file_bytes, make_folder
from tests.support.tools.confined import ROOT, confined, fate, limits_of_params
from twofold.core.artifacts import read_csv
from twofold.data.decoding import Limits
from twofold.data.process_pool import map_in_order

pytestmark = pytest.mark.slow
SECONDS = 20.0
GIB = 1024 * MIB
# libtiff and Pillow's log write to stderr; neither is a warning of Python's.
NOISE = re.compile(r"(?!.*Warning)[A-Za-z0-9_.]+: .*|More samples per pixel than can be decoded: .*|")
ENDINGS = (".png", ".jpg", ".JPEG", ".webp", ".bmp", ".tif", ".tiff")  # given to files of other formats
SCRIPT = """
import json, sys
from pathlib import Path
from tests.support.makers import make_raw
make_raw(sys.argv[1], Path(sys.argv[2]), **json.loads(sys.argv[3]))
"""


@pytest.fixture(scope="module")
def limits():
    return limits_of_params()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("hostile") / "files"
    root.mkdir()
    for name, case in CASES.items():
        (root / name).write_bytes(case.make())
    return root


@pytest.fixture(scope="module")
def costs(folder, limits):
    return confined(folder, limits, SECONDS)


def test_the_number_of_cases():
    assert len(BOMBS) >= 40
    assert len(ODD) >= 40
    assert len(TURNED) == 4 * 11
    assert len(UNUSUAL) >= 40
    assert len(CASES) == len(BOMBS) + len(ODD) + len(TURNED) + len(UNUSUAL) + 12 * len(BASES)


@pytest.mark.parametrize("name", CASES)
def test_each_file_alone(name, costs):
    cost, expected = costs[name], CASES[name].fate
    assert as_expected(cost.found, CASES[name]), f"{cost.found}; expected {expected}"
    assert cost.seconds < SECONDS
    assert cost.peak < GIB
    assert all(NOISE.fullmatch(line) for line in cost.stderr.splitlines()), cost.stderr
    assert not re.search(r"0x[0-9a-f]{6}", cost.found)  # a memory address differs in every run


def as_expected(found: str, case: Case) -> bool:
    if case.fate == DECODED:
        return found.startswith("decoded: ")
    if case.fate == EITHER:
        return found.startswith(("decoded: ", "refused: "))
    return found.startswith("refused: ") and re.search(case.fate, found) is not None


def _fates(task: tuple[list[Path], Limits]) -> dict[str, str]:
    return {path.name: fate(path.read_bytes(), task[1]) for path in task[0]}


def test_results_are_the_same_twice_in_this_process_and_in_workers(folder, limits, costs):
    expected = {name: cost.found for name, cost in costs.items()}
    paths = sorted(folder.iterdir())
    assert _fates((paths, limits)) == expected
    assert _fates((paths[::-1], limits)) == expected
    batches = [(paths[start : start + 10], limits) for start in range(0, len(paths), 10)]
    found: dict[str, str] = {}
    for part in map_in_order(_fates, batches, 2):
        found |= part
    assert found == expected


def test_ingest_lists_each_refused_file_with_one_worker_and_with_two(folder, limits, costs, tmp_path):
    images = make_folder(tmp_path / "images", per_class=12, size=32)
    keys = {}
    for number, path in enumerate(sorted(folder.iterdir())):
        keys[f"bad/{path.name}{ENDINGS[number % len(ENDINGS)]}"] = path.name
        (images / f"bad/{path.name}{ENDINGS[number % len(ENDINGS)]}").hardlink_to(path)
    values = {name: getattr(limits, name) for name in Limits.__slots__} | {"max_refused_fraction": 1.0}
    for workers in (1, 2):
        process = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, images, tmp_path / f"raw{workers}", json.dumps(values)],
            cwd=ROOT,
            # A separate cache, so that the second run decodes the files too.
            env={
                **os.environ,
                "PYTHONPATH": str(ROOT),
                "TWOFOLD_WORKERS": str(workers),
                "TWOFOLD_CACHE": str(tmp_path / f"cache{workers}"),
            },
        )
        memory, _ = peak_memory(process)
        assert process.returncode == 0
        print(f"{workers} workers: peak {memory / MIB:.0f} MiB")
        assert memory < workers * GIB
    refused = {row["key"]: f"refused: {row['reason']}" for row in read_csv(tmp_path / "raw1" / "quarantine.csv")}
    assert refused == {key: costs[name].found for key, name in keys.items() if costs[name].found[:7] == "refused"}
    assert file_bytes(tmp_path / "raw1") == file_bytes(tmp_path / "raw2")
