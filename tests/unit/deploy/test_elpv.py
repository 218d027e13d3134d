"""The script that writes the sample data."""

import importlib.util
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.support.makers import file_bytes
from twofold.core.errors import DataError

SCRIPT = Path(__file__).resolve().parents[3] / "data" / "elpv.py"


@pytest.fixture(scope="module")
def elpv():
    spec = importlib.util.spec_from_file_location("elpv_script", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def cells(elpv):
    strata = {("mono", "defective"): 369, ("mono", "functional"): 705, ("poly", "defective"): 452}
    strata["poly", "functional"] = 2624 - sum(strata.values())
    return [elpv.Cell(f"{t}{name}{n}", name, t) for (t, name), count in strata.items() for n in range(count)]


def test_splits_are_exact_and_stratified(elpv, cells):
    splits = elpv.draw_splits(cells, 0)
    assert Counter(splits.values()) == {"test": 656, "validation": 295, "train": 1673}
    for split, share in (("test", 656 / 2624), ("validation", 295 / 2624)):
        for kind in {(cell.type, cell.label) for cell in cells}:
            stratum = [cell.path for cell in cells if (cell.type, cell.label) == kind]
            assert abs(sum(splits[path] == split for path in stratum) - share * len(stratum)) < 2


def test_the_splits_depend_on_the_seed_and_not_on_the_order(elpv, cells):
    assert elpv.draw_splits(cells, 3) == elpv.draw_splits(cells[::-1], 3)
    assert elpv.draw_splits(cells, 3) != elpv.draw_splits(cells, 4)


def test_the_written_folder(elpv, tmp_path, monkeypatch):
    source = tmp_path / "package"
    (source / "images").mkdir(parents=True)
    rows = [(f"images/{n}.png", p, t) for n, (p, t) in enumerate([(0.0, "mono"), (1 / 3, "poly"), (2 / 3, "mono")] * 8)]
    for path, _, _ in rows:
        (source / path).write_bytes(path.encode())
    (source / "labels.csv").write_text("".join(f"{path}  {value}   {kind}\n" for path, value, kind in rows))
    monkeypatch.setattr(elpv, "find_package", lambda: source)
    for name, count in (("IMAGES", 24), ("TEST", 6), ("VALIDATION", 3)):
        monkeypatch.setattr(elpv, name, count)
    elpv.write_sample_data(0, tmp_path / "out")
    elpv.write_sample_data(0, tmp_path / "again")
    files = file_bytes(tmp_path / "out")
    assert files == file_bytes(tmp_path / "again")
    table = files["labels.csv"].decode().splitlines()
    assert table[0] == "path,label,split,type"
    assert Counter(line.split(",")[1] for line in table[1:]) == {"defective": 8, "functional": 16}
    assert files["images/5.png"] == b"images/5.png"
    assert b"CC-BY-NC-SA-4.0" in files["LICENSE.txt"]


def test_without_the_package_the_error_says_what_to_do(elpv, monkeypatch):
    monkeypatch.setattr(elpv.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="make setup"):
        elpv.find_package()


OWN = """
stages:
  toy:
    cmd: cp own out
    params: [value]
    deps: [own]
    outs: [out]
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project on other data, with a remote and the experiment `other`, in which the sample data were never made."""
    root = tmp_path_factory.mktemp("project")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    git = {f"GIT_{role}_{key}": "a@b" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")}
    environment = {**os.environ, **git, "PATH": path, "HOME": str(root), "DVC_NO_ANALYTICS": "1"}

    def run(command):
        done = subprocess.run(command.split(), cwd=root, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    (root / "data").mkdir()
    for name in ("dvc.yaml", "dvc.lock", "elpv.py"):
        shutil.copy(SCRIPT.with_name(name), root / "data")
    for name, text in {"dvc.yaml": OWN, "params.yaml": "value: 1", "own": "x", ".gitignore": "/remote"}.items():
        (root / name).write_text(text)
    for command in ("git init -q", "dvc init -q", "dvc remote add -d store remote", "dvc repro toy", "git add ."):
        run(command)
    for command in ("git commit -q -m x", "dvc exp run -S value=2 -n other toy", "git reset -q --hard", "dvc push toy"):
        run(command)
    return run


@pytest.mark.parametrize("command", ["dvc checkout", "dvc pull", "dvc exp apply other"])
def test_the_sample_data_are_not_in_the_way_of_other_data(project, command):
    project(command)
