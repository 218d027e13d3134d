"""Local runs: outputs are verified, the workspace is empty and removed, and a failed register leaves no verdict."""

import json
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest
from kfp import local
from kfp.local import SubprocessRunner, subprocess_task_handler

from components.register import register as register_component
from tests.pipeline.conftest import ROOT
from twofold.core.artifacts import digest
from twofold.core.errors import TwofoldError
from twofold.kubeflow.definition.images import Images
from twofold.kubeflow.local import process_runner
from twofold.kubeflow.local.process_runner import run_pipeline
from twofold.orchestration.params_file import load_yaml


@pytest.fixture
def params(monkeypatch):
    monkeypatch.chdir(ROOT)
    return load_yaml(ROOT / "tests" / "params.yaml")


def test_success_reported_by_the_runner_is_verified(params, tmp_path, monkeypatch):
    monkeypatch.setattr(subprocess_task_handler, "run_local_subprocess", lambda **words: 0)
    with pytest.raises(TwofoldError, match="Tried to get output"):
        run_pipeline(tmp_path / "runs", SubprocessRunner(use_venv=False), None, params, {}, nullcontext)


def test_the_runner_gets_an_empty_workspace_that_is_deleted(params, tmp_path, monkeypatch):
    given = {}
    real = local.init

    def record(**options):
        given.update(options)
        real(**options)

    monkeypatch.setattr(local, "init", record)
    monkeypatch.setattr(subprocess_task_handler, "run_local_subprocess", lambda **words: 1)
    (tmp_path / "data").write_text("kept")
    with pytest.raises(TwofoldError, match="the pipeline failed"):
        run_pipeline(tmp_path / "runs", SubprocessRunner(use_venv=False), None, params, {}, nullcontext)
    workspace = Path(given["workspace_root"])
    assert not workspace.exists()
    assert not workspace.parent.exists()
    assert not tmp_path.is_relative_to(workspace)
    assert (tmp_path / "data").read_text() == "kept"


@pytest.mark.parametrize(("images", "mode"), [(None, 0o755), (Images("data:1", "train:1"), 0o1777)])
def test_a_run_finds_its_own_folder_among_others_created_at_the_same_time(params, tmp_path, monkeypatch, images, mode):
    roots = []

    def tasks(**arguments):
        roots.append(Path(local.config.LocalExecutionConfig.instance.pipeline_root))
        for begun in (roots[0], roots[0].parent):
            (begun / "twofold-training-now").mkdir()

    monkeypatch.setattr(process_runner, "build_pipeline", lambda *words, **named: tasks)
    monkeypatch.setattr(process_runner, "check_outputs", lambda folder, pipeline: None)
    runner = SubprocessRunner(use_venv=False)
    found = process_runner.run_pipeline(tmp_path / "runs", runner, images, params, {}, nullcontext)
    assert found == roots[0] / "twofold-training-now"
    assert roots[0].parent == tmp_path / "runs"
    assert roots[0].stat().st_mode & 0o7777 == mode


@pytest.mark.parametrize("altered", ["raw_digest", "train_head_audit_digest"])
def test_a_register_that_fails_fails_its_task_and_leaves_no_verdict(
    project, params, tmp_path, monkeypatch, capsys, altered
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'nowhere' / 'mlflow.db'}")
    limits = ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT")
    for name in ("TWOFOLD_PIPELINE_RUN", "TWOFOLD_SOURCE", *limits):
        # Set, then removed, so that monkeypatch restores what the task sets.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
    places = {"raw": "data/raw", "data": "data/prepared", "head": "models/head"}
    places |= {"model": "models/finetuned", "evaluation": "reports/evaluation"}
    places |= {f"{step}_audit": f"reports/audit/{step}" for step in ("ingest", "preprocess", "train_head")}
    reads = {name: SimpleNamespace(path=str(project.root / place)) for name, place in places.items()}
    digests = {f"{name}_digest": digest(project.root / place) for name, place in places.items()}
    names = ("registration", "verdict", "gates", "decision", "index")
    writes = {name: SimpleNamespace(path=str(tmp_path / name)) for name in names}
    given = {"force": "", "run": "42", "source": "data/images"}
    section = json.loads(json.dumps(params["register"]))
    with pytest.raises(SystemExit) as failed:
        register_component.python_func(params=section, **given, **reads, **digests, **writes)
    assert failed.value.code == 1
    assert "its folder does not exist or cannot be written" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    # An input with another digest is refused before anything else.
    with pytest.raises(SystemExit):
        register_component.python_func(params=section, **given, **reads, **writes, **(digests | {altered: "0"}))
    assert f"{altered.removesuffix('_digest')} (" in (said := capsys.readouterr().err)
    assert "it was changed or cut short since" in said
    assert list(tmp_path.iterdir()) == []
