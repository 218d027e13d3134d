"""The compiled pipeline: its golden files, its schema, and everything that the resources file requests."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from google.protobuf.json_format import ParseDict
from kfp.kubernetes.kubernetes_executor_config_pb2 import KubernetesExecutorConfig
from kfp.pipeline_spec.pipeline_spec_pb2 import PipelineSpec, PlatformSpec

from twofold.orchestration.params_file import STEPS, load_yaml

ROOT = Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests" / "golden"
DIGEST = "sha256:" + 64 * "a"
OPTIONS = (
    "--params tests/params.yaml --resources tests/golden/resources.yaml "
    f"--image data=registry.example/twofold-data:1a2b@{DIGEST} --image train=registry.example/twofold-train@{DIGEST}"
)
INSIDE = ("source_version", *STEPS[:2], "check_gates", *STEPS[2:])
TASKS = (*INSIDE, "notify")
WITH_GPU = ("train_head", "finetune_all", "evaluate")


def dashed(name):
    return name.replace("_", "-")


def compiled(output, *words, **env):
    command = [sys.executable, "-m", "pipelines", "compile", "-o", str(output), *shlex.split(OPTIONS), *words]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done


def documents(path):
    spec, platform = yaml.safe_load_all(path.read_text())
    return spec, platform


@pytest.fixture(scope="module")
def golden():
    return documents(GOLDEN / "training.yaml")


@pytest.fixture(scope="module")
def bare():
    return documents(GOLDEN / "training_cpu.yaml")


@pytest.fixture(scope="module")
def pods(golden):
    """{task: its Kubernetes settings}."""
    executors = golden[1]["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    return {name: executors[f"exec-{dashed(name)}"] for name in TASKS}


@pytest.fixture(scope="module")
def containers(golden):
    executors = golden[0]["deploymentSpec"]["executors"]
    return {name: executors[f"exec-{dashed(name)}"]["container"] for name in TASKS}


def steps_of(spec):
    return spec["components"]["comp-exit-handler-1"]["dag"]["tasks"]


@pytest.mark.parametrize(("file", "words"), [("training.yaml", []), ("training_cpu.yaml", ["--cpu"])])
def test_the_golden_file_is_what_is_compiled_and_two_compiles_give_the_same_bytes(tmp_path, file, words):
    done = compiled(tmp_path / "first.yaml", *words, PYTHONHASHSEED="1")
    compiled(tmp_path / "second.yaml", *words, PYTHONHASHSEED="2")
    assert "warning" not in done.stderr
    assert (tmp_path / "first.yaml").read_bytes() == (tmp_path / "second.yaml").read_bytes()
    again = f"python -m pipelines compile -o tests/golden/{file} {' '.join(words)} {OPTIONS}"
    assert (tmp_path / "first.yaml").read_text() == (GOLDEN / file).read_text(), f"if this is intended: {again}"


def test_the_files_fit_kubeflows_schema(golden, bare):
    for spec, platform in (golden, bare):
        assert ParseDict(spec, PipelineSpec()).pipeline_info.name == "twofold-training"
        ParseDict(platform, PlatformSpec())
        for pod in platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values():
            ParseDict(pod, KubernetesExecutorConfig())


def test_the_pipeline_has_source_version_and_the_six_steps_in_order_and_an_exit_task(golden):
    spec, _ = golden
    tasks = steps_of(spec)
    done = []
    while len(done) < len(tasks):
        ready = [
            name
            for name, task in tasks.items()
            if name not in done and set(task.get("dependentTasks", [])) <= set(done)
        ]
        assert len(ready) == 1, "the steps run one after the other"
        done += ready
    assert done == [dashed(task) for task in INSIDE]
    outer = spec["root"]["dag"]["tasks"]
    assert set(outer) == {"exit-handler-1", "notify"}
    assert outer["notify"]["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
    assert outer["notify"]["dependentTasks"] == ["exit-handler-1"]


def test_one_argument_a_section_and_force_with_the_defaults_of_the_parameter_file(golden):
    arguments = golden[0]["root"]["inputDefinitions"]["parameters"]
    assert set(arguments) == {*STEPS, "force"}
    params = load_yaml(ROOT / "tests" / "params.yaml")
    assert {step: arguments[step]["defaultValue"] for step in STEPS} == params
    assert arguments["force"]["defaultValue"] == ""


def test_only_tasks_that_nothing_with_artifacts_follows_are_never_cached(golden):
    spec, _ = golden
    options = {**steps_of(spec), "notify": spec["root"]["dag"]["tasks"]["notify"]}
    uncached = {name for name, task in options.items() if not task.get("cachingOptions", {}).get("enableCache")}
    assert uncached == {"source-version", "register", "notify"}
    assert "artifacts" not in spec["components"]["comp-source-version"]["outputDefinitions"]
    assert not any("register" in task.get("dependentTasks", []) for task in options.values())


def test_ingest_depends_on_its_own_parameters_and_the_sources_version_only(golden):
    inputs = steps_of(golden[0])["ingest"]["inputs"]["parameters"]
    found = {key: value.get("componentInputParameter") or value for key, value in inputs.items()}
    version = {"taskOutputParameter": {"outputParameterKey": "version", "producerTask": "source-version"}}
    assert found == {"params": "pipelinechannel--ingest", "force": "pipelinechannel--force", "version": version}


def test_every_cache_key_holds_force_and_the_digest_of_every_artifact_that_is_read(golden):
    """Kubeflow's key contains the ids of artifacts, not their bytes, and the values of parameters."""
    for name in map(dashed, STEPS):
        inputs = steps_of(golden[0])[name]["inputs"]
        parameters = inputs["parameters"]
        assert "force" in parameters, name
        digests = {
            found["taskOutputParameter"]["producerTask"]
            for found in parameters.values()
            if found.get("taskOutputParameter", {}).get("outputParameterKey") == "digest"
        }
        read = {found["taskOutputArtifact"]["producerTask"] for found in inputs.get("artifacts", {}).values()}
        assert digests == read, name
        for key, found in inputs.get("artifacts", {}).items():
            producer = found["taskOutputArtifact"]["producerTask"]
            named = "audit_digest" if key.endswith("_audit") else "digest"
            assert parameters[f"{key}_digest"]["taskOutputParameter"] == {
                "outputParameterKey": named,
                "producerTask": producer,
            }


