"""`doctor` from a laptop, against a Kubeflow server and a Kubernetes API that lack one thing at a time."""

import pytest

from tests.support.doctor_case import ROOT, case, line
from tests.support.kfp_server.case import check_out
from tests.support.kfp_server.server import Fault
from tests.support.kube_server import objects
from tests.support.kube_server.objects import NAMESPACE, claim, namespace, node, pull_secret, secret
from tests.support.kube_server.server import kubeconfig
from twofold.cli.main import kfp_main as main
from twofold.kubeflow.definition.resources import load_resources
from twofold.kubeflow.preflight import local_checks
from twofold.orchestration.preflight_findings import failure, ok

SECRETS = load_resources().secrets
FORBIDDEN = {
    "nodes": "nodes",
    "secrets": "secret twofold-s3",
    "persistentvolumeclaims": "claim twofold-data",
    "namespaces": f"namespace {NAMESPACE}",
    "configmaps": "retries",
}


@pytest.fixture
def cluster(tmp_path, monkeypatch, capsys):
    with case(tmp_path, monkeypatch, capsys) as found:
        yield found


def replace_secret(cluster, name, **values):
    cluster.kube.remove("Secret", name)
    cluster.kube.add(secret(name, **values))


def test_in_a_complete_cluster_nothing_fails_and_what_a_laptop_cannot_check_is_not_ok(cluster):
    printed = cluster.run()
    assert not {level for level in ("failure", "warning") if f"\n{level}" in printed}, printed
    assert line(printed, "Kubeflow Pipelines")[0] == "ok"
    for check in ("S3 from the pods", "MLflow from the pods", "ingest.source", "user and folders", "GPU in the pod"):
        assert line(printed, check)[0] == "not checked from here", check
        assert "--in-cluster" in line(printed, check)[2]
    assert printed.splitlines()[-1] == "18 ok, 7 not checked from here"


def test_no_secret_is_printed_and_secrets_are_read_by_name_only(cluster, monkeypatch):
    monkeypatch.setenv("KFP_TOKEN", "t0ken-of-the-server")
    cluster.kfp.token = "t0ken-of-the-server"
    for each in SECRETS.values():
        replace_secret(cluster, each.name, other="s3cret-other")
    printed = cluster.run(status=1) + cluster.errors
    assert "other" in printed
    for word in ("s3cret", "t0ken", "token-of-the-cluster"):
        assert word not in printed


@pytest.mark.parametrize(
    ("version", "level", "text"),
    [("2.17.0", "ok", "2.17.0"), ("2.16.1", "warning", "older than the SDK"), ("2.4.0", "failure", "too old")],
)
def test_the_servers_version_is_compared_with_the_sdk(cluster, version, level, text):
    cluster.kfp.version = version
    found = line(cluster.run(status=int(level == "failure")), "Kubeflow Pipelines")
    assert (found[0], text in found[1]) == (level, True), found
    assert (level == "ok") == (found[2] == "")
    assert level == "ok" or "update" in found[2], "the remedy is something to do"


def test_if_the_server_refuses_or_does_not_answer_the_other_checks_still_run(cluster):
    cluster.kfp.token = "another"
    printed = cluster.run(status=1)
    level, text, remedy = line(printed, "Kubeflow Pipelines")
    assert (level, "401" in text, "--token-file" in remedy) == ("failure", True, True), (text, remedy)
    assert line(printed, "node for finetune_all")[0] == "ok"
    cluster.kfp.token = ""
    cluster.kfp.faults = [Fault("GET /healthz", lose="before", times=9)]
    assert "no answer" in line(cluster.run(status=1), "Kubeflow Pipelines")[1]


def test_a_server_that_reports_its_version_but_refuses_the_credentials_fails(cluster):
    cluster.kfp.faults = [Fault("GET /experiments", status=401)]
    assert "401" in line(cluster.run(status=1), "Kubeflow Pipelines")[1]


