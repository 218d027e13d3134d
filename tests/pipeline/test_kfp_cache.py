"""What is taken from kfp.local's cache, whose key holds the addresses of artifacts, which are new in each run.

The key of a server holds their ids, which are new in the same cases: tests/unit/kubeflow/server/test_run_submission.py.
"""

import json

import numpy as np
import pytest
from kfp import local

from tests.pipeline.conftest import ROOT, SMALL
from tests.support.makers import encode, make_folder, pixels
from twofold.kubeflow.definition.compiler import build_pipeline
from twofold.orchestration.params_file import STEPS, assign, load_yaml

pytestmark = pytest.mark.slow
# evaluate: kfp.local looks for the file of `curves`, which has metadata only, and takes its absence for a loss.
ALWAYS = {"source-version", "evaluate", "register", "notify"}
EVERY = ALWAYS | {step.replace("_", "-") for step in STEPS} | {"check-gates"}


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A function that runs the whole pipeline, and returns the tasks that were not taken from the cache."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mlflow.db'}")
    monkeypatch.setenv("TWOFOLD_CACHE", str(tmp_path / "files"))
    params = load_yaml(ROOT / "tests" / "params.yaml")
    assign(params, [*SMALL, f"ingest.source={make_folder(tmp_path / 'images', per_class=30)}"], ROOT / "params.yaml")
    pipeline = build_pipeline(None, None, params=params)
    root = tmp_path / "root"
    local.init(
        local.SubprocessRunner(use_venv=False),
        pipeline_root=str(root),
        workspace_root=str(tmp_path / "workspace"),
        enable_caching=True,
        cache_root=str(tmp_path / "cache"),
    )

    def start(force="", **sections):
        before = set(root.glob("*"))
        pipeline(force=force, **{name: params[name] | section for name, section in sections.items()})
        (folder,) = set(root.glob("*")) - before
        verdicts.append(json.loads((folder / "register" / "verdict").read_text()))
        return {path.parent.name for path in folder.glob("*/executor_output.json")}

    verdicts = start.verdicts = []
    return start


def test_unchanged_work_is_cached_and_changed_work_runs_from_there_on(run, tmp_path):
    assert run() == EVERY
    assert run() == ALWAYS
    assert [verdict["nothing_new"] for verdict in run.verdicts] == [False, True]
    assert run(finetune_all={"epochs": 1}) == ALWAYS | {"finetune-all"}
    image = tmp_path / "images" / "bad" / "new.png"
    image.write_bytes(encode(pixels(np.random.default_rng(7), 64, bad=True)))
    assert run() == EVERY