def test_nothing_is_installed_when_a_pod_starts(containers):
    for name, container in containers.items():
        assert "pip install" not in " ".join(container["command"]), name


def test_images_by_step(containers):
    for name, container in containers.items():
        target = "data" if name in ("source_version", "ingest", "preprocess", "check_gates") else "train"
        assert f"/twofold-{target}" in container["image"], name
        assert {"name": "TWOFOLD_IMAGE", "value": container["image"]} in container["env"]


def test_gpu_cpu_and_memory(containers):
    for name, container in containers.items():
        resources = container["resources"]
        assert resources["resourceCpuLimit"] == resources["resourceCpuRequest"]
        assert resources["resourceMemoryLimit"] == resources["resourceMemoryRequest"]
        accelerator = resources.get("accelerator")
        if name in WITH_GPU:
            assert (accelerator["resourceType"], accelerator["resourceCount"]) == ("nvidia.com/gpu", "1"), name
        else:
            assert accelerator is None, name
    assert containers["preprocess"]["resources"]["resourceCpuLimit"] == "500m"
    assert containers["finetune_all"]["resources"]["resourceMemoryLimit"] == "16Gi"


def test_nodes_and_shared_memory(pods):
    for name, pod in pods.items():
        if name not in WITH_GPU:
            assert not {"tolerations", "nodeSelector", "nodeAffinity", "emptyDirMounts"} & set(pod), name
            continue
        assert pod["tolerations"] == [
            {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"},
            {"key": "team", "operator": "Equal", "value": "vision", "effect": "NoExecute"},
        ]
        assert pod["nodeSelector"]["labels"] == {"nvidia.com/gpu.product": "NVIDIA-H200"}
        required, preferred = pod["nodeAffinity"]
        assert required["matchExpressions"] == [
            {"key": "nvidia.com/gpu.product", "operator": "In", "values": ["NVIDIA-H200", "NVIDIA-H100"]},
            {"key": "nvidia.com/gpu.memory", "operator": "Gt", "values": ["80000"]},
        ]
        assert preferred == {"matchExpressions": [{"key": "spot", "operator": "DoesNotExist"}], "weight": 50}
        assert "weight" not in required
        shm = {"volumeName": "shm", "mountPath": "/dev/shm", "medium": "Memory", "sizeLimit": "2Gi"}
        assert pod["emptyDirMounts"] == [shm]


def test_never_root_and_what_all_pods_share(pods, containers):
    for name, pod in pods.items():
        assert pod["securityContext"] == {"runAsUser": "10001", "runAsGroup": "10002", "runAsNonRoot": True}, name
        assert pod["podMetadata"]["labels"] == {"team": "vision"}
        assert [secret["secretName"] for secret in pod["imagePullSecret"]] == ["registry-login"]
        assert {"name": "TWOFOLD_WORKERS", "value": "4"} in containers[name]["env"]


def test_secrets_become_variables_in_the_tasks_that_need_them(pods):
    given = {
        name: {
            secret["secretName"]: {pair["envVar"] for pair in secret["keyToEnv"]}
            for secret in pod.get("secretAsEnv", [])
        }
        for name, pod in pods.items()
    }
    s3, mlflow = {"s3-login": {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}}, {"mlflow-login": {"MLFLOW_TRACKING_URI"}}
    assert given == {
        "source_version": s3,
        "ingest": s3,
        **{task: {} for task in ("preprocess", "check_gates", "evaluate")},
        "train_head": mlflow,
        "finetune_all": mlflow,
        "register": s3 | mlflow,
        "notify": mlflow | {"channel": {"TWOFOLD_WEBHOOK"}},
    }
    optional = {
        secret["secretName"]: secret["optional"] for pod in pods.values() for secret in pod.get("secretAsEnv", [])
    }
    assert optional == {"s3-login": False, "mlflow-login": False, "channel": True}


def test_a_retry_of_finetune_all_finds_its_checkpoint(pods, containers):
    mounts = {
        name: [(mount["constant"], mount["mountPath"]) for mount in pod.get("pvcMount", [])]
        for name, pod in pods.items()
    }
    assert mounts["finetune_all"] == [("checkpoints", "/checkpoints")]
    assert mounts["ingest"] == mounts["source_version"] == [("images", "/data")]
    assert {"name": "TWOFOLD_CHECKPOINTS", "value": "/checkpoints"} in containers["finetune_all"]["env"]


def test_time_and_retries(golden, pods):
    spec, platform = golden
    limits = {"activeDeadlineSeconds": 172800, "resourceTtlOnSuccess": 3600, "resourceTtlOnFailure": 43200}
    assert platform["platforms"]["kubernetes"]["pipelineConfig"] == limits
    assert {name: pod["activeDeadlineSeconds"] for name, pod in pods.items()}["preprocess"] == "5400"
    policies = {name: task.get("retryPolicy") for name, task in steps_of(spec).items()}
    assert policies["finetune-all"] == {
        "maxRetryCount": 2,
        "backoffDuration": "30s",
        "backoffFactor": 3.0,
        "backoffMaxDuration": "31536000s",  # counted from the start of the first try, so it must not end before a retry
    }
    assert policies["preprocess"] is None
    assert spec["root"]["dag"]["tasks"]["notify"]["retryPolicy"]["maxRetryCount"] == 1


def test_cpu_requests_no_hardware_volume_or_secret_and_keeps_the_rest(golden, bare, pods):
    spec, platform = bare
    kept = {"securityContext", "podMetadata", "imagePullSecret", "activeDeadlineSeconds"}
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    for name in TASKS:
        pod = executors[f"exec-{dashed(name)}"]
        assert pod == {key: value for key, value in pods[name].items() if key in kept}, name
        assert set(pod) == kept, name
        container = spec["deploymentSpec"]["executors"][f"exec-{dashed(name)}"]["container"]
        assert "resources" not in container, name
        assert {variable["name"] for variable in container["env"]} == {"TWOFOLD_IMAGE", "TWOFOLD_WORKERS"}, name
    assert (spec["root"], spec["components"]) == (golden[0]["root"], golden[0]["components"]), "retries and cache"


@pytest.mark.parametrize("words", ["compile -o", "run --root"])
def test_an_output_path_that_cannot_be_written_is_named(tmp_path, words):
    (tmp_path / "file").write_text("")
    command = [sys.executable, "-m", "pipelines", *words.split(), str(tmp_path / "file" / "p.yaml")]
    images = shlex.split(OPTIONS)[4:] if "compile" in words else []
    done = subprocess.run([*command, *images], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert re.search("Not a directory|File exists", done.stderr)
    assert "/file/p.yaml" in done.stderr


def test_a_refused_image_writes_no_file(tmp_path):
    command = [sys.executable, "-m", "pipelines", "compile", "-o", str(tmp_path / "p.yaml")]
    done = subprocess.run([*command, "--image", "data=x:latest"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "the tag latest" in done.stderr
    assert not (tmp_path / "p.yaml").exists()


def test_the_files_comments_hold_no_default_values(golden):
    lines = (GOLDEN / "training.yaml").read_text().splitlines()
    comments = [line for line in lines if line.startswith("#")]
    assert not any("Default: {" in line for line in comments)
    assert "#    ingest: dict" in comments
