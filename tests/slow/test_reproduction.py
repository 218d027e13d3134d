"""A version is made again from its lineage, byte for byte, by `twofold models reproduce`."""

import json
import shutil

import pytest

from tests.pipeline.conftest import make_project
from twofold.core.artifacts import digest
from twofold.orchestration.params_file import set_values

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with a commit, in which the pipeline has run and made a champion."""
    made = make_project(tmp_path_factory.mktemp("reproduction") / "project")
    quick = ["train_head.epochs=1", "finetune_all.epochs=1", "evaluate.views=1"]
    set_values(made.root / "params.yaml", [*quick, "register.gates=[{figure: accuracy, min: 0}]"])
    for key, value in (("user.name", "Tester"), ("user.email", "tester@example.org")):
        made.run("git", "config", key, value)
    made.run("git", "add", ".")
    made.run("git", "commit", "--quiet", "--message", "as it was")
    made.run("dvc", "repro")
    return made


def models(project, *words, check=True):
    return project.run("python", "-m", "twofold.cli", "models", *words, check=check)


def test_the_lineage_names_commit_data_and_source(project):
    lineage = json.loads(models(project, "show", "champion", "--json").stdout)["lineage"]
    commit = project.run("git", "rev-parse", "HEAD").stdout.strip()
    assert lineage["git"] == {"commit": commit, "changed": "none"}
    assert lineage["data"]["source"] == "data/images"
    assert lineage["data"]["dvc_md5"].endswith(".dir")
    fingerprint = json.loads((project.root / "data/raw/meta.json").read_text())["fingerprint"]
    assert lineage["data"]["fingerprint"] == fingerprint


def test_its_golden_samples_are_predicted_as_before(project):
    checks = {check["name"]: check for check in json.loads(models(project, "verify", "1", "--json").stdout)["checks"]}
    assert {check["verdict"] for check in checks.values()} == {"as recorded", "not checked"}
    assert checks["answers"]["detail"].startswith("on 16 of 16 images sealed with it")


def test_the_script_is_valid_and_complete(project):
    text = models(project, "reproduce", "champion").stdout
    script = project.root.parent / "again.sh"
    script.write_text(text)
    project.run("bash", "-n", str(script))
    commit = project.run("git", "rev-parse", "HEAD").stdout.strip()
    for words in (f"git checkout --quiet {commit}", "dvc repro evaluate", "train_head.epochs=1"):
        assert words in text
    assert "WARNING" not in text


def test_run_makes_it_again_byte_for_byte_and_detects_other_images(project):
    place = project.root.parent / "again"
    done = models(project, "reproduce", "champion", "--run", "--to", str(place))
    assert "version 1 of 'twofold' again, byte for byte" in done.stdout
    assert digest(place / "models" / "finetuned") == digest(project.root / "models" / "finetuned")
    again = models(project, "reproduce", "champion", "--run", "--to", str(place), check=False)
    assert (again.returncode, "exists; name a folder that does not" in again.stderr) == (1, True)
    shutil.rmtree(place)
    next((project.root / "data" / "images").rglob("*.png")).unlink()
    other = models(project, "reproduce", "champion", "--run", "--to", str(place), check=False)
    assert (other.returncode, "other images, so no training was started" in other.stdout) == (1, True)
    assert not (place / "models").exists()
