"""The command `twofold`: parameters, errors and exit statuses."""

import re
from importlib.metadata import version
from pathlib import Path

import pytest

from twofold.cli import main
from twofold.promotion import attainable_gates
from twofold.promotion.attainable_gates import UnattainableGate

ROOT = Path(__file__).resolve().parents[3]


def call(*words):
    with pytest.raises(SystemExit) as caught:
        main.main(words)
    return caught.value.code


@pytest.fixture
def params(tmp_path):
    copy = tmp_path / "params.yaml"
    copy.write_text((ROOT / "tests" / "params.yaml").read_text())
    return str(copy)


def test_the_version_names_the_commit(capsys):
    assert call("--version") == 0
    assert re.fullmatch(rf"twofold {version('twofold')} \(commit [0-9a-f]{{40}}(-dirty)?\)\n", capsys.readouterr().out)


def test_params_get_and_set(params, capsys):
    assert call("params", "set", "--params", params, "ingest.positive=bad") == 0
    assert "+  positive: bad" in capsys.readouterr().out
    assert call("params", "set", "--params", params, "ingest.positive=bad") == 0
    assert "nothing to change" in capsys.readouterr().out
    assert call("params", "get", "--params", params, "ingest.positive") == 0
    assert capsys.readouterr().out == "bad\n"


def test_an_error_is_printed_and_the_exit_status_is_1(params, capsys):
    assert call("params", "set", "--params", params, "finetune_all.epochs=three") == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("twofold: error: params.yaml:\n  finetune_all.epochs: found 'three';")


def test_params_check_prints_nothing_if_all_sections_are_valid(params, capsys):
    assert call("params", "check", "--params", params) == 0
    assert capsys.readouterr() == ("", "")


def test_params_check_warns_of_gates_that_the_prepared_test_cannot_prove(params, tmp_path, monkeypatch, capsys):
    def find(data, sections):
        assert data == tmp_path / "data" / "prepared"
        return [UnattainableGate(gate.figure, "seen", "add images") for gate in sections["register"].gates[:1]]

    monkeypatch.setattr(attainable_gates, "find_in_prepared", find)
    assert call("params", "check", "--params", params) == 0
    assert capsys.readouterr() == ("", "twofold: warning: roc_auc: seen; add images\n")


def test_a_summary_before_any_run_names_the_missing_file(tmp_path, capsys):
    assert call("summary", "--root", str(tmp_path)) == 1
    assert "ingest.json: no such file; has the step that writes it run?" in capsys.readouterr().err


def test_no_command_is_a_usage_error(capsys):
    assert call() == 2
    assert "COMMAND" in capsys.readouterr().err
