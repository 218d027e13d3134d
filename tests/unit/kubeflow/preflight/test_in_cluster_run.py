"""`doctor --in-cluster` against a Kubeflow server and a cluster: the run, and how its pods' findings are read."""

import io
from contextlib import redirect_stdout

import pytest
import yaml
from kfp.compiler import Compiler

from tests.support.doctor_case import IMAGES, case, line
from tests.support.kfp_server.store import Frame
from tests.support.kube_server.objects import pod
from twofold.kubeflow.definition.images import Images
from twofold.kubeflow.definition.resources import load_resources
from twofold.kubeflow.preflight import in_cluster_run
from twofold.orchestration.preflight_findings import failure, in_log, ok, warning

SUCCESS = Frame("SUCCEEDED", {"ingest-pod": "SUCCEEDED", "finetune_all-pod": "SUCCEEDED"})
NODES = {"ingest-pod": "twofold-doctor-x7k2p-111", "finetune_all-pod": "twofold-doctor-x7k2p-222"}
LOGS = {
    "ingest": [ok("ingest: user in the pod", "uid 10001, gid 10001")],
    "finetune_all": [
        ok("finetune_all: GPU in the pod", "torch 2.15.0 sees one"),
        warning("finetune_all: MLflow version", "server 3.16.0, client 3.17.2", "bring both to the same"),
    ],
}


def log_of(task):
    return "\n".join(["time=1 level=info msg=launcher", *map(in_log, LOGS[task]), "done", ""])


