"""README, docs, Makefile and requirements.lock agree with the code and with each other."""

import ast
import io
import re
import shlex
import subprocess
import sys
from contextlib import redirect_stderr
from importlib.util import find_spec
from pathlib import Path

import pytest

from scripts.reference import __main__ as reference
from scripts.reference import environment, tables, tracking
from tests.test_contract import FLOORS
from twofold.cli import main
from twofold.cli.kfp.command import COMMANDS

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "skeleton" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [page for page in PAGES if "_build" not in page.parts]
GENERATED = [ROOT / "docs" / "reference" / f"{name}.md" for name in reference.PAGES]


def texts_of(file):
    """The parts of every text in a Python file between its inserted values."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]


def commands_of(page):
    """The `twofold …` commands in the shell blocks of a page, one a line, without comments and redirections."""
    for block in re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            for part in re.split(r"&&|\|\|?|;| > | & ", line.split(" #")[0]):
                if part.strip().startswith("twofold ") and "…" not in part:
                    yield shlex.split(part, comments=True)[1:]


def test_the_lock_holds_every_dependency_with_its_hash_and_no_address():
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock
    for block in re.split(r"\n(?=[a-z0-9])", lock):
        if block[:1].isalnum():
            assert "==" in block.splitlines()[0], block[:60]
            assert "--hash=sha256:" in block, block[:60]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_that_a_page_shows_is_accepted(page, monkeypatch):
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", "http://localhost:8080")
    parser = main._parser([*COMMANDS])
    for words in commands_of(page):
        errors = io.StringIO()
        try:
            with redirect_stderr(errors):
                parser.parse_args(words)
        except SystemExit as ended:
            assert ended.code == 0, f"twofold {' '.join(words)}: {errors.getvalue()}"
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make ([a-z][a-z-]*)", page.read_text(), re.MULTILINE)) <= targets


def test_every_path_of_a_command_in_the_sample_data_is_one_that_they_have():
    package = Path(find_spec("elpv_dataset").origin).parent / "data"  # data/elpv.py keeps its paths
    asked = [word for page in PAGES for words in commands_of(page) for word in words if "data/elpv/" in word]
    assert asked
    assert [word for word in asked if not [*package.glob(word.partition("data/elpv/")[2])]] == []


def test_the_readme_is_short_and_begins_with_the_demo():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 150
    first = re.findall(r"```sh\n(.*?)```", text, re.DOTALL)[0]
    assert first.startswith("make demo ")


def test_readme_and_docs_are_shorter_than_before_they_were_a_site():
    texts = [page.read_text(encoding="utf-8") for page in PAGES if page not in GENERATED]
    written = [re.sub(r"<!-- speed: made.*?<!-- speed: end -->", "", text, flags=re.DOTALL) for text in texts]
    assert sum(len(text.split()) for text in written) < 24_092


def test_every_link_of_the_readme_leads_to_a_file():
    links = re.findall(r"\]\(([^)#]+)[^)]*\)|(?:src|srcset)=\"([^\"]+)\"", (ROOT / "README.md").read_text())
    local = [link for pair in links for link in pair if link and "://" not in link]
    assert len(local) > 20
    assert [link for link in local if not (ROOT / link).exists()] == []


def test_the_generated_reference_is_that_of_the_code(capsys):
    assert reference.main(["--check"]) == 0, capsys.readouterr().out


def test_a_stale_page_is_named_and_written(tmp_path, monkeypatch, capsys):
    (tmp_path / "reference").mkdir()
    monkeypatch.setattr(reference, "DOCS", tmp_path)
    monkeypatch.setattr(reference, "PAGES", {"parameters": reference.PAGES["parameters"]})
    assert reference.main(["--check"]) == 1
    assert "out of date: docs/reference/parameters.md; run: make reference" in capsys.readouterr().out
    assert reference.main([]) == 0
    assert "| `positive` | The class to detect" in (tmp_path / "reference" / "parameters.md").read_text()
    assert reference.main(["--check"]) == 0


def test_a_bar_in_a_cell_does_not_split_it():
    assert tables.table(("a", "b"), [("x", "y | z")]) == "| a | b |\n|---|---|\n| x | y \\| z |"


def test_every_variable_of_twofold_and_kubeflow_that_the_code_reads_is_in_the_reference():
    files = [*(ROOT / "twofold").rglob("*.py"), *(ROOT / "components").rglob("*.py")]
    read = {text for file in files for text in texts_of(file) if re.fullmatch(r"(TWOFOLD|KFP?)_[A-Z_]+", text)}
    documented = {name for group in environment.GROUPS.values() for name in group}
    assert {name for name in documented if name.startswith(("TWOFOLD_", "KF"))} == read - {"KFP_POD_NAME"}


def test_every_tag_that_the_code_sets_in_mlflow_is_in_the_reference():
    wings = ("tracking", "registry", "steps", "promotion", "orchestration")
    files = [file for wing in wings for file in (ROOT / "twofold" / wing).rglob("*.py")]
    found = {
        match[1] for file in files for text in texts_of(file) if (match := re.fullmatch(r"(twofold\.[a-z_]+)\.?", text))
    }
    found |= {"twofold.run", "twofold.git"}  # made of a prefix and a key
    modules = {f"twofold.{path.name}" for path in (ROOT / "twofold").iterdir()}
    assert {tag for group in tracking.GROUPS.values() for tag in group} == found - modules - {"twofold.steps"}


def test_the_messages_of_troubleshooting_are_those_of_the_code():
    code = "\n".join(text for file in (ROOT / "twofold").rglob("*.py") for text in texts_of(file))
    titles = re.findall(r"^### `(.+)`$", (ROOT / "docs" / "troubleshooting.md").read_text(), re.MULTILINE)
    assert len(titles) == 20
    for title in titles:
        for part in title.split("…"):
            assert part.strip() in code, f"{title}: no message of twofold/ holds {part.strip()!r}"


def test_the_page_on_the_architecture_has_the_wings_on_their_floors_and_names_files_that_exist():
    page = (ROOT / "docs" / "concepts" / "architecture.md").read_text()
    rows = re.findall(r"^ ?(\d+) · (.+)$", page, re.MULTILINE)
    assert {wing: int(floor) for floor, wings in rows for wing in wings.split(" · ")} == FLOORS
    table = page[page.index("| wing |") : page.index("Beside the package")]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == list(FLOORS)
    named = set(re.findall(r"`([\w/]+/[\w/]*(?:\.\w+)?)`", page)) - {"data/raw", "data/prepared"}
    assert len(named) > 40
    for name in named:
        assert (ROOT / name).exists() or (ROOT / "twofold" / name).exists(), name


def test_the_site_builds_without_a_warning_and_without_network(tmp_path):
    # Broken links are warnings. The proxy refuses whatever the build would fetch.
    words = [sys.executable, "-m", "sphinx", "-W", "-n", "-q", "docs", str(tmp_path)]
    nowhere = {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    done = subprocess.run(words, cwd=ROOT, env=nowhere | {"PATH": "/usr/bin:/bin"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    front = (tmp_path / "index.html").read_text()
    assert "tutorials/demo.html" in front
    assert re.findall(r"""(?:src|href)=["'](?:https?:)?//(?!pradyunsg|github)[^"']+""", front) == []
