"""`doctor --in-cluster` against a Kubeflow server and a cluster: the run, and how its pods' findings come back."""

import io
from contextlib import redirect_stdout

import pytest
import yaml
from kfp.compiler import Compiler

from tests.support.doctor_case import IMAGES, case, line
from tests.support.kfp_server.store import Frame
from tests.support.kube_server.objects import pod
from twofold.kubeflow.definition.images import Images
from twofold.kubeflow.definition.resources import load
from twofold.kubeflow.preflight import in_cluster_run
from twofold.orchestration.preflight_findings import failure, in_log, ok, warning

DONE = [
    Frame("PENDING"),
    Frame("RUNNING"),
    Frame("SUCCEEDED", {"ingest-pod": "SUCCEEDED", "finetune_all-pod": "SUCCEEDED"}),
]
NODES = {"ingest-pod": "twofold-doctor-x7k2p-111", "finetune_all-pod": "twofold-doctor-x7k2p-222"}
LOGS = {
    "ingest": [ok("ingest: user in the pod", "uid 10001, gid 10001")],
    "finetune_all": [
        ok("finetune_all: GPU in the pod", "torch 2.15.0 sees one"),
        warning("finetune_all: MLflow version", "server 3.16.0, client 3.17.2", "bring both to the same"),
    ],
}


def text(task):
    return "\n".join(["time=1 level=info msg=launcher", *map(in_log, LOGS[task]), "done", ""])


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    for name in ("KFP_TOKEN", "MLFLOW_TRACKING_URI", "AWS_ACCESS_KEY_ID", "AWS_PROFILE", "KUBECONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(in_cluster_run, "EVERY", 0.01)
    with case(tmp_path) as found:
        found.kfp.script, found.kfp.nodes = DONE, NODES
        yield found


@pytest.fixture
def with_pods(cluster):
    """Pods as Kubeflow makes them: the steps' two and a driver's, labelled with the run."""

    def begin(run_id):
        for name in ("ingest", "finetune_all", "driver"):
            cluster.kube.add(pod(f"pod-{name}", pipeline__runid=run_id))
            cluster.kube.logs[f"pod-{name}"] = text(name) if name in LOGS else "driver: ok"
        cluster.kube.add(pod("of-another-run", pipeline__runid="another"))
        cluster.kube.logs["of-another-run"] = in_log(failure("ingest: another", "run", "none"))

    cluster.kfp.started = begin
    return cluster


def test_the_pods_findings_are_read_from_kubernetes(with_pods, capsys):
    assert with_pods.run("--in-cluster") == 0
    printed, progress = capsys.readouterr()
    assert line(printed, "ingest: user in the pod")[:2] == ("ok", "uid 10001, gid 10001")
    assert line(printed, "finetune_all: MLflow version")[0] == "warning"
    assert line(printed, "run in the cluster")[0] == "ok"
    assert "another" not in printed
    assert "not checked from here" not in printed
    assert "#/runs/details/" in progress
    assert not any("/log" in call for call in with_pods.kfp.calls)


def test_a_failure_in_a_pod_is_a_failure_of_the_command(with_pods, capsys, monkeypatch):
    monkeypatch.setitem(LOGS, "ingest", [failure("ingest: ingest.source", "/data/parts: empty", "copy the images")])
    assert with_pods.run("--in-cluster") == 1
    assert line(capsys.readouterr().out, "ingest: ingest.source")[0] == "failure"


@pytest.mark.parametrize("behind_ui", [False, True])
@pytest.mark.parametrize("name", ["{workflow}-{number}", "{workflow}-metadata-0-1-system-container-impl-{number}"])
def test_without_a_right_to_pods_they_are_read_through_kubeflow(cluster, capsys, behind_ui, name, monkeypatch):
    monkeypatch.setenv("KFP_TOKEN", "t0ken")
    cluster.kfp.token, cluster.kfp.behind_ui = "t0ken", behind_ui
    cluster.kube.forbidden.add("pods")
    for task in LOGS:
        workflow, _, number = NODES[f"{task}-pod"].rpartition("-")
        cluster.kfp.logs[name.format(workflow=workflow, number=number)] = text(task)
    assert cluster.run("--in-cluster") == 0
    printed = "".join(capsys.readouterr())
    assert line(printed, "ingest: user in the pod")[0] == "ok"
    assert line(printed, "finetune_all: GPU in the pod")[0] == "ok"
    assert "t0ken" not in printed


def test_findings_that_cannot_be_read_are_no_success(cluster, capsys):
    cluster.kube.forbidden.add("pods")
    assert cluster.run("--in-cluster") == 1
    level, seen, remedy = line(capsys.readouterr().out, "run in the cluster")
    assert (level, "Forbidden" in seen, "open the link" in remedy) == ("failure", True, True), seen


def test_half_of_the_findings_is_no_success(with_pods, capsys):
    begin = with_pods.kfp.started

    def half(run_id):
        begin(run_id)
        with_pods.kube.remove("Pod", "pod-finetune_all")

    with_pods.kfp.started = half
    assert with_pods.run("--in-cluster") == 1
    printed = capsys.readouterr().out
    assert line(printed, "ingest: user in the pod")[0] == "ok"
    assert "nothing to be read of finetune_all" in line(printed, "run in the cluster")[1]


def test_a_run_that_fails_is_a_failure_though_the_pods_said_ok(with_pods, capsys):
    with_pods.kfp.script = [Frame("FAILED", {"ingest-pod": "FAILED"})]
    assert with_pods.run("--in-cluster") == 1
    assert line(capsys.readouterr().out, "run in the cluster")[1].startswith("FAILED")


def test_a_run_that_finds_no_node_is_stopped(cluster, capsys):
    cluster.kfp.script = [Frame("PENDING")]
    assert cluster.run("--in-cluster", "--patience", "0.05") == 1
    level, seen, remedy = line(capsys.readouterr().out, "run in the cluster")
    assert (level, seen.startswith("still PENDING after 0 s: stopped")) == ("failure", True), seen
    assert "node" in remedy
    assert cluster.kfp.stopped == list(cluster.kfp.runs)


def test_no_run_is_started_where_the_server_or_the_images_fail(cluster, capsys):
    assert cluster.run("--in-cluster", "--image", "train=twofold-train:latest") == 1
    assert line(capsys.readouterr().out, "run in the cluster")[0] == "not checked from here"
    cluster.kfp.version = "2.4.0"
    assert cluster.run("--in-cluster") == 1
    assert line(capsys.readouterr().out, "run in the cluster")[0] == "not checked from here"
    assert cluster.kfp.runs == {}


def test_the_two_tasks_have_their_steps_images_and_places_and_are_tried_once(tmp_path):
    asked = in_cluster_run.ClusterRunRequest(Images(*IMAGES), load(), "/data/parts", "", "resnet50", "imagenet1k_v1")
    with redirect_stdout(io.StringIO()):
        Compiler().compile(in_cluster_run.pipeline(asked), str(tmp_path / "doctor.yaml"))
    spec, platform = yaml.safe_load_all((tmp_path / "doctor.yaml").read_text())
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
    promise = [task["inputs"]["parameters"]["promise"]["runtimeValue"]["constant"] for task in tasks]
    assert [(each["task"], each["gpus"], each["shm"]) for each in promise] == [
        ("ingest", 0, 0),
        ("finetune_all", 1, 4 << 30),
    ]
