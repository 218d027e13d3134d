"""The script that makes the sample data."""

import importlib.util
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
    splits = elpv.draw(cells, 0)
    assert Counter(splits.values()) == {"test": 656, "validation": 295, "train": 1673}
    for split, share in (("test", 656 / 2624), ("validation", 295 / 2624)):
        for kind in {(cell.type, cell.label) for cell in cells}:
            mine = [cell.path for cell in cells if (cell.type, cell.label) == kind]
            assert abs(sum(splits[path] == split for path in mine) - share * len(mine)) < 2


def test_the_seed_decides(elpv, cells):
    assert elpv.draw(cells, 3) == elpv.draw(cells[::-1], 3)
    assert elpv.draw(cells, 3) != elpv.draw(cells, 4)


def test_the_folder(elpv, tmp_path, monkeypatch):
    source = tmp_path / "package"
    (source / "images").mkdir(parents=True)
    rows = [(f"images/{n}.png", p, t) for n, (p, t) in enumerate([(0.0, "mono"), (1 / 3, "poly"), (2 / 3, "mono")] * 8)]
    for path, _, _ in rows:
        (source / path).write_bytes(path.encode())
    (source / "labels.csv").write_text("".join(f"{path}  {value}   {kind}\n" for path, value, kind in rows))
    monkeypatch.setattr(elpv, "package", lambda: source)
    monkeypatch.setattr(elpv, "IMAGES", 24)
    monkeypatch.setattr(elpv, "TEST", 6)
    monkeypatch.setattr(elpv, "VALIDATION", 3)
    elpv.make(0, tmp_path / "out")
    elpv.make(0, tmp_path / "again")
    made = file_bytes(tmp_path / "out")
    assert made == file_bytes(tmp_path / "again")
    table = made["labels.csv"].decode().splitlines()
    assert table[0] == "path,label,split,type"
    assert Counter(line.split(",")[1] for line in table[1:]) == {"defective": 8, "functional": 16}
    assert made["images/5.png"] == b"images/5.png"
    assert b"CC-BY-NC-SA-4.0" in made["LICENSE.txt"]


def test_without_the_package_it_says_what_to_do(elpv, monkeypatch):
    monkeypatch.setattr(elpv.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="make setup"):
        elpv.package()
