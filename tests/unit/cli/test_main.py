"""The command `twofold`: parameters, errors and exit statuses."""

import argparse
import json
import os
import re
import resource
import shlex
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

from twofold.cli import main
from twofold.promotion import attainable_gates
from twofold.promotion.attainable_gates import UnattainableGate
from twofold.training import pretrained_weights

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


def test_pinned_weights_are_written_with_their_backbone(params, capsys, monkeypatch):
    asked, weights = [], "sha256:" + "12" * 32
    monkeypatch.setattr(pretrained_weights, "pin_weights", lambda *given: asked.append(given) or weights)
    assert call("weights", "pin", "timm/resnet18", "--params", params) == 0
    assert asked == [("timm/resnet18", 224)]
    assert f"+  backbone: timm/resnet18\n+  weights: {weights}\n" in capsys.readouterr().out
    assert f"  backbone: timm/resnet18\n  weights: {weights}\n  flips" in Path(params).read_text()


def test_params_get_and_set(params, capsys):
    assert call("params", "set", "--params", params, "ingest.positive=bad") == 0
    assert "+  positive: bad" in capsys.readouterr().out
    assert call("params", "set", "--params", params, "ingest.positive=bad") == 0
    assert "nothing to change" in capsys.readouterr().out
    assert call("params", "get", "--params", params, "ingest.positive") == 0
    assert capsys.readouterr().out == "bad\n"


def test_a_source_that_is_not_there_warns_at_once(params, tmp_path, capsys):
    (tmp_path / "images").mkdir()
    for source in ("images", tmp_path / "images", "s3://bucket/images"):
        assert call("params", "set", "--params", params, f"ingest.source={source}") == 0
        assert capsys.readouterr().err == ""
    assert call("params", "set", "--params", params, "ingest.source=/nowhere") == 0
    captured = capsys.readouterr()
    assert captured.err == "twofold: warning: ingest.source: there is no folder /nowhere, so ingest will fail\n"
    assert "+  source: /nowhere" in captured.out


def test_commands_find_the_project_from_a_folder_below(params, tmp_path, capsys, monkeypatch):
    (tmp_path / "data" / "raw").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "data" / "raw")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/none.db")
    assert call("params", "get", "ingest.positive") == 0
    assert call("params", "check") == 0
    assert call("params", "set", "ingest.positive=bad") == 0
    assert "--- ../../params.yaml (before)" in capsys.readouterr().out
    commands = [["models", "list"], ["summary"], ["report", "--markdown"], ["predict", "champion", "."], ["upgrade"]]
    for words in commands:
        assert call(*words) == 1
        assert "no params.yaml" not in capsys.readouterr().err
    monkeypatch.chdir("/")
    for words in (*commands, ["params", "get", "a.b"], ["forget", "0" * 64]):
        if words[0] != "predict":
            assert call(*words) == 1
            assert "/: no params.yaml here or in a folder above" in capsys.readouterr().err


def test_values_are_printed_as_json(params, capsys):
    assert call("params", "get", "--params", params, "train_head.epochs", "--json") == 0
    assert json.loads(capsys.readouterr().out) == 60
    assert call("params", "get", "--params", params, "train_head.audit", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"label_issues": "warn"}
    assert call("cache", "show", "--json") == 0
    assert json.loads(capsys.readouterr().out) == {"cache": None}


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


