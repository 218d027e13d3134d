"""Provenance: the git commit, the files that differ from it, and values from the environment."""

import subprocess

import pytest

from twofold.registry import provenance


@pytest.fixture
def repository(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    return tmp_path


def git(folder, *words):
    identity = ["-c", "user.name=T", "-c", "user.email=t@example.org"]
    return subprocess.run(
        ["git", *identity, *words], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def commit(folder):
    git(folder, "init", "--quiet")
    for name in ("params.yaml", "dvc.lock", "code.py"):
        (folder / name).write_text("1")
    git(folder, "add", ".")
    git(folder, "commit", "--quiet", "--message", "x")
    return git(folder, "rev-parse", "HEAD")


def test_the_commit_and_the_files_that_differ_from_it(repository):
    head = commit(repository)
    assert provenance.git_state(repository) == {"git.commit": head, "git.changed": "none"}
    (repository / "params.yaml").write_text("2")
    (repository / "code.py").unlink()
    (repository / "dvc.lock").write_text("2")  # dvc itself is writing it
    (repository / "notes.txt").write_text("not tracked")
    deep = repository / "deep"
    deep.mkdir()
    assert provenance.git_state(deep) == {"git.commit": head, "git.changed": "code.py, params.yaml"}


def test_the_state_is_empty_without_a_commit_a_repository_or_git(repository, monkeypatch):
    assert provenance.git_state(repository) == {}
    git(repository, "init", "--quiet")
    assert provenance.git_state(repository) == {}
    monkeypatch.setenv("PATH", str(repository))
    assert provenance.git_state(repository) == {}


def test_libraries_hardware_and_environment_variables(repository, monkeypatch):
    for name in provenance.ENVIRONMENT.values():
        monkeypatch.delenv(name, raising=False)
    found = provenance.provenance()
    assert {"library.python", "library.torch", "library.mlflow", "hardware.device", "hardware.threads"} <= set(found)
    assert not {"git.commit", "image", "pipeline_run", "dvc_experiment"} & set(found)
    monkeypatch.setenv("TWOFOLD_IMAGE", "registry/twofold@sha256:1")
    monkeypatch.setenv("TWOFOLD_COMMIT", "unknown")
    assert "git.commit" not in provenance.provenance()
    monkeypatch.setenv("TWOFOLD_COMMIT", "4f2c")
    assert provenance.provenance()["git.commit"] == "4f2c"
    monkeypatch.setenv("TWOFOLD_PIPELINE_RUN", "run-7")
    found = provenance.provenance()
    assert (found["image"], found["pipeline_run"]) == ("registry/twofold@sha256:1", "run-7")


def test_the_engines_commit_is_that_of_its_checkout_or_the_one_that_its_wheel_records(repository, monkeypatch):
    package = repository / "twofold"
    (package / "registry").mkdir(parents=True)
    monkeypatch.setattr(provenance, "__file__", str(package / "registry" / "provenance.py"))
    assert provenance.engine_commit() == "unknown"
    made = commit(repository)
    assert provenance.engine_commit() == made
    (repository / "code.py").write_text("2")
    assert provenance.engine_commit() == f"{made}-dirty"
    (package / "commit.txt").write_text("recorded\n")
    assert provenance.engine_commit() == "recorded"
