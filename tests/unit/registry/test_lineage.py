"""Where a version comes from, according to DVC and the environment."""

from types import SimpleNamespace

import pytest

from twofold.core.errors import ArtifactError
from twofold.promotion.judgement import Judgement
from twofold.registry import lineage as lineages
from twofold.registry.lineage import canonical, collect_lineage, dvc_data, recorded_lineage, sha256_of

DVC = "dvc+https://example.org/data@v1.2:images"
DVC_TOKEN, DVC_SSH = DVC.replace("//", "//token@"), "dvc+ssh://git@example.org/team/data@v1.2:images"
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
def judgement(tmp_path):
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


def test_a_lineage_holds_everything_needed_to_make_a_version_again(judgement, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    found = collect_lineage(judgement, {"evaluate": {"views": 1}})
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


def test_image_and_pipeline_run_are_recorded_if_there_are_any(judgement, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dvc.lock").write_text(LOCK.format(dep="images", source="images"))
    assert collect_lineage(judgement, {})["data"]["source"] == "images"
    judgement.provenance.update(image="twofold@sha256:1", pipeline_run="run-1")
    found = collect_lineage(judgement, {})
    assert (found["image"], found["pipeline_run"]) == ("twofold@sha256:1", "run-1")
    assert "source" not in found["data"], "a dvc.lock in the image says nothing about a pipeline's data"
    judgement.provenance["source"] = DVC_TOKEN
    expected = {"fingerprint": "data", "test_fingerprint": "test", "source": DVC, "dvc_revision": "v1.2"}
    assert collect_lineage(judgement, {})["data"] == expected
    judgement.provenance["source"] = "s3://bucket/images"
    assert "dvc_revision" not in collect_lineage(judgement, {})["data"]
    judgement.provenance.clear()
    assert collect_lineage(judgement, {})["git"] == {"commit": "unknown", "changed": "unknown"}


@pytest.mark.parametrize(
    ("source", "dep", "expected"),
    [
        ("images", "images", {"source": "images", "dvc_md5": "0123456789abcdef.dir"}),
        ("s3://bucket/x", "s3://bucket/x", {"source": "s3://bucket/x", "dvc_md5": "0123456789abcdef.dir"}),
        ("images", "elsewhere", {"source": "images"}),
        (DVC_TOKEN, "twofold/data/raw.py", {"source": DVC, "dvc_revision": "v1.2"}),
        (DVC_SSH, "twofold/data/raw.py", {"source": DVC_SSH, "dvc_revision": "v1.2"}),
    ],
)
def test_dvc_lock_names_the_source_of_the_images_and_its_revision(tmp_path, source, dep, expected):
    (tmp_path / "dvc.lock").write_text(LOCK.format(dep=dep, source=source))
    assert dvc_data(tmp_path, tmp_path / "data" / "raw") == expected
    assert dvc_data(tmp_path, tmp_path / "other" / "raw") == {}, "dvc.lock describes another artifact"


def test_without_a_dvc_lock_the_source_is_unknown_and_a_broken_one_is_an_error(tmp_path):
    raw = tmp_path / "data" / "raw"
    assert dvc_data(tmp_path, raw) == {}
    for text in ("", "schema: '2.0'\n", "stages: {}\n"):
        (tmp_path / "dvc.lock").write_text(text)
        assert dvc_data(tmp_path, raw) == {}
    for text in ("a: [", "- a\n"):
        (tmp_path / "dvc.lock").write_text(text)
        with pytest.raises(ArtifactError, match=r"dvc\.lock: not a lock file of DVC"):
            dvc_data(tmp_path, raw)


def test_equal_parameters_have_the_same_sha256_in_any_order():
    assert sha256_of({"a": 1, "b": {"c": 2.0, "d": "ü"}}) == sha256_of({"b": {"d": "ü", "c": 2.0}, "a": 1})
    assert sha256_of({"a": 1}) != sha256_of({"a": 1.0}) != sha256_of({"a": True})
    assert canonical({"b": 1, "a": "ü"}) == '{"a":"ü","b":1}'
    with pytest.raises(ValueError, match="JSON compliant"):
        canonical({"a": float("nan")})


def test_a_long_list_of_changed_files_is_cut(judgement, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    judgement.provenance["git.changed"] = ", ".join(f"{number:06}.py" for number in range(20_000))
    changed = collect_lineage(judgement, {})["git"]["changed"]
    # 11 characters a file: 909 of them are 9,997 with the last comma.
    assert changed.endswith("000908.py, and 19091 more")
    assert len(changed) < 10_100


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "1"])
def test_a_tag_without_a_lineage_gives_an_empty_one(text):
    assert recorded_lineage(SimpleNamespace(tags={lineages.LINEAGE: text})) == {}
    assert recorded_lineage(SimpleNamespace(tags={})) == {}