@pytest.fixture
def cluster(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(in_cluster_run, "POLL_INTERVAL", 0.01)
    with case(tmp_path, monkeypatch, capsys) as found:
        found.kfp.script, found.kfp.nodes = [Frame("PENDING"), Frame("RUNNING"), SUCCESS], NODES
        yield found


@pytest.fixture
def with_pods(cluster):
    """Pods like Kubeflow's: those of the two steps and of a driver, labelled with the run."""

    def start_pods(run_id):
        for name in ("ingest", "finetune_all", "driver"):
            cluster.kube.add(pod(f"pod-{name}", pipeline__runid=run_id))
            cluster.kube.logs[f"pod-{name}"] = log_of(name) if name in LOGS else "driver: ok"
        cluster.kube.add(pod("of-another-run", pipeline__runid="another"))
        cluster.kube.logs["of-another-run"] = in_log(failure("ingest: another", "run", "none"))

    cluster.kfp.on_start = start_pods
    return cluster


def test_the_pods_findings_are_read_from_kubernetes(with_pods):
    printed = with_pods.run("--in-cluster")
    assert line(printed, "ingest: user in the pod")[:2] == ("ok", "uid 10001, gid 10001")
    assert line(printed, "finetune_all: MLflow version")[0] == "warning"
    assert line(printed, "run in the cluster")[0] == "ok"
    assert "another" not in printed
    assert "not checked from here" not in printed
    assert "#/runs/details/" in with_pods.errors
    assert not any("/log" in call for call in with_pods.kfp.calls)


def test_a_failure_in_a_pod_is_a_failure_of_the_command(with_pods, monkeypatch):
    monkeypatch.setitem(LOGS, "ingest", [failure("ingest: ingest.source", "/data/parts: empty", "copy the images")])
    assert line(with_pods.run("--in-cluster", status=1), "ingest: ingest.source")[0] == "failure"


@pytest.mark.parametrize("behind_ui", [False, True])
@pytest.mark.parametrize("name", ["{workflow}-{number}", "{workflow}-metadata-0-1-system-container-impl-{number}"])
def test_without_access_to_pods_their_logs_are_read_through_kubeflow(cluster, behind_ui, name, monkeypatch):
    monkeypatch.setenv("KFP_TOKEN", "t0ken")
    cluster.kfp.token, cluster.kfp.behind_ui = "t0ken", behind_ui
    cluster.kube.forbidden.add("pods")
    for task in LOGS:
        workflow, _, number = NODES[f"{task}-pod"].rpartition("-")
        cluster.kfp.logs[name.format(workflow=workflow, number=number)] = log_of(task)
    printed = cluster.run("--in-cluster")
    assert line(printed, "ingest: user in the pod")[0] == "ok"
    assert line(printed, "finetune_all: GPU in the pod")[0] == "ok"
    assert "t0ken" not in printed + cluster.errors


def test_findings_that_cannot_be_read_are_no_success(cluster):
    cluster.kube.forbidden.add("pods")
    level, text, remedy = line(cluster.run("--in-cluster", status=1), "run in the cluster")
    assert (level, "Forbidden" in text, "open the link" in remedy) == ("failure", True, True), text


def test_half_of_the_findings_is_no_success(with_pods):
    start_pods = with_pods.kfp.on_start

    def start_one(run_id):
        start_pods(run_id)
        with_pods.kube.remove("Pod", "pod-finetune_all")

    with_pods.kfp.on_start = start_one
    printed = with_pods.run("--in-cluster", status=1)
    assert line(printed, "ingest: user in the pod")[0] == "ok"
    assert "found no findings of finetune_all" in line(printed, "run in the cluster")[1]


def test_a_run_that_fails_is_a_failure_though_the_pods_reported_ok(with_pods):
    with_pods.kfp.script = [Frame("FAILED", {"ingest-pod": "FAILED"})]
    assert line(with_pods.run("--in-cluster", status=1), "run in the cluster")[1].startswith("FAILED")


def test_a_run_that_finds_no_node_is_stopped(cluster):
    cluster.kfp.script = [Frame("PENDING")]
    level, text, remedy = line(cluster.run("--in-cluster", "--patience", "0.05", status=1), "run in the cluster")
    assert (level, text.startswith("still PENDING after 0 s: stopped")) == ("failure", True), text
    assert "node" in remedy
    assert cluster.kfp.stopped == list(cluster.kfp.runs)


def test_no_run_is_started_if_the_server_or_the_images_fail(cluster):
    for words, version in ((["--image", "train=twofold-train:latest"], "2.17.0"), ([], "2.4.0")):
        cluster.kfp.version = version
        printed = cluster.run("--in-cluster", *words, status=1)
        assert line(printed, "run in the cluster")[0] == "not checked from here"
    assert cluster.kfp.runs == {}


def compiled(folder, resources):
    request = in_cluster_run.ClusterRunRequest(
        Images(*IMAGES), resources, "/data/parts", "", "of-the-runs", "resnet50", "imagenet1k_v1"
    )
    with redirect_stdout(io.StringIO()):
        Compiler().compile(in_cluster_run.pipeline(request), str(folder / "doctor.yaml"))
    spec, platform = yaml.safe_load_all((folder / "doctor.yaml").read_text())
    tasks = spec["root"]["dag"]["tasks"].values()
    return spec, platform, [task["inputs"]["parameters"]["promise"]["runtimeValue"]["constant"] for task in tasks]


def test_with_cpu_the_pods_expect_no_gpu_and_no_checkpoints(tmp_path):
    _, _, promises = compiled(tmp_path, load_resources().without_requests())
    assert [(each["gpus"], each["shm"], each["checkpoints"]) for each in promises] == [(0, 0, False)] * 2


def test_the_two_tasks_have_their_steps_images_and_placement_and_no_retries(tmp_path):
    spec, platform, promises = compiled(tmp_path, load_resources())
    executors = spec["deploymentSpec"]["executors"]
    assert [executor["container"]["image"] for executor in executors.values()] == list(IMAGES)
    ingest, finetune = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"].values()
    assert [mount["mountPath"] for mount in ingest["pvcMount"]] == ["/data"]
    assert [mount["mountPath"] for mount in finetune["pvcMount"]] == ["/checkpoints"]
    assert finetune["emptyDirMounts"][0]["mountPath"] == "/dev/shm"
    assert finetune["tolerations"]
    assert {entry["secretName"] for entry in finetune["secretAsEnv"]} == {"twofold-s3", "twofold-mlflow"}
    assert {each["securityContext"]["runAsNonRoot"] for each in (ingest, finetune)} == {True}
    tasks = spec["root"]["dag"]["tasks"].values()
    assert [task["taskInfo"]["name"] for task in tasks] == ["ingest-pod", "finetune_all-pod"]
    assert not any("retryPolicy" in task or task["cachingOptions"] for task in tasks)
    expected = [("ingest", 0, 0), ("finetune_all", 1, 4 << 30)]
    assert [(each["task"], each["gpus"], each["shm"]) for each in promises] == expected
    assert {(each["experiment"], each["checkpoints"]) for each in promises} == {("of-the-runs", True)}