def add_schedule(server, name, description, pipeline="twofold-training"):
    owned = {"display_name": pipeline, "namespace": NAMESPACE}
    made = [each for each in server.pipelines.values() if each["display_name"] == pipeline]
    reference = {"pipeline_id": (made or [server.create_pipeline(owned)])[0]["pipeline_id"]}
    values = owned | {"display_name": name, "description": description, "pipeline_version_reference": reference}
    server._add(server.recurring, "recurring_run_id", values)


def test_a_schedule_that_runs_another_commit_than_the_checkout_warns(cluster, monkeypatch):
    check_out(monkeypatch, 40 * "a")
    for name, commit in (("same", 40 * "a"), ("other", 40 * "b"), ("changed", f"{40 * 'a'}-dirty")):
        add_schedule(cluster.kfp, name, f"applied by twofold kfp, commit {commit}, 0123456789abcdef")
    add_schedule(cluster.kfp, "old", "applied by twofold kfp, 0123456789abcdef")
    add_schedule(cluster.kfp, "foreign", "", pipeline="theirs")
    printed = cluster.run()
    assert line(printed, "schedule same") == ("ok", f"runs commit {12 * 'a'}", "")
    for name, commit in (("other", 12 * "b"), ("changed", f"{12 * 'a'}-dirty")):
        level, text, remedy = line(printed, f"schedule {name}")
        assert (level, text) == ("warning", f"runs commit {commit} (the checkout differs)")
        assert "apply it again" in remedy
    assert line(printed, "schedule old")[:2] == ("not checked from here", "runs commit unknown")
    assert "foreign" not in printed


def test_schedules_that_may_not_be_listed_are_not_checked(cluster):
    add_schedule(cluster.kfp, "nightly", "")
    cluster.kfp.faults = [Fault("GET /recurringruns", status=403)]
    level, text, _ = line(cluster.run(), "schedules")
    assert (level, "forbidden (403)" in text) == ("not checked from here", True)


@pytest.mark.parametrize(
    ("address", "level", "text"),
    [
        ("/data/parts", "not checked from here", "/data/parts"),
        ("s3://parts/2026", "not checked from here", "s3://parts/2026"),
        ("dvc+https://git.example/parts.git@v1:data", "not checked from here", "parts.git@v1:data"),
        ("dvc+.@v1:data", "failure", "no pod sees"),
        ("data/elpv", "failure", "no pod sees"),
        ("/other/parts", "failure", "/data"),
        ("/database/parts", "failure", "/data"),
    ],
)
def test_a_source_that_no_pod_can_see_fails(cluster, address, level, text):
    found = line(cluster.run("-p", f"ingest.source={address}", status=int(level == "failure")), "ingest.source")
    assert (found[0], text in found[1]) == (level, True), found


@pytest.mark.parametrize("spec", SECRETS.values(), ids=lambda spec: spec.name)
def test_a_missing_secret_fails_unless_it_is_optional(cluster, spec):
    cluster.kube.remove("Secret", spec.name)
    level, text, remedy = line(cluster.run(status=int(not spec.optional)), f"secret {spec.name}")
    assert (level, text.startswith("not found")) == ("warning" if spec.optional else "failure", True)
    assert all(key in remedy for key in spec.keys)


def test_a_secret_without_a_key_fails_and_one_with_an_empty_key_warns(cluster):
    replace_secret(cluster, "twofold-s3", access_key_id="s3cret-a")
    replace_secret(cluster, "twofold-mlflow", **dict.fromkeys(SECRETS["mlflow"].keys, ""))
    printed = cluster.run(status=1)
    missing = "lacks secret_access_key, endpoint_url; it has access_key_id"
    assert line(printed, "secret twofold-s3")[:2] == ("failure", missing)
    empty = "found; empty: tracking_uri, username, password"
    assert line(printed, "secret twofold-mlflow")[:2] == ("warning", empty)


