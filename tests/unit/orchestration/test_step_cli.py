import os
from pathlib import Path

import pytest

from twofold.core.errors import DataError
from twofold.orchestration import step_cli


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
