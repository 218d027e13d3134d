"""`twofold status` and `twofold open`."""

import json
import os
import resource
import shutil
import subprocess
import sys
import webbrowser
from pathlib import Path

import pytest

from twofold.cli import main
from twofold.orchestration.params_file import set_values
from twofold.tracking import store as tracking

ROOT = Path(__file__).resolve().parents[3]
TRAINING = "#/experiments?workflowType=machine_learning"
PIPELINE = """stages:
  register:
    cmd: "true"
    params: [register.promotion]
  ingest:
    cmd: "true"
    params: [ingest.max_pixels]
    deps: [images]
  train_head:
    cmd: "true"
    params: [train_head.epochs]
"""


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of two steps, in which nothing has run."""
    root = tmp_path / "project"
    (root / "images").mkdir(parents=True)
    (root / "images" / "1.txt").write_text("1")
    shutil.copy(ROOT / "tests" / "params.yaml", root)
    (root / "dvc.yaml").write_text(PIPELINE)
    monkeypatch.setenv("DVC_NO_ANALYTICS", "true")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    subprocess.run([sys.executable, "-m", "dvc", "init", "--quiet", "--no-scm"], cwd=root, check=True)
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def call(project, capsys):
    def run(*words):
        with pytest.raises(SystemExit) as caught:
            main.main(words)
        printed = capsys.readouterr()
        assert caught.value.code == (1 if printed.err else 0)
        return printed.err or printed.out

    return run


def reproduce():
    subprocess.run([sys.executable, "-m", "dvc", "repro", "--quiet"], check=True)


def files(root):
    return {path: path.stat().st_mtime_ns for path in root.rglob("*") if ".dvc" not in path.parts}


def test_before_the_first_run_nothing_is_asked_and_nothing_created(project, call):
    before = {*project.rglob("*")}
    assert call("status").splitlines() == [
        "steps     nothing has run yet",
        "champion  none yet",
        "review    nothing waits",
        "next      twofold run",
    ]
    assert {*project.rglob("*")} == before


def test_stale_steps_are_named_with_what_has_changed(project, call):
    reproduce()
    before = files(project)
    assert call("status").splitlines()[0] == "steps     up to date"
    assert files(project) == before
    set_values(project / "params.yaml", ["register.promotion=review"])
    judged = "steps     stale: register (params.yaml); a run judges again and trains nothing"
    assert call("status").splitlines()[0] == judged
    set_values(project / "params.yaml", ["register.promotion=auto", "train_head.epochs=3"])
    assert call("status").splitlines()[0] == "steps     stale: train_head (params.yaml)"
    (project / "images" / "2.txt").write_text("2")
    found = json.loads(call("status", "--json"))
    assert found["steps"] == "stale: ingest (images), train_head (params.yaml)"
    assert (list(found["stale"]), found["next"]) == (["ingest", "train_head"], "twofold run")
    (project / "dvc.yaml").write_text("stages: 3")
    assert call("status").startswith(
        "steps     unknown: './dvc.yaml' validation failed. expected a dictionary, in stages\n"
    )


def test_while_a_run_is_in_progress_its_process_is_named_and_no_run_is_advised(project, call):
    reproduce()
    step = {"pid": os.getpid(), "cmd": "dvc repro"}
    (project / ".dvc" / "tmp" / "rwlock").write_text(json.dumps({"write": {"images": step}, "read": {}}))
    assert call("status").splitlines() == [
        f"steps     a run is in progress (process {os.getpid()})",
        "champion  none yet",
        "review    nothing waits",
    ]


def test_champion_and_what_waits_for_review_are_shown(project, models_store, call):
    set_values(project / "params.yaml", ["register.model_name=corner"])
    reproduce()
    assert call("status").splitlines() == [
        "steps     up to date",
        "champion  version 2: accuracy 0.714, f1 0.667, roc_auc 0.833 on 7 test images",
        'review    version 3 waits: twofold models approve 3 --reason "..."',
        "next      twofold open decision",
    ]
    models_store.client.delete_registered_model_tag("corner", "twofold.ledger.000001.1")
    assert "champion  WRONG: entry 1 is missing; see twofold models history" in call("status")


def test_a_store_that_only_mlflow_can_read_is_asked_and_its_error_shown(project, models_store, call, monkeypatch):
    set_values(project / "params.yaml", ["register.model_name=corner"])
    expected = call("status")
    monkeypatch.setattr("twofold.tracking.registry_reader.SCHEMA", "of another MLflow")
    assert call("status") == expected
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project / 'gone.db'}")
    assert "champion  MLflow at sqlite:///" in call("status")
    assert not (project / "gone.db").exists()


def test_it_takes_less_than_a_second_of_cpu(project, models_store):
    reproduce()
    seconds = []
    for _ in range(3):
        begin = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, "-m", "twofold.cli", "status"], capture_output=True, check=True)
        end = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(end.ru_utime + end.ru_stime - begin.ru_utime - begin.ru_stime)
    assert min(seconds) < 1


@pytest.fixture
def pages(project):
    paths = [f"audit/{step}/audit.html" for step in ("ingest", "train_head")] + ["registration/decision.html"]
    paths = [Path("reports", path) for path in paths]
    for path in paths:
        path.parent.mkdir(parents=True)
        path.touch()
    return paths


def test_open_prints_the_paths_where_there_is_no_terminal(pages, call, monkeypatch):
    monkeypatch.setattr(webbrowser, "open", lambda page: pytest.fail("a browser was opened"))
    assert call("open") == f"{pages[2].absolute()}\n"
    assert call("open", "audit") == f"{pages[0].absolute()}\n{pages[1].absolute()}\n"
    assert "evaluation.html: no such page; `twofold run` makes it" in call("open", "evaluation")


def test_open_opens_a_browser_on_a_terminal(pages, call, monkeypatch):
    opened = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert "decision.html" in call("open", "decision")
    assert opened == [pages[2].absolute().as_uri()]
    call("open", "decision", "--print")
    assert len(opened) == 1


def test_open_mlflow_starts_the_ui_on_the_projects_store(project, call, monkeypatch):
    started = []
    monkeypatch.setattr(os, "execv", lambda program, words: started.append(words))
    monkeypatch.setattr(tracking, "address", lambda: "sqlite:////a/mlflow.db")
    assert call("open", "mlflow", "--print") == f"http://127.0.0.1:5000/{TRAINING}\n"
    assert started == []
    monkeypatch.setenv("PORT", "5001")
    assert call("open", "mlflow").startswith(f"http://127.0.0.1:5001/{TRAINING} (stop with Ctrl-C)\n")
    assert started[0][1:5] == ["-m", "mlflow", "ui", "--backend-store-uri"]
    assert started[0][5:] == ["sqlite:////a/mlflow.db", "--host", "127.0.0.1", "--port", "5001"]
    monkeypatch.setattr(tracking, "address", lambda: "https://mlflow.example")
    assert call("open", "mlflow") == f"https://mlflow.example/{TRAINING}\n"
    assert len(started) == 1