@pytest.mark.parametrize(
    ("hosts", "level", "text"),
    [
        (["registry.example"], "ok", "found, for registry.example"),
        (["other.example"], "warning", "none for registry.example"),
        ([], "failure", "without a registry"),
        (None, "failure", "not found"),
    ],
)
def test_an_image_pull_secret_must_have_a_login_for_the_images_registry(cluster, hosts, level, text):
    resources = (ROOT / "pipelines" / "resources.yaml").read_text()
    path = cluster.folder / "resources.yaml"
    path.write_text(resources.replace("image_pull_secrets: []", "image_pull_secrets: [login]"))
    if hosts is not None:
        cluster.kube.add(pull_secret("login", *hosts))
    printed = cluster.run("--resources", str(path), status=int(level == "failure"))
    check = "image pull secrets" if level == "warning" else "image pull secret login"
    assert (line(printed, check)[0], text in line(printed, check)[1]) == (level, True), printed
    assert "p4ss" not in printed


@pytest.mark.parametrize(("phase", "level"), [("Pending", "warning"), ("Lost", "failure"), (None, "failure")])
def test_a_claim_that_is_missing_or_not_bound_is_reported(cluster, phase, level):
    cluster.kube.remove("PersistentVolumeClaim", "twofold-checkpoints")
    if phase:
        cluster.kube.add(claim("twofold-checkpoints", phase))
    assert line(cluster.run(status=int(level == "failure")), "claim twofold-checkpoints")[0] == level


@pytest.mark.parametrize(("level", "found"), [("restricted", "ok"), ("baseline", "warning"), ("", "warning")])
def test_a_namespace_that_does_not_enforce_the_restricted_standard_warns(cluster, level, found):
    cluster.kube.add(namespace(NAMESPACE, level))
    assert line(cluster.run(), "pod security")[0] == found


def test_with_cpu_the_pods_need_no_gpu_secret_or_claim_and_meet_the_restricted_standard(cluster):
    cluster.kube.objects.clear()
    cluster.kube.add(namespace(NAMESPACE))
    cluster.kube.add(node("cpu-1"))
    printed = cluster.run("--cpu", "-p", "ingest.source=s3://parts/2026")
    assert line(printed, "pod security")[:2] == ("ok", "the namespace enforces `restricted`, which the pods meet")
    assert line(printed, "node for finetune_all")[1] == "no requests: 1 of 1 nodes could take it (cpu-1)"
    assert not [word for word in ("failure", "secret twofold", "claim", "GPU") if word in printed], printed


def test_this_machines_own_services_are_tried_without_creating_the_experiment(cluster, monkeypatch):
    tried = []
    resources = cluster.folder / "resources.yaml"
    text = (ROOT / "pipelines" / "resources.yaml").read_text()
    resources.write_text(text.replace("environment: {}", "environment: {TWOFOLD_CACHE: s3://cache/team}"))
    for name in ("AWS_ACCESS_KEY_ID", "MLFLOW_TRACKING_URI"):
        monkeypatch.setenv(name, "http://mlflow.example")
    monkeypatch.setattr(local_checks, "mlflow", lambda: [ok("MLflow", "answers")])
    monkeypatch.setattr(local_checks, "s3_buckets", lambda *words: tried.append(words) or [ok("S3", "there")])
    monkeypatch.setattr(local_checks, "test_reuse", lambda name: [ok("test images", name)])
    monkeypatch.setattr(local_checks, "mlflow_files", lambda name, create: tried.append((name, create)) or ok("a", "b"))
    printed = cluster.run("--resources", str(resources), "--bucket", "team/a")
    assert tried == [("/data/parts", "team/a", "s3://cache/team"), ("twofold", False)]
    assert line(printed, "this machine: S3")[0] == "ok"
    assert line(printed, "this machine: test images")[1] == "twofold"
    monkeypatch.setattr(local_checks, "mlflow", lambda: [failure("MLflow", "refuses", "log in")])
    cluster.run(status=1)
    assert len(tried) == 3, "no file where the login is refused"


def test_without_the_namespace_nothing_in_it_is_checked(cluster):
    cluster.kube.remove("Namespace", NAMESPACE)
    printed = cluster.run(status=1)
    assert line(printed, f"namespace {NAMESPACE}")[0] == "failure"
    assert "claim" not in printed


