"""What makes Kubeflow's cache miss: run for real, with keys made of what the server makes them of."""

import json

import pytest
from kfp import dsl, local
from kfp.local.cache import LocalCache

from components.ingest import ingest as ingest_face
from components.preprocess import preprocess as preprocess_face
from tests.pipeline.conftest import ROOT, SMALL
from tests.support.makers import encode, make_folder, pixels
from twofold.orchestration.params_file import STEPS, assign, load_yaml


@pytest.fixture
def params(tmp_path):
    """The small project's parameters, on images of this test's own."""
    make_folder(tmp_path / "images", per_class=12, size=32)
    values = load_yaml(ROOT / "tests" / "params.yaml")
    assign(values, [*SMALL, f"ingest.source={tmp_path / 'images'}"], ROOT / "tests" / "params.yaml")
    return values


@pytest.fixture
def run(tmp_path, params, monkeypatch):
    """Run ingest and preprocess; returns their digests, and whether preprocess was taken from the cache."""
    serialised = LocalCache._serialize_value_for_key

    def as_the_server(value):
        # The key that Kubeflow's driver computes holds the names of artifacts only.
        return {"name": value.name} if isinstance(value, dsl.Artifact) else serialised(value)

    monkeypatch.setattr(LocalCache, "_serialize_value_for_key", staticmethod(as_the_server))
    monkeypatch.chdir(ROOT)

    @dsl.pipeline(name="two-steps")
    def two_steps(ingest: dict, preprocess: dict, others: dict, force: str = ""):
        first = ingest_face(
            params=ingest,
            preprocess=preprocess,
            force=force,
            **{name: dict(params[name]) for name in STEPS[2:]},
        ).set_caching_options(False)
        preprocess_face(params=preprocess, force=force, raw=first.outputs["raw"], raw_digest=first.outputs["digest"])

    def start(force=""):
        root = tmp_path / "root"
        local.init(
            local.SubprocessRunner(use_venv=False),
            pipeline_root=str(root),
            workspace_root=str(tmp_path / "workspace"),
            enable_caching=True,
            cache_root=str(tmp_path / "cache"),
        )
        before = set(root.glob("*/preprocess/executor_output.json"))
        two_steps(ingest=params["ingest"], preprocess=params["preprocess"], others={}, force=force)
        newest = max(root.glob("*/ingest/executor_output.json"))
        made = set(root.glob("*/preprocess/executor_output.json")) - before
        return json.loads(newest.read_text())["parameterValues"]["digest"], not made

    return start


def test_the_cache_misses_when_and_only_when_something_changed(run, params, tmp_path):
    first, cached = run()
    assert not cached
    assert run() == (first, True)

    # The images behind the same address: ingest is never cached, and its digest is in preprocess' key.
    file = tmp_path / "images" / "bad" / "00000.png"
    file.write_bytes(encode(255 - pixels_of(file)))
    second, cached = run()
    assert second != first
    assert not cached
    assert run() == (second, True)

    assert run(force="2026-11-22") == (second, False)
    assert run(force="2026-11-22") == (second, True)

    params["preprocess"]["image_size"] = 48
    assert run() == (second, False)


def pixels_of(file):
    import numpy as np

    rng = np.random.default_rng([0, 0, int(file.stem)])
    return pixels(rng, 32, bad=True)
