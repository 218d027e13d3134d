"""README, docs, Makefile and requirements.lock agree with the code and with each other."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import reference_tables
from tests.test_contract import FLOORS
from twofold.core.errors import ParameterError

ROOT = Path(__file__).resolve().parent.parent


def test_the_lock_holds_every_dependency_with_its_hash_and_no_address():
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    for block in re.split(r"\n(?=[a-z0-9])", lock):
        if block[:1].isalnum():
            assert "==" in block.splitlines()[0], block[:60]
            assert "--hash=sha256:" in block, block[:60]


def test_the_readmes_commands_exist():
    readme = (ROOT / "README.md").read_text()
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    mentioned = set(re.findall(r"(?:`|^)make ([a-z][a-z-]*)", readme, re.MULTILINE))
    assert {"demo", "test"} <= mentioned
    assert mentioned <= targets
    for command in set(re.findall(r"^\s*(?:\$ )?twofold ([a-z]+(?: [a-z]+)?)", readme, re.MULTILINE)):
        words = [*command.split(), "--help"]
        done = subprocess.run([sys.executable, "-m", "twofold.cli", *words], capture_output=True, cwd=ROOT, check=False)
        assert done.returncode == 0, f"README: twofold {command}"


def test_the_readmes_first_two_commands_are_demo_and_test():
    blocks = re.findall(r"```(?:sh|bash|console)\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    commands = [line.split("#")[0].strip() for block in blocks for line in block.splitlines() if line.strip()]
    assert commands[:2] == ["make demo", "make test"]


def test_the_tables_of_parameters_and_resources_are_those_of_the_models():
    assert reference_tables.main(["--check"]) == 0


def test_a_table_is_written_between_its_marks_and_checked(tmp_path, monkeypatch, capsys):
    page = tmp_path / "README.md"
    begin, end = reference_tables.marks("parameters")
    page.write_text(f"# A\n\n{begin}\n{end}\n\nend\n")
    monkeypatch.setattr(reference_tables, "ROOT", tmp_path)
    monkeypatch.setattr(reference_tables, "PAGES", {page: ("parameters", reference_tables.parameters)})
    assert reference_tables.main(["--check"]) == 1
    assert "out of date: README.md; run: make readme" in capsys.readouterr().out
    assert reference_tables.main([]) == 0
    text = page.read_text()
    assert text.startswith("# A\n")
    assert text.endswith("\n\nend\n")
    assert "| `positive` | The class to detect" in text
    assert reference_tables.main(["--check"]) == 0


def test_a_page_without_the_marks_is_refused(tmp_path):
    (tmp_path / "README.md").write_text("# A\n")
    with pytest.raises(ParameterError, match="must hold the marks"):
        reference_tables.replace_table(tmp_path / "README.md", "parameters", "", write=False)


def test_the_page_on_the_architecture_has_the_wings_on_their_floors_and_names_files_that_exist():
    page = (ROOT / "docs" / "architecture.md").read_text()
    drawn = {wing: int(floor) for floor, wings in re.findall(r'"(\d+) · ([^"]+)"', page) for wing in wings.split(" · ")}
    assert drawn == FLOORS
    table = page[page.index("| wing |") : page.index("Beside the package")]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(FLOORS)
    named = set(re.findall(r"`([\w/]+/[\w/]*(?:\.\w+)?)`", page)) - {"data/raw", "data/prepared"}
    assert len(named) > 40
    for name in named:
        assert (ROOT / name).exists() or (ROOT / "twofold" / name).exists(), name