@pytest.mark.parametrize(
    ("policy", "level", "text"),
    [
        ("OnError", "ok", "a lost pod is tried again; a step that fails or exceeds its time limit is not"),
        (None, "warning", "retryPolicy is OnFailure: failed steps are tried again, bad data included"),
        ("OnFailure", "warning", "a lost pod is not"),
        ("Always", "warning", "tries multiply over the nested DAGs"),
        ("OnTransientError", "warning", "retryPolicy is OnTransientError: a lost pod may end the run"),
        ("[", "warning", "retryPolicy is unknown"),
    ],
)
def test_which_retries_happen_depends_on_the_settings_of_argo(cluster, policy, level, text):
    cluster.kube.add(objects.controller_settings(policy))
    printed = cluster.run()
    found = line(printed, "retries")
    assert found[0] == level
    assert text in found[1]
    assert ("OnError" in found[2]) == (level == "warning")


def test_without_kubeflows_own_namespace_the_retries_are_not_checked(cluster):
    cluster.kube.remove("ConfigMap", "workflow-controller-configmap")
    level, text, _ = line(cluster.run(), "retries")
    assert (level, text) == ("not checked from here", "no workflow-controller-configmap in the namespace kubeflow")


@pytest.mark.parametrize(("plural", "check"), FORBIDDEN.items())
def test_what_the_user_may_not_read_is_not_checked_and_no_failure(cluster, plural, check):
    cluster.kube.forbidden.add(plural)
    level, text, remedy = line(cluster.run(), check)
    assert (level, "403" in text, "--in-cluster" in remedy) == ("not checked from here", True, True)


def test_if_the_cluster_does_not_answer_nothing_of_it_is_ok(cluster):
    refused = kubeconfig(cluster.folder / "other", cluster.kube.host, token="another")  # noqa: S106
    gone = kubeconfig(cluster.folder / "gone", "http://127.0.0.1:9")
    broken, folder = cluster.folder / "broken", cluster.folder / "a-folder"
    broken.write_text("users: [{name: a, user: {token: s3cret}}]\n- [\n")
    folder.mkdir()
    (cluster.folder / "list").write_text("- s3cret\n")
    for path in (broken, folder, cluster.folder / "list"):
        printed = cluster.run("--kubeconfig", str(path))
        assert line(printed, "cluster")[0] == "not checked from here"
        assert "s3cret" not in printed
    for path, check in ((refused, f"namespace {NAMESPACE}"), (gone, "cluster"), (cluster.folder / "none", "cluster")):
        printed = cluster.run("--kubeconfig", str(path))
        assert line(printed, check)[0] == "not checked from here"
        assert "\nok                     node" not in printed


@pytest.mark.parametrize(
    ("name", "level", "text"),
    [(":1a2b3c", "warning", "moved"), (":latest", "failure", "latest"), ("", "failure", "latest")],
)
def test_an_image_by_tag_warns_and_latest_fails(cluster, name, level, text):
    words = ["--image", f"train=registry.example/twofold-train{name}", "--image", "data=registry.example/d:1"]
    found = line(cluster.run(*words, status=int(level == "failure")), "images" if level == "failure" else "image train")
    assert (found[0], text in found[1]) == (level, True), found
    assert "warning" not in cluster.errors


def test_without_namespace_option_the_namespace_of_the_runs_is_checked(cluster, monkeypatch, tmp_path):
    context = tmp_path / "context.json"
    context.write_text(f'{{"namespace": "{NAMESPACE}"}}')
    monkeypatch.setattr("kfp.Client._LOCAL_KFP_CONTEXT", str(context))
    monkeypatch.setattr("tests.support.doctor_case.GIVEN", ())
    cluster.kfp.multi_user = True
    assert line(cluster.run(), f"namespace {NAMESPACE}")[0] == "ok"


def test_the_command_is_part_of_the_command_line(cluster, capsys):
    for words, status in (([], 0), (["--resources", str(ROOT / "none.yaml")], 1)):
        with pytest.raises(SystemExit) as ended:
            main(cluster.words(*words))
        assert ended.value.code == status
    assert "none.yaml" in capsys.readouterr().err
