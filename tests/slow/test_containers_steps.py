"""All six steps in containers, as non-root: as commands, and as the Kubeflow pipeline on a container engine."""

import os
import shlex
import shutil
import subprocess
import sys

import pytest
from docker.types import Mount
from kfp import dsl, local

from components.ingest import ingest
from components.preprocess import preprocess
from components.source_version import source_version
from tests.pipeline.conftest import SMALL, Project
from tests.support import wheel_case
from tests.support.makers import make_folder
from tests.support.tools.engine import RESTRICTED, ROOT
from twofold.core.artifacts import digest, read_json
from twofold.orchestration.params_file import STEPS, load_yaml, set_values

pytestmark = [pytest.mark.slow, pytest.mark.containers]

DATA_STEPS = ("ingest", "preprocess")
# Output of `dvc repro` -> the same output of a pipeline task
TASKS = {
    "data/raw": "ingest/raw",
    "data/prepared": "preprocess/data",
    "models/head": "train-head/model",
    "models/finetuned": "finetune-all/model",
    "reports/evaluation": "evaluate/evaluation",
}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project of an installed Twofold: 60 generated images, and what `dvc repro` makes of them without containers."""
    root = tmp_path_factory.mktemp("containers")
    wheel = wheel_case.build(root / "wheel")
    found = Project(root / "project")
    found.env["PYTHONPATH"] = str(wheel_case.install(wheel, root / "site"))
    # The first commit, with which images are tagged, needs a name.
    found.env |= {f"GIT_{role}_{key}": "a@b.example" for role in ("AUTHOR", "COMMITTER") for key in ("NAME", "EMAIL")}
    make_folder(root / "images", per_class=30)
    words = ["init", found.root, "--source", root / "images", "--positive", "bad", "--wheel", wheel, "--yes"]
    subprocess.run([sys.executable, "-m", "twofold.cli", *words], cwd=root, env=found.env, check=True)
    shutil.copytree(root / "images", found.root / "data" / "images")
    shutil.copy(ROOT / "tests" / "params.yaml", found.root)
    set_values(found.root / "params.yaml", SMALL)
    found.run("dvc", "repro")
    return found


def test_the_steps_give_the_same_outputs_in_a_restricted_container(engine, images, project, tmp_path):
    for folder in (".", "data", "data/images", "models", "reports"):
        (tmp_path / folder).mkdir(exist_ok=True)
        (tmp_path / folder).chmod(0o1777)  # for the user of the containers, who is unknown on this machine
    options = [
        *RESTRICTED,
        f"--volume={tmp_path}:/work",
        f"--volume={project.root}/data/images:/work/data/images:ro",
        f"--volume={project.root}/params.yaml:/work/params.yaml:ro",
        "--workdir=/work",
        "--env=MLFLOW_TRACKING_URI=sqlite:////work/mlflow.db",
        # The last bits depend on it, and the tests may have set it for all their processes.
        *(f"--env={name}={os.environ[name]}" for name in ["OMP_NUM_THREADS"] if name in os.environ),
    ]
    stages = load_yaml(project.root / "dvc.yaml")["stages"]
    for step in STEPS:
        image = images["data" if step in DATA_STEPS else "train"]
        engine.within(image, *shlex.split(stages[step]["cmd"]), options=options)
    same = [*TASKS, "reports/metrics.json"]
    assert {path: digest(tmp_path / path) for path in same} == project.digests(*same)
    verdict = read_json(tmp_path / "reports" / "registration.json")
    assert verdict["registered"] == read_json(project.root / "reports" / "registration.json")["registered"]


def test_the_pipeline_in_images_of_the_projects_own_docker_folder_gives_the_same_outputs(
    engine, images, project, tmp_path
):
    environment = engine.env | {"PYTHONPATH": project.env["PYTHONPATH"]}
    built = subprocess.run(
        [project.root / "docker" / "images"],
        cwd=project.root,
        env=environment | {"TAG": "tests-own"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert built.returncode == 0, built.stderr[-4000:]
    assert "Collecting boto3" not in built.stderr, "the packages are those of the other images"
    words = [sys.executable, "-m", "pipelines", "run", "--runner", "docker", "--root", tmp_path / "runs"]
    given = built.stdout.split()
    done = subprocess.run(
        [*words, *given, "--params", project.root / "params.yaml"],
        cwd=project.root,
        env=environment,
        capture_output=True,
        text=True,
        timeout=1800,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
    (log,) = (tmp_path / "runs" / "runs").glob("*/run.log")
    (run,) = (path for path in log.parent.iterdir() if path.is_dir())
    found = {path: digest(run / task) for path, task in TASKS.items()}
    assert found == project.digests(*TASKS)
    assert read_json(run / "evaluate" / "metrics") == read_json(project.root / "reports" / "metrics.json")
    verdict = read_json(run / "register" / "verdict")
    outside = read_json(project.root / "reports" / "registration.json")
    assert [gate["passed"] for gate in verdict["gates"]] == [gate["passed"] for gate in outside["gates"]]
    owners = {path.stat().st_uid for path in run.rglob("*") if path.is_file()}
    assert owners == {10001}
    lines = log.read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if "KFP Executor" in line]
    assert not [line for line in lines if "pip install" in line or "Collecting " in line]


def test_what_is_unchanged_is_taken_from_kfp_locals_cache_in_containers(engine, images, project, tmp_path, monkeypatch):
    """For the data steps; tests/pipeline/test_kfp_cache.py does the same for the whole pipeline in processes."""
    monkeypatch.setenv("DOCKER_HOST", engine.env["DOCKER_HOST"])
    monkeypatch.chdir(ROOT)
    folder = shutil.copytree(project.root / "data" / "images", tmp_path / "images")
    params = load_yaml(project.root / "params.yaml")
    params["ingest"]["source"] = str(folder)
    root = tmp_path / "root"
    root.mkdir()
    root.chmod(0o1777)  # for the user of the containers
    runner = local.DockerRunner(
        network_mode="host", mounts=[Mount(str(folder), str(folder), type="bind", read_only=True)]
    )
    local.init(runner, str(root), str(tmp_path / "workspace"), enable_caching=True)

    def in_image(task, cached=True):
        return task.set_caching_options(cached).set_container_image(images["data"]).outputs

    @dsl.pipeline(name="data-steps")
    def data_steps():
        first = in_image(source_version(**params), cached=False)
        raw = in_image(ingest(params=params["ingest"], version=first["version"], force=""))
        in_image(preprocess(params=params["preprocess"], force="", raw=raw["raw"], raw_digest=raw["digest"]))

    def run():
        before = set(root.glob("data-steps-*"))
        data_steps()
        (made,) = set(root.glob("data-steps-*")) - before
        return {path.parent.name for path in made.glob("*/executor_output.json")}

    every = {"source-version", "ingest", "preprocess"}
    assert run() == every
    assert run() == {"source-version"}
    shutil.copy(folder / "bad" / "00000.png", folder / "bad" / "copy.png")
    assert run() == every
