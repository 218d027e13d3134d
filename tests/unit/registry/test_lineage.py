"""Where a version comes from: what DVC and the environment say, and where they say nothing."""

from types import SimpleNamespace

import pytest

from twofold.core.errors import ArtifactError
from twofold.promotion.judgement import Judgement
from twofold.registry import lineage as lineages
from twofold.registry.lineage import collect_lineage, dvc_data, recorded_lineage, sha256_of

LOCK = """schema: '2.0'
stages:
  ingest:
    cmd: python -m twofold.steps.ingest
    deps:
    - path: {dep}
      md5: 0123456789abcdef.dir
    params:
      params.yaml:
        ingest:
          source: {source}
    outs:
    - path: data/raw
      md5: fedc.dir
"""


@pytest.fixture
def judged(tmp_path):
    (tmp_path / "predictions.parquet").write_bytes(b"answers")
    candidate = SimpleNamespace(
        decision={"fingerprint": "data"},
        test_fingerprint="test",
        raw=tmp_path / "data" / "raw",
        evaluation=tmp_path,
        metrics={"f1": 0.5},
        about={"finetune_all": {"base_sha256": "b" * 64}},
        digests={"finetune_all": "m", "decision": "d"},
    )
    provenance = {"git.commit": "c" * 40, "git.changed": "none", "library.torch": "2", "hardware.device": "cpu"}
    return Judgement("corner", candidate, None, None, provenance, None)


def test_it_says_all_that_it_takes_to_make_it_again(judged, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    found = collect_lineage(judged, {"evaluate": {"views": 1}})
    assert found == {
        "git": {"commit": "c" * 40, "changed": "none"},
        "data": {"fingerprint": "data", "test_fingerprint": "test"},
        "params": {"evaluate": {"views": 1}},
        # sha256sum of {"evaluate":{"views":1}}
        "params_sha256": "56a78f1951559d99ca23cd8444f2bb3053129a6e23aae2157a4087c2d9ddbfb9",
        "base_sha256": "b" * 64,
        "digests": {
            "finetune_all": "m",
            "decision": "d",
            "predictions": "677fe21b65f4a6cf1d105853d51f4f0a562698aa6374cb4d279d46a99dd3e6a3",
            "metrics": sha256_of({"f1": 0.5}),
        },
        "libraries": {"torch": "2"},
        "hardware": {"device": "cpu"},
    }


def test_an_image_and_a_pipelines_run_are_named_where_there_is_one(judged, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.lock").write_text(LOCK.format(dep="images", source="images"))
    assert collect_lineage(judged, {})["data"]["source"] == "images"
    judged.provenance.update(image="twofold@sha256:1", pipeline_run="run-1")
    found = collect_lineage(judged, {})
    assert (found["image"], found["pipeline_run"]) == ("twofold@sha256:1", "run-1")
    assert "source" not in found["data"], "a dvc.lock that lies in the image says nothing of a pipeline's data"
    judged.provenance["source"] = "dvc+https://token@example.org/data@v1.2:images"
    assert collect_lineage(judged, {})["data"] == {
        "fingerprint": "data",
        "test_fingerprint": "test",
        "source": "dvc+https://example.org/data@v1.2:images",
        "dvc_revision": "v1.2",
    }
    judged.provenance["source"] = "s3://bucket/images"
    assert "dvc_revision" not in collect_lineage(judged, {})["data"]
    judged.provenance.clear()
    assert collect_lineage(judged, {})["git"] == {"commit": "unknown", "changed": "unknown"}


@pytest.mark.parametrize(
    ("source", "dep", "expected"),
    [
        ("images", "images", {"source": "images", "dvc_md5": "0123456789abcdef.dir"}),
        ("s3://bucket/x", "s3://bucket/x", {"source": "s3://bucket/x", "dvc_md5": "0123456789abcdef.dir"}),
        ("images", "elsewhere", {"source": "images"}),
        (
            "dvc+https://token@example.org/data@v1.2:images",
            "twofold/data/raw.py",
            {"source": "dvc+https://example.org/data@v1.2:images", "dvc_revision": "v1.2"},
        ),
        (
            "dvc+ssh://git@example.org/team/data@v1.2:images",
            "twofold/data/raw.py",
            {"source": "dvc+ssh://git@example.org/team/data@v1.2:images", "dvc_revision": "v1.2"},
        ),
    ],
)
def test_dvc_lock_says_where_the_images_were_and_in_which_revision(tmp_path, source, dep, expected):
    (tmp_path / "dvc.lock").write_text(LOCK.format(dep=dep, source=source))
    assert dvc_data(tmp_path, tmp_path / "data" / "raw") == expected
    assert dvc_data(tmp_path, tmp_path / "other" / "raw") == {}, "it speaks of another artifact"


def test_without_a_dvc_lock_nothing_is_known_and_a_broken_one_is_an_error(tmp_path):
    raw = tmp_path / "data" / "raw"
    assert dvc_data(tmp_path, raw) == {}
    for text in ("", "schema: '2.0'\n", "stages: {}\n"):
        (tmp_path / "dvc.lock").write_text(text)
        assert dvc_data(tmp_path, raw) == {}
    for text in ("a: [", "- a\n"):
        (tmp_path / "dvc.lock").write_text(text)
        with pytest.raises(ArtifactError, match=r"dvc\.lock: not a lock file of DVC"):
            dvc_data(tmp_path, raw)


def test_the_same_parameters_have_the_same_sha256_in_whatever_order():
    assert sha256_of({"a": 1, "b": {"c": 2.0, "d": "ü"}}) == sha256_of({"b": {"d": "ü", "c": 2.0}, "a": 1})
    assert sha256_of({"a": 1}) != sha256_of({"a": 1.0}) != sha256_of({"a": True})


def test_of_very_many_changed_files_the_first_are_named(judged, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    judged.provenance["git.changed"] = ", ".join(f"{number:06}.py" for number in range(20_000))
    changed = collect_lineage(judged, {})["git"]["changed"]
    # 11 characters a file: 909 of them are 9,997 with the last comma.
    assert changed.endswith("000908.py, and 19091 more")
    assert len(changed) < 10_100


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "1"])
def test_a_lineage_that_is_none_is_empty(text):
    assert recorded_lineage(SimpleNamespace(tags={lineages.LINEAGE: text})) == {}
    assert recorded_lineage(SimpleNamespace(tags={})) == {}
