"""When Kubeflow's cache misses: real runs, with cache keys made as the server makes them."""

import json

import pytest
from kfp import dsl, local
from kfp.local.cache import LocalCache

from components.ingest import ingest as ingest_component
from components.preprocess import preprocess as preprocess_component
from tests.pipeline.conftest import ROOT, SMALL
from tests.support.makers import encode, make_folder, pixels
from twofold.orchestration.params_file import STEPS, assign, load_yaml


@pytest.fixture
def params(tmp_path):
    """The parameters of the small project, with this test's own images."""
    make_folder(tmp_path / "images", per_class=12, size=32)
    values = load_yaml(ROOT / "tests" / "params.yaml")
    assign(values, [*SMALL, f"ingest.source={tmp_path / 'images'}"], ROOT / "tests" / "params.yaml")
    return values


@pytest.fixture
def run(tmp_path, params, monkeypatch):
    """A function that runs ingest and preprocess, and returns the digest of ingest and if preprocess was cached."""
    serialize = LocalCache._serialize_value_for_key

    def serialize_as_server(value):
        # The key of Kubeflow's driver contains only the names of artifacts.
        return {"name": value.name} if isinstance(value, dsl.Artifact) else serialize(value)

    monkeypatch.setattr(LocalCache, "_serialize_value_for_key", staticmethod(serialize_as_server))
    monkeypatch.chdir(ROOT)

    @dsl.pipeline(name="two-steps")
    def two_steps(ingest: dict, preprocess: dict, others: dict, force: str = ""):
        later = {name: dict(params[name]) for name in STEPS[2:]}
        first = ingest_component(params=ingest, preprocess=preprocess, force=force, **later).set_caching_options(False)
        raw = {"raw": first.outputs["raw"], "raw_digest": first.outputs["digest"]}
        preprocess_component(params=preprocess, force=force, **raw)

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

    # Other images at the same address: ingest is never cached, and its digest is in the key of preprocess.
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