def test_without_a_command_the_groups_are_printed_with_an_example_each(capsys):
    assert call() == 0
    printed = capsys.readouterr().out
    parser = main._parser(())
    (commands,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
    assert sorted(each.split()[0] for group in main.GROUPS.values() for each in group) == sorted(commands.choices)
    for group, examples in main.GROUPS.items():
        assert f"\n{group}:\n" in printed
        for example in examples:
            assert f"\n  {example.split()[0]:<12}" in printed
            assert f"$ twofold {example}\n" in printed
            words = shlex.split(example.partition(" >> ")[0])
            assert callable(main._parser(words).parse_args(words).run), example
    assert max(map(len, printed.splitlines())) <= 80
    assert call("--help") == 0
    assert capsys.readouterr().out == printed


def test_help_starts_quickly():
    words = [sys.executable, "-m", "twofold.cli", "--help"]
    seconds = []
    for _ in range(3):
        begin = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(words, capture_output=True, check=True)
        end = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(end.ru_utime + end.ru_stime - begin.ru_utime - begin.ru_stime)
    assert min(seconds) < 0.3


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["modles"], "twofold: error: argument COMMAND: no such command; did you mean models? (choose from init, "),
        (["models", "lst"], "twofold models: error: argument COMMAND: no such command; did you mean list? (choose"),
        (["models", "list", "--jsn"], "error: unrecognized: --jsn (values are not shown); did you mean --json?\n"),
        (
            ["models", "list", "--param", "x"],
            "error: unrecognized: --param, a value without an option (values are not ",
        ),
        (["--versoin"], "twofold: error: unrecognized: --versoin (values are not shown); did you mean --version?\n"),
        (["kfp", "submti"], "twofold kfp: error: argument COMMAND: no such command; did you mean submit? (choose from"),
        (
            ["kfp", "compile", "--tokn=S3cret"],
            "twofold kfp compile: error: unrecognized: --tokn (values are not shown)\n",
        ),
        (["--token", "S3cret", "kfp"], "twofold: error: argument COMMAND: no such command (choose from init, "),
        (
            ["export", "onx", "3", "d"],
            "error: argument kind: no such choice; did you mean onnx? (choose from onnx, torch)",
        ),
    ],
)
def test_a_misspelt_word_is_answered_with_the_one_that_was_meant_and_never_repeated(words, message, capsys):
    assert call(*words) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""
    assert "S3cret" not in captured.err


def test_the_old_name_of_the_kubeflow_commands_stays_and_says_that_it_is_deprecated(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["twofold-pipelines", "schedule", "--help"])
    with pytest.raises(SystemExit) as caught:
        main.twofold_pipelines()
    captured = capsys.readouterr()
    assert (caught.value.code, captured.err) == (0, f"{main.DEPRECATED}\n")
    assert captured.out.startswith("usage: twofold kfp schedule ")
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts["twofold-pipelines"] == "twofold.cli.main:twofold_pipelines"


def complete(script, *words):
    """What bash offers for the last word of a command line."""
    ask = f"""source {script}
COMP_WORDS=({" ".join(f"'{word}'" for word in words)}); COMP_CWORD={len(words) - 1}
$(complete -p twofold | sed -E 's/.*-F ([^ ]+) .*/\\1/') twofold
printf '%s\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash", "--norc", "-c", ask], capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_bash_completes_commands_options_and_choices(tmp_path, capsys):
    assert call("completion", "bash") == 0
    script = tmp_path / "twofold.bash"
    script.write_text(capsys.readouterr().out)
    assert complete(script, "twofold", "mo") == ["models"]
    assert complete(script, "twofold", "models", "re") == ["reject", "reproduce"]
    assert complete(script, "twofold", "models", "list", "--js") == ["--json"]
    assert complete(script, "twofold", "kfp", "submit", "--tok") == ["--token-file", "--token"]
    assert complete(script, "twofold", "export", "on") == ["onnx"]


def test_zsh_gets_a_script_too(capsys):
    assert call("completion", "zsh") == 0
    assert capsys.readouterr().out.startswith("#compdef twofold")


def test_quiet_leaves_the_result_and_the_errors(params, capsys, monkeypatch):
    monkeypatch.setattr(attainable_gates, "find_in_prepared", lambda data, sections: ["a gate"])
    assert call("params", "check", "--params", params, "--quiet") == 0
    assert capsys.readouterr() == ("", "")
    assert call("--quiet", "params", "get", "--params", params, "ingest.positive") == 0
    assert capsys.readouterr().out == "defective\n"
    assert call("params", "get", "--params", params, "ingest.none", "--quiet") == 1
    assert "ingest.none: no 'none'" in capsys.readouterr().err


@pytest.mark.parametrize(("setting", "shown"), [({}, "\x1b[1mStart:\x1b[0m"), ({"NO_COLOR": "1"}, "Start:")])
def test_a_terminal_has_colour_unless_no_color_is_set(setting, shown):
    command = f"{sys.executable} -m twofold.cli"
    env = {key: value for key, value in os.environ.items() if key != "NO_COLOR"} | {"TERM": "xterm"} | setting
    done = subprocess.run(["script", "-qec", command, "/dev/null"], env=env, capture_output=True, text=True, check=True)
    assert shown in done.stdout.splitlines()
