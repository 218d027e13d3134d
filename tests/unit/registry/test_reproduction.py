"""The recipe that makes a version again, its script, and its warnings."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest
from ruamel.yaml import YAML

from twofold.core.artifacts import digest, file_sha256, write_json
from twofold.core.errors import RegistryError
from twofold.registry import reproduction
from twofold.registry.lineage import LINEAGE
from twofold.registry.reproduction import make_recipe, run_recipe, write_script

DVC_SOURCE = "dvc+https://example.org/data.git@v1.2:images"
KNOWN = {
    "git": {"commit": "c" * 40, "changed": "none"},
    "data": {"fingerprint": "f" * 64, "source": "s3://bucket/images"},
    "params": {
        "ingest": {"source": "s3://bucket/images", "audit": {"near": 4}},
        "train_head": {"lr": 0.00001, "weights": "random", "views": None, "flag": True},
        "register": {"gates": [{"figure": "f1", "min": 0}]},
    },
    "digests": {"finetune_all": "a" * 64, "decision": "d" * 64},
}


@pytest.fixture
def make(monkeypatch, tmp_path):
    """The recipe of a version with this lineage; the repository is an empty folder."""

    def recipe(source=None, text=None, **changed):
        tags = {LINEAGE: json.dumps(KNOWN | changed) if text is None else text}
        monkeypatch.setattr(reproduction, "inspect_ledger", lambda store, name: (None, []))
        monkeypatch.setattr(reproduction, "main_checkout", lambda: tmp_path)
        version = SimpleNamespace(version="7", tags=tags)
        monkeypatch.setattr(reproduction.approval, "find_version", lambda *words: version)
        return make_recipe(None, "corner", "7", source)

    return recipe


def data(source):
    return KNOWN["data"] | {"source": source}


def test_every_parameter_except_those_of_register_is_set_as_yaml_reads_it(make):
    settings = [setting.split("=", 1) for setting in make().settings]
    assert {key: YAML(typ="safe").load(value) for key, value in settings} == {
        "ingest.source": "s3://bucket/images",
        "ingest.audit.near": 4,
        "train_head.lr": 0.00001,
        "train_head.weights": "random",
        "train_head.views": None,
        "train_head.flag": True,
    }
    assert len(settings) == 6
    assert dict(settings)["train_head.lr"] == "0.00001"  # 1e-05 would be text in YAML
    assert 'ingest.source="/elsewhere"' in make(source="/elsewhere").settings


@pytest.mark.parametrize(
    ("value", "text"),
    [(1e-7, "0.0000001"), (1e20, "100000000000000000000.0"), (0.5, "0.5"), (3.0, "3.0"), (-1e-5, "-0.00001")],
)
def test_numbers_are_written_without_an_exponent(value, text):
    assert reproduction._yaml(value) == text
    assert float(text) == value


def test_an_existing_folder_becomes_an_absolute_path(make, tmp_path):
    assert make(data=data("data/images")).source == "data/images"
    (tmp_path / "data" / "images").mkdir(parents=True)
    assert make(data=data("data/images")).source == str(tmp_path / "data" / "images")
    assert make().source == "s3://bucket/images"
    assert make(source="/elsewhere").source == "/elsewhere"


@pytest.fixture
def git(tmp_path):
    """Git in a repository whose commit has a dvc.yaml with stages that the work tree no longer has."""
    stages = {step: {"cmd": f"python -m old.{step}\n  --x 'a b'"} for step in reproduction.STEPS}

    def run(*words):
        command = ["git", "-c", "user.name=x", "-c", "user.email=x", *words]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()

    run("init", "--quiet")
    (tmp_path / "dvc.yaml").write_text(json.dumps({"stages": stages}))
    run("add", "dvc.yaml")
    run("commit", "--quiet", "--message", "x")
    (tmp_path / "dvc.yaml").write_text("stages: {}")
    return run


def test_a_dvc_repository_is_read_by_the_steps_with_the_commands_of_the_commit(make, git, tmp_path):
    lineage = {"git": {"commit": git("rev-parse", "HEAD"), "changed": "none"}, "data": data(DVC_SOURCE)}
    recipe = make(**lineage)
    assert recipe.commands == tuple(f"python -m old.{step} --x 'a b'" for step in reproduction.STEPS)
    assert reproduction._python_command(recipe.commands[0]) == [sys.executable, "-m", "old.ingest", "--x", "a b"]
    assert reproduction._python_command("dvc repro ingest") == [sys.executable, "-m", "dvc", "repro", "ingest"]
    text = write_script(recipe, tmp_path / "a folder")
    assert text.index("old.ingest") < text.index("grep -q") < text.index("old.preprocess") < text.index("old.evaluate")
    assert "dvc repro" not in text
    # Images that are in a folder now are read by `dvc repro`.
    assert make(**lineage, source="/images").commands == ("dvc repro ingest", "dvc repro evaluate")


def test_the_path_of_a_local_dvc_repository_becomes_absolute(make, git, tmp_path):
    commit = {"commit": git("rev-parse", "HEAD"), "changed": "none"}
    for url, expected in ((".", tmp_path), ("git@example.org:data.git", "git@example.org:data.git")):
        assert make(git=commit, data=data(f"dvc+{url}@v1:images")).source == f"dvc+{expected}@v1:images"


def test_a_missing_commit_or_missing_stages_are_an_error(make, git):
    with pytest.raises(RegistryError, match=r"commit c+ is not in .*: fetch it"):
        make(data=data(DVC_SOURCE))
    git("commit", "--quiet", "--all", "--message", "no stages")
    with pytest.raises(RegistryError, match="does not say how its stages are run"):
        make(data=data(DVC_SOURCE), git={"commit": git("rev-parse", "HEAD"), "changed": "none"})


def test_the_script_is_valid_shell_and_compares_data_model_and_decision_with_the_record(make, tmp_path):
    text = write_script(make(), tmp_path / "a folder")
    assert subprocess.run(["bash", "-n"], input=text.encode(), check=False).returncode == 0
    for words in (f"git checkout --quiet {'c' * 40}", f"grep -q {'f' * 64} data/raw/meta.json", "a" * 64, "d" * 64):
        assert words in text
    assert "WARNING" not in text


def test_lineage_is_written_as_comments_and_never_as_commands(make, tmp_path):
    evil = "none\ntouch /tmp/owned; $(touch /tmp/owned)"
    text = write_script(make(git={"commit": "c" * 40, "changed": evil}, libraries={"torch": "2\nrm -rf x"}), tmp_path)
    assert all(line.startswith("#") for line in text.splitlines() if "owned" in line or "rm -rf" in line)


@pytest.mark.parametrize("commit", ["--upload-pack=x", "c; touch x", "HEAD", "", "C" * 39, 7])
def test_a_text_that_is_no_commit_is_refused(make, commit):
    with pytest.raises(RegistryError, match="does not say how it was made"):
        make(git={"commit": commit, "changed": "none"})


@pytest.mark.parametrize("digests", [{"finetune_all": "x'); import os", "decision": "d" * 64}, {}])
def test_texts_that_are_no_digests_are_refused(make, digests):
    with pytest.raises(RegistryError, match="does not say how it was made"):
        make(digests=digests)


def test_unknown_facts_are_warnings(make):
    recipe = make(git={"commit": "c" * 40, "changed": "a.py, b.py"}, data={"fingerprint": "f" * 64})
    assert recipe.warnings == [
        "the commit is not enough: these files had other changes: a.py, b.py",
        "the images' source is not recorded (see the pipeline run): params.yaml of the commit names it",
    ]


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"git": {}}'])
def test_a_version_without_lineage_cannot_be_made_again(make, text):
    with pytest.raises(RegistryError, match=r"version 7: its tag twofold\.lineage does not say how it was made"):
        make(text=text)


def test_a_version_made_outside_git_cannot_be_made_again(make):
    with pytest.raises(RegistryError, match="was made outside of git: no commit is recorded"):
        make(git={"commit": "unknown", "changed": "unknown"})


@pytest.mark.parametrize("other", ["", "model", "decision", "data"])
def test_what_was_made_again_is_compared_with_the_record(make, tmp_path, monkeypatch, other):
    folder = tmp_path / "again"
    decision, calls = folder / "reports" / "evaluation" / "decision.json", []

    def call(command, place):
        calls.append(command)
        for path in (folder / "data" / "raw" / "meta.json", folder / "models" / "finetuned" / "meta.json", decision):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, {"fingerprint": "f" * 64})

    monkeypatch.setattr(reproduction, "_call", call)
    call([], tmp_path)
    made = {"model": digest(folder / "models" / "finetuned"), "decision": file_sha256(decision)}
    shutil.rmtree(folder)
    recipe = replace(make(), data="f" * 64, **made)
    if other:
        recipe = replace(recipe, **{other: "0" * 64})
    found = run_recipe(recipe, folder)
    assert [line.split(" is ")[0] for line in found] == ([f"the {other}'s SHA-256"] if other else []) or other == "data"
    assert all("0" * 64 in line for line in found)
    assert len(calls) == 1 + 4 + (0 if other == "data" else len(recipe.commands) - 1)
    assert bool(found) == bool(other)
