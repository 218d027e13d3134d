"""A version is reproduced after its workspace is lost, from git, the registry, and images in S3."""

import json
import os

import pytest

from tests.pipeline.conftest import Project, make_project
from tests.support.dvc_case import make_repository
from tests.support.s3_case import fill, png
from tests.support.tools.servers import KEY, SECRET
from twofold.core.artifacts import digest
from twofold.orchestration.params_file import set_values

pytestmark = pytest.mark.slow
QUICK = [
    "ingest.positive=bad",
    "train_head.epochs=1",
    "finetune_all.epochs=1",
    "evaluate.views=1",
    "evaluate.robustness=0",
    "evaluate.pictures=false",
    "preprocess.image_size=32",
    "train_head.backbone=efficientnet_lite0",
    "register.gates=[{figure: accuracy, min: 0}]",
]


def commit(project):
    for key, value in (("user.name", "Tester"), ("user.email", "tester@example.org")):
        project.run("git", "config", key, value)
    project.run("git", "add", ".")
    project.run("git", "commit", "--quiet", "--message", "as it was")


def environment(project, root):
    """Let workspaces share the registry and the credentials, but no cache."""
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{root / 'registry' / 'mlflow.db'}"}
    (root / "registry").mkdir(exist_ok=True)
    own = {"TWOFOLD_CACHE": str(project.root / ".cache"), "DVC_SITE_CACHE_DIR": str(root / "site")}
    s3 = {key: value for key, value in os.environ.items() if key.startswith("AWS_")}
    assert (s3["AWS_ACCESS_KEY_ID"], s3["AWS_SECRET_ACCESS_KEY"]) == (KEY, SECRET)
    project.env |= store | own | s3


def elsewhere(project, root):
    """Clone the project's git repository into another folder; the old one is gone."""
    project.run("git", "clone", "--quiet", "--bare", ".", str(root / "git"))
    (project.root).rename(root / "lost")
    found = Project(root / "new")
    found.root.mkdir()
    environment(found, root)
    found.run("git", "clone", "--quiet", str(root / "git"), ".")
    return found


def models(project, *words, check=True):
    return project.run("python", "-m", "twofold.cli", "models", *words, check=check)


def made(root, place):
    return digest(root / place / "models" / "finetuned")


def test_from_a_bucket(store, tmp_path):
    project = make_project(tmp_path / "project")
    fill(store, "parts", project.root / "data" / "images", "of/may/")
    set_values(project.root / "params.yaml", [*QUICK, "ingest.source=s3://parts/of/may"])
    environment(project, tmp_path)
    commit(project)
    project.run("dvc", "repro")
    new = elsewhere(project, tmp_path)
    known = json.loads(models(new, "show", "champion", "--json").stdout)["lineage"]
    assert known["data"]["source"] == "s3://parts/of/may"
    done = models(new, "reproduce", "champion", "--run", "--to", str(tmp_path / "again"))
    assert "version 1 of 'twofold' again, byte for byte" in done.stdout
    assert known["digests"]["finetune_all"] == made(tmp_path, "again") == made(tmp_path, "lost")
    # With one more object the data differs, so no training starts.
    store.put_object(Bucket="parts", Key="of/may/bad/more.png", Body=png(99))
    other = models(new, "reproduce", "champion", "--run", "--to", str(tmp_path / "other"), check=False)
    assert (other.returncode, "other images, so no training was started" in other.stdout) == (1, True)
    assert not (tmp_path / "other" / "models").exists()


def test_from_a_version_in_a_dvc_remote(store, address, tmp_path):
    """The KFP pipeline makes it, since DVC cannot watch another repository; the steps' commands reproduce it."""
    store.create_bucket(Bucket="kept")
    data = make_repository(tmp_path / "data", "s3://kept/dvc", {"endpointurl": address}, per_class=30)
    source = f"dvc+file://{data}@v1:data/images"
    project = make_project(tmp_path / "project")
    set_values(project.root / "params.yaml", QUICK)
    environment(project, tmp_path)
    commit(project)
    project.run("python", "-m", "pipelines", "run", "-p", f"ingest.source={source}")
    new = elsewhere(project, tmp_path)
    known = json.loads(models(new, "show", "champion", "--json").stdout)["lineage"]
    assert (known["data"]["source"], known["data"]["dvc_revision"]) == (source, "v1")
    done = models(new, "reproduce", "champion", "--run", "--to", str(tmp_path / "again"))
    assert "version 1 of 'twofold' again, byte for byte" in done.stdout
    assert known["digests"]["finetune_all"] == made(tmp_path, "again")
    script = models(new, "reproduce", "champion", "--to", str(tmp_path / "third")).stdout
    assert "python -m twofold.steps.ingest --raw data/raw" in script
    assert "WARNING" not in script
