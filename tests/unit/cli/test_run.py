"""`twofold run` with a stand-in for DVC, which prints what DVC and the steps print."""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
# Prints the scenario in $SCENARIO: a line is printed, but `write FILE JSON`, `exit N` and `wait` are done.
DVC = """
import os, signal, sys, time

def stop(number, frame):
    print("interrupted, cleaning up", flush=True)
    sys.exit(42)

signal.signal(signal.SIGINT, stop)
print("words:", *sys.argv[1:])
for line in open(os.environ["SCENARIO"]):
    word, _, rest = line.strip().partition(" ")
    if word == "write":
        name, _, text = rest.partition(" ")
        open(name, "w").write(text)
    elif word == "exit":
        sys.exit(int(rest))
    elif word == "wait":
        time.sleep(60)
    else:
        print(line.rstrip(), file=sys.stderr if line.startswith("ERROR") else sys.stdout, flush=True)
"""
PREPROCESS = """Running stage 'preprocess':
> python -m twofold.steps.preprocess
preprocess: 100 of 656 images (50/s)
preprocess: train 23, validation 19, test 18; 0 left out
preprocess: warning: too few images for [a gate]
write reports/preprocess.json {"train": 23, "validation": 19, "test": 18}
Updating lock file 'dvc.lock'
"""


@pytest.fixture
def project(tmp_path):
    root = tmp_path / "project"
    (root / "reports").mkdir(parents=True)
    shutil.copy(ROOT / "tests" / "params.yaml", root)
    (tmp_path / "fake" / "dvc").mkdir(parents=True)
    (tmp_path / "fake" / "dvc" / "__init__.py").touch()
    (tmp_path / "fake" / "dvc" / "__main__.py").write_text(DVC)
    return root


def start(project, scenario, *words):
    (project.parent / "scenario").write_text(scenario)
    path = os.pathsep.join([str(project.parent / "fake"), str(ROOT)])
    env = os.environ | {"PYTHONPATH": path, "SCENARIO": str(project.parent / "scenario")}
    command = [sys.executable, "-m", "twofold.cli", "run", *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=project, env=env, **pipes)


def run(project, scenario, *words):
    process = start(project, scenario, *words)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err.splitlines()


def test_a_step_is_a_line_with_its_time_and_result(project):
    scenario = f"""Stage 'ingest' didn't change, skipping
{PREPROCESS}
Stage 'train_head' is cached - skipping run, checking out outputs
"""
    status, out, lines = run(project, scenario, "train_head")
    assert (status, out) == (0, "")
    assert lines == [
        "ingest                unchanged",
        "preprocess     started",
        "                      warning: too few images for [a gate]",
        "preprocess       0:00 23 train, 19 validation, 18 test",
        "train_head            unchanged, from DVC's run cache",
    ]
    log = (project / "reports" / "run.log").read_text()
    assert log.startswith("words: repro train_head\n")
    assert "train 23, validation 19, test 18" in log
    assert "100 of 656" not in log


def test_a_step_that_a_project_has_added_has_a_line_too(project):
    scenario = "Running stage 'label':\nUpdating lock file 'dvc.lock'\nRunning stage 'train_head':\n"
    assert run(project, scenario, "evaluate")[2] == [
        "label          started",
        "label            0:00 done",
        "train_head     started",
        "train_head       0:00 done",
    ]


def test_dvcs_options(project):
    run(project, "", "evaluate", "--only", "--force")
    assert (project / "reports" / "run.log").read_text() == "words: repro --force --single-item evaluate\n"


def test_what_a_failed_step_has_printed_is_shown_and_the_status_is_dvcs(project):
    failure = [
        "Running stage 'train_head':",
        "head: error: [odd] loss nan",
        "  see the README",
        "ERROR: failed",
        "exit 255",
    ]
    status, out, lines = run(project, PREPROCESS + "\n".join(failure), "--quiet")
    assert (status, out) == (255, "")
    assert lines[-4:] == [
        "head: error: [odd] loss nan",
        "  see the README",
        "ERROR: failed",
        "train_head failed; all that the run printed: reports/run.log",
    ]


def test_what_dvc_prints_before_any_step_is_shown_if_it_fails(project):
    status, _, lines = run(project, "ERROR: you are not inside of a DVC repository\nexit 253")
    assert status == 253
    assert lines[1:] == [
        "ERROR: you are not inside of a DVC repository",
        "dvc failed; all that the run printed: reports/run.log",
    ]


def test_an_interruption_reaches_dvc_and_the_step_is_named_without_what_it_printed(project):
    process = start(project, "Running stage 'train_head':\nready\nwait\n")
    log = project / "reports" / "run.log"
    for _ in range(300):
        if log.exists() and "ready" in log.read_text():
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err == "train_head     started\ninterrupted in train_head; `twofold run` goes on from here\n"
    assert "interrupted, cleaning up" in log.read_text()


def test_a_second_run_names_the_process_of_the_first_and_leaves_its_log(project):
    folder = project / ".dvc" / "tmp"
    folder.mkdir(parents=True)
    (project / "reports" / "run.log").write_text("of the first")
    step = {"pid": os.getpid(), "cmd": "dvc repro"}
    (folder / "rwlock").write_text(json.dumps({"write": {"data/raw": step}, "read": {}}))
    message = f"error: a run is in progress here (process {os.getpid()}); wait for it, or stop it there with Ctrl-C"
    for words in ([], ["--verbose"]):
        status, _, lines = run(project, "", *words)
        assert (status, lines) == (1, [f"twofold: {message}"])
    ended = subprocess.Popen(["true"])
    ended.wait()
    (folder / "rwlock").write_text(json.dumps({"write": {"data/raw": step | {"pid": ended.pid}}, "read": {}}))
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        print(f" {os.getpid()}", file=lock, flush=True)
        assert run(project, "")[2] == [f"twofold: {message}"]
    assert (project / "reports" / "run.log").read_text() == "of the first"
    assert run(project, "", "evaluate")[0] == 0


def test_verbose_prints_what_dvc_prints(project):
    status, out, err = run(project, PREPROCESS + "exit 7", "--verbose")
    assert status == 7
    assert out.splitlines()[:2] == ["words: repro", "Running stage 'preprocess':"]
    assert err == []
    assert json.loads((project / "reports" / "preprocess.json").read_text())["test"] == 18


def test_on_a_terminal_the_running_step_has_a_bar_with_the_time_left(project, tmp_path):
    progress = "".join(f"finetuned {epoch}/4: 40 of 80 images (9/s)\n" for epoch in (1, 2, 3, 4))
    (tmp_path / "scenario").write_text(f"Running stage 'finetune_all':\n{progress}exit 3")
    path = os.pathsep.join([str(tmp_path / "fake"), str(ROOT)])
    env = os.environ | {"PYTHONPATH": path, "SCENARIO": str(tmp_path / "scenario"), "TERM": "xterm"}
    command = f"stty cols 80; {sys.executable} -m twofold.cli run"
    done = subprocess.run(
        ["script", "-qec", command, "/dev/null"], cwd=project, env=env, capture_output=True, check=False
    )
    shown = done.stdout.decode()
    assert done.returncode == 3
    assert "finetune_all" in shown
    assert "\u2501" in shown  # of the bar
    assert "finetuned" in shown
