"""The commands that make a version again: what they are made of, and what is said where they cannot be enough."""

import json
import subprocess
import sys
from types import SimpleNamespace

import pytest

from twofold.core.errors import RegistryError
from twofold.registry import reproduction
from twofold.registry.lineage import LINEAGE
from twofold.registry.reproduction import recipe, script

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

    def made(source=None, text=None, **changed):
        tags = {LINEAGE: json.dumps(KNOWN | changed) if text is None else text}
        monkeypatch.setattr(reproduction, "state", lambda store, name: (None, []))
        monkeypatch.setattr(reproduction, "main_checkout", lambda: tmp_path)
        found = SimpleNamespace(version="7", tags=tags)
        monkeypatch.setattr(reproduction.approval, "find_version", lambda *words: found)
        return recipe(None, "corner", "7", source)

    return made


def test_every_parameter_but_registers_is_set_as_yaml_reads_it(make):
    from ruamel.yaml import YAML

    found = dict(each.split("=", 1) for each in make().settings[:-1])
    assert {key: YAML(typ="safe").load(value) for key, value in found.items()} == {
        "ingest.source": "s3://bucket/images",
        "ingest.audit.near": 4,
        "train_head.lr": 0.00001,
        "train_head.weights": "random",
        "train_head.views": None,
        "train_head.flag": True,
    }
    assert found["train_head.lr"] == "0.00001"  # 1e-05 would be text in YAML
    assert make().settings[-1] == 'ingest.source="s3://bucket/images"'


@pytest.mark.parametrize(
    ("value", "text"),
    [(1e-7, "0.0000001"), (1e20, "100000000000000000000.0"), (0.5, "0.5"), (3.0, "3.0"), (-1e-5, "-0.00001")],
)
def test_numbers_are_written_out(value, text):
    assert reproduction._yaml(value) == text
    assert float(text) == value


def test_a_folder_is_where_it_was_and_what_the_pipeline_makes_is_made_again(make, tmp_path):
    assert make(data=KNOWN["data"] | {"source": "data/images"}).source == "data/images"
    (tmp_path / "data" / "images").mkdir(parents=True)
    assert make(data=KNOWN["data"] | {"source": "data/images"}).source == str(tmp_path / "data" / "images")
    assert make().source == "s3://bucket/images"
    assert make(source="/elsewhere").source == "/elsewhere"


@pytest.fixture
def repository(tmp_path):
    """With a dvc.yaml whose commands are those of the commit, which the work tree has no longer; the commit."""
    stages = {step: {"cmd": f"python -m old.{step}\n  --x 'a b'"} for step in reproduction.STEPS}

    def git(*words):
        identity = ("-c", "user.name=x", "-c", "user.email=x")
        done = subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    git("init", "--quiet")
    (tmp_path / "dvc.yaml").write_text(json.dumps({"stages": stages}))
    git("add", "dvc.yaml")
    git("commit", "--quiet", "--message", "x")
    (tmp_path / "dvc.yaml").write_text("stages: {}")
    return git


def test_what_dvc_cannot_depend_on_is_read_by_the_steps_as_the_commit_runs_them(make, repository, tmp_path):
    source = "dvc+https://example.org/data.git@v1.2:images"
    commit = repository("rev-parse", "HEAD")
    made = {"git": {"commit": commit, "changed": "none"}, "data": KNOWN["data"] | {"source": source}}
    found = make(**made)
    assert found.commands == tuple(f"python -m old.{step} --x 'a b'" for step in reproduction.STEPS)
    assert reproduction._words(found.commands[0]) == [sys.executable, "-m", "old.ingest", "--x", "a b"]
    assert reproduction._words("dvc repro ingest") == [sys.executable, "-m", "dvc", "repro", "ingest"]
    text = script(found, tmp_path / "a folder")
    assert text.index("old.ingest") < text.index("grep -q") < text.index("old.preprocess") < text.index("old.evaluate")
    assert "dvc repro" not in text
    # Images that lie in a folder now are DVC's business again.
    assert make(**made, source="/images").commands == ("dvc repro ingest", "dvc repro evaluate")


def test_a_dvc_repository_that_was_named_from_here_is_named_from_everywhere(make, repository, tmp_path):
    commit = repository("rev-parse", "HEAD")
    for url, expected in ((".", tmp_path), ("git@example.org:data.git", "git@example.org:data.git")):
        data = KNOWN["data"] | {"source": f"dvc+{url}@v1:images"}
        found = make(git={"commit": commit, "changed": "none"}, data=data)
        assert found.source == f"dvc+{expected}@v1:images"


def test_a_commit_that_is_not_here_or_has_no_such_stages_is_an_error(make, repository):
    data = KNOWN["data"] | {"source": "dvc+https://example.org/data.git@v1:images"}
    with pytest.raises(RegistryError, match=r"commit c+ is not in .*: fetch it"):
        make(data=data)
    repository("commit", "--quiet", "--all", "--message", "no stages")
    with pytest.raises(RegistryError, match="does not say how its stages are run"):
        make(data=data, git={"commit": repository("rev-parse", "HEAD"), "changed": "none"})


def test_the_script_is_shell_and_holds_data_model_and_decision_to_what_was_recorded(make, tmp_path):
    text = script(make(), tmp_path / "a folder")
    assert subprocess.run(["bash", "-n"], input=text.encode(), check=False).returncode == 0
    for words in (f"git checkout --quiet {'c' * 40}", f"grep -q {'f' * 64} data/raw/meta.json", "a" * 64, "d" * 64):
        assert words in text
    assert "WARNING" not in text


def test_what_it_was_made_with_is_a_comment_and_never_a_command(make, tmp_path):
    evil = "none\ntouch /tmp/owned; $(touch /tmp/owned)"
    text = script(make(git={"commit": "c" * 40, "changed": evil}, libraries={"torch": "2\nrm -rf x"}), tmp_path)
    assert all(line.startswith("#") for line in text.splitlines() if "owned" in line or "rm -rf" in line)


@pytest.mark.parametrize("commit", ["--upload-pack=x", "c; touch x", "HEAD", "", "C" * 39, 7])
def test_a_commit_that_is_none_is_refused(make, commit):
    with pytest.raises(RegistryError, match="does not say how it was made"):
        make(git={"commit": commit, "changed": "none"})


@pytest.mark.parametrize("digests", [{"finetune_all": "x'); import os", "decision": "d" * 64}, {}])
def test_digests_that_are_none_are_refused(make, digests):
    with pytest.raises(RegistryError, match="does not say how it was made"):
        make(digests=digests)


def test_what_cannot_be_known_is_a_warning(make):
    found = make(git={"commit": "c" * 40, "changed": "a.py, b.py"}, data={"fingerprint": "f" * 64})
    assert found.warnings == [
        "the commit alone does not make it: these files were changed then: a.py, b.py",
        "where its images were is not recorded (see its pipeline run): params.yaml of the commit says it",
    ]


@pytest.mark.parametrize("text", ["", "{}", "[]", "null", '{"git": {}}'])
def test_a_version_without_lineage_cannot_be_made_again(make, text):
    with pytest.raises(RegistryError, match=r"version 7: its tag twofold\.lineage does not say how it was made"):
        make(text=text)


def test_nor_can_one_that_was_made_outside_of_git(make):
    with pytest.raises(RegistryError, match="was made outside of git: no commit is recorded"):
        make(git={"commit": "unknown", "changed": "unknown"})
