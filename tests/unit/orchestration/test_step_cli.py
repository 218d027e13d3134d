import os
import subprocess
import sys
from pathlib import Path

import pytest

from twofold.core.errors import DataError
from twofold.orchestration import step_cli

ROOT = Path(__file__).resolve().parents[3]
# A locale that Python does not replace by UTF-8.
ASCII = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}


def toy(params: object, data: Path, *, model: Path, metrics: Path) -> None:
    """A step for the tests."""
    model.write_text(f"{params} {data}")
    if data.name == "bad":
        raise DataError("data/bad: 0 images, at least 1 is needed")


@pytest.fixture
def sections(monkeypatch):
    class Register:
        experiment = "cells"

    monkeypatch.setattr(step_cli, "read", lambda path: {"toy": "P", "register": Register()})
    # Set, then removed, so that monkeypatch restores what the step sets.
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "")
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME")


def test_positional_arguments_are_read_and_keyword_only_ones_written():
    assert step_cli.signature(toy) == (("data",), ("model", "metrics"))


@pytest.mark.usefixtures("sections")
def test_a_step_runs_as_a_command(tmp_path):
    step_cli.main(toy, ["--data", "d", "--model", str(tmp_path / "m"), "--metrics", "x"])
    assert (tmp_path / "m").read_text() == "P d"
    assert os.environ["MLFLOW_EXPERIMENT_NAME"] == "cells"


@pytest.mark.usefixtures("sections")
def test_a_twofold_error_is_one_line_and_exit_status_1(tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        step_cli.main(toy, ["--data", "bad", "--model", str(tmp_path / "m"), "--metrics", "x"])
    assert caught.value.code == 1
    assert capsys.readouterr().err == "twofold toy: error: data/bad: 0 images, at least 1 is needed\n"


@pytest.mark.usefixtures("sections")
def test_a_missing_path_is_a_usage_error(capsys):
    with pytest.raises(SystemExit) as caught:
        step_cli.main(toy, ["--data", "d"])
    assert caught.value.code == 2
    assert "--model" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "locale"),
    [
        ("twofold.cli predict --help", ASCII),
        ("twofold.cli drift --help", {"PYTHONIOENCODING": "latin-1"}),
        ("twofold.steps.ingest --help", ASCII),
        ("pipelines --help", ASCII),
    ],
)
def test_help_is_printed_under_any_locale(words, locale):
    env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)} | locale
    done = subprocess.run([sys.executable, "-m", *words.split()], env=env, cwd=ROOT, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"usage: " in done.stdout
