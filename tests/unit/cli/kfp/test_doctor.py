"""`doctor` from a laptop, against a Kubeflow server and a Kubernetes API that lack one thing after the other."""

import pytest

from tests.support.doctor_case import ROOT, case, line
from tests.support.kfp_server.server import Fault
from tests.support.kube_server.objects import NAMESPACE, claim, namespace, secret
from tests.support.kube_server.server import kubeconfig
from twofold.kubeflow.definition.resources import load

SECRETS = load().secrets


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch, tmp_path):
    for name in ("KFP_TOKEN", "MLFLOW_TRACKING_URI", "AWS_ACCESS_KEY_ID", "AWS_PROFILE", "KUBECONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def all_there(tmp_path):
    with case(tmp_path) as found:
        yield found


def test_where_all_is_there_nothing_fails_and_what_a_laptop_cannot_see_is_not_called_ok(all_there, capsys):
    assert all_there.run() == 0
    printed = capsys.readouterr().out
    levels = {level for level in ("failure", "warning") if f"\n{level}" in printed}
    assert not levels, printed
    assert line(printed, "Kubeflow Pipelines")[0] == "ok"
    for check in ("S3 from the pods", "MLflow from the pods", "ingest.source", "user and folders", "GPU in the pod"):
        assert line(printed, check)[0] == "not checked from here", check
        assert "--in-cluster" in line(printed, check)[2]
    assert printed.splitlines()[-1] == "17 ok, 7 not checked from here"


def test_nothing_secret_is_printed_nor_asked_for_but_by_name(all_there, capsys, monkeypatch):
    monkeypatch.setenv("KFP_TOKEN", "t0ken-of-the-server")
    all_there.kfp.token = "t0ken-of-the-server"
    for wanted in SECRETS.values():
        all_there.kube.remove("Secret", wanted.name)
        all_there.kube.add(secret(wanted.name, other="s3cret-other"))
    assert all_there.run() == 1
    printed = "".join(capsys.readouterr())
    assert "other" in printed
    for word in ("s3cret", "t0ken", "token-of-the-cluster"):
        assert word not in printed


@pytest.mark.parametrize(
    ("version", "level", "said"),
    [("2.17.0", "ok", "2.17.0"), ("2.16.1", "warning", "older than the SDK"), ("2.4.0", "failure", "too old")],
)
def test_the_servers_version_is_held_against_the_sdk(all_there, capsys, version, level, said):
    all_there.kfp.version = version
    assert all_there.run() == int(level == "failure")
    found = line(capsys.readouterr().out, "Kubeflow Pipelines")
    assert (found[0], said in found[1]) == (level, True), found
    assert (level == "ok") == (found[2] == "")
    assert level == "ok" or "update" in found[2], "the remedy is something to do"


def test_a_server_that_takes_no_credentials_or_is_not_there_fails_and_the_rest_is_checked_all_the_same(
    all_there, capsys
):
    all_there.kfp.token = "another"
    assert all_there.run() == 1
    printed = capsys.readouterr().out
    level, seen, remedy = line(printed, "Kubeflow Pipelines")
    assert (level, "401" in seen, "--token-file" in remedy) == ("failure", True, True), (seen, remedy)
    assert line(printed, "node for finetune_all")[0] == "ok"
    all_there.kfp.token = ""
    all_there.kfp.faults = [Fault("GET /healthz", lose="before", times=9)]
    assert all_there.run() == 1
    assert "no answer" in line(capsys.readouterr().out, "Kubeflow Pipelines")[1]


def test_a_server_that_tells_its_version_to_all_but_lets_only_some_in_fails(all_there, capsys):
    all_there.kfp.faults = [Fault("GET /experiments", status=401)]
    assert all_there.run() == 1
    assert "401" in line(capsys.readouterr().out, "Kubeflow Pipelines")[1]


@pytest.mark.parametrize(
    ("address", "level", "said"),
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
def test_images_that_no_pod_can_see_fail(all_there, capsys, address, level, said):
    assert all_there.run("-p", f"ingest.source={address}") == int(level == "failure")
    found = line(capsys.readouterr().out, "ingest.source")
    assert (found[0], said in found[1]) == (level, True), found


@pytest.mark.parametrize("wanted", SECRETS.values(), ids=lambda wanted: wanted.name)
def test_a_secret_that_is_not_there_fails_unless_it_is_optional(all_there, capsys, wanted):
    all_there.kube.remove("Secret", wanted.name)
    assert all_there.run() == int(not wanted.optional)
    level, seen, remedy = line(capsys.readouterr().out, f"secret {wanted.name}")
    assert (level, seen.startswith("not there")) == ("warning" if wanted.optional else "failure", True)
    assert all(key in remedy for key in wanted.keys)


def test_a_secret_without_a_key_fails_and_one_with_an_empty_key_warns(all_there, capsys):
    s3, mlflow = SECRETS["s3"], SECRETS["mlflow"]
    for wanted, values in ((s3, {"access_key_id": "s3cret-a"}), (mlflow, dict.fromkeys(mlflow.keys, ""))):
        all_there.kube.remove("Secret", wanted.name)
        all_there.kube.add(secret(wanted.name, **values))
    assert all_there.run() == 1
    printed = capsys.readouterr().out
    level, seen, _ = line(printed, f"secret {s3.name}")
    assert (level, seen) == ("failure", "without secret_access_key, endpoint_url; it has access_key_id")
    assert line(printed, f"secret {mlflow.name}")[:2] == ("warning", "there; empty: tracking_uri, username, password")


@pytest.mark.parametrize(("phase", "level"), [("Pending", "warning"), ("Lost", "failure"), (None, "failure")])
def test_a_claim_that_is_not_there_or_not_bound_is_told(all_there, capsys, phase, level):
    all_there.kube.remove("PersistentVolumeClaim", "twofold-checkpoints")
    if phase:
        all_there.kube.add(claim("twofold-checkpoints", phase))
    assert all_there.run() == int(level == "failure")
    assert line(capsys.readouterr().out, "claim twofold-checkpoints")[0] == level


@pytest.mark.parametrize(("level", "found"), [("restricted", "ok"), ("baseline", "warning"), ("", "warning")])
def test_a_namespace_that_does_not_hold_pods_to_the_restricted_standard_warns(all_there, capsys, level, found):
    all_there.kube.add(namespace(NAMESPACE, level))
    assert all_there.run() == 0
    assert line(capsys.readouterr().out, "pod security")[0] == found


def test_a_restricted_namespace_refuses_the_pods_of_a_pipeline_that_asks_for_nothing(all_there, capsys):
    assert all_there.run("--cpu") == 1
    printed = capsys.readouterr().out
    assert "--cpu" in line(printed, "pod security")[2]
    assert "node for" not in printed
    assert "secret " not in printed


def test_without_the_namespace_nothing_in_it_is_looked_for(all_there, capsys):
    all_there.kube.remove("Namespace", NAMESPACE)
    assert all_there.run() == 1
    printed = capsys.readouterr().out
    assert line(printed, f"namespace {NAMESPACE}")[0] == "failure"
    assert "claim" not in printed


@pytest.mark.parametrize(
    ("plural", "check"),
    [
        ("nodes", "nodes"),
        ("secrets", "secret twofold-s3"),
        ("persistentvolumeclaims", "claim twofold-data"),
        ("namespaces", f"namespace {NAMESPACE}"),
    ],
)
def test_what_the_user_may_not_read_is_not_checked_and_no_failure(all_there, capsys, plural, check):
    all_there.kube.forbidden.add(plural)
    assert all_there.run() == 0
    level, seen, remedy = line(capsys.readouterr().out, check)
    assert (level, "403" in seen, "--in-cluster" in remedy) == ("not checked from here", True, True)


def test_without_a_cluster_that_answers_nothing_of_it_is_called_ok(all_there, capsys):
    refused = kubeconfig(all_there.folder / "other", all_there.kube.host, token="another")  # noqa: S106
    gone = kubeconfig(all_there.folder / "gone", "http://127.0.0.1:9")
    broken, folder = all_there.folder / "broken", all_there.folder / "a-folder"
    broken.write_text("users: [{name: a, user: {token: s3cret}}]\n- [\n")
    folder.mkdir()
    (all_there.folder / "list").write_text("- s3cret\n")
    for path in (broken, folder, all_there.folder / "list"):
        assert all_there.run("--kubeconfig", str(path)) == 0
        printed = capsys.readouterr().out
        assert line(printed, "cluster")[0] == "not checked from here"
        assert "s3cret" not in printed
    for path, check in ((refused, f"namespace {NAMESPACE}"), (gone, "cluster"), (all_there.folder / "none", "cluster")):
        assert all_there.run("--kubeconfig", str(path)) == 0
        printed = capsys.readouterr().out
        assert line(printed, check)[0] == "not checked from here"
        assert "\nok                     node" not in printed


@pytest.mark.parametrize(
    ("image", "level", "said"),
    [
        ("registry.example/twofold-train:1a2b3c", "warning", "moved"),
        ("registry.example/twofold-train:latest", "failure", "latest"),
        ("registry.example/twofold-train", "failure", "latest"),
    ],
)
def test_an_image_by_tag_warns_and_latest_fails(all_there, capsys, image, level, said):
    assert all_there.run("--image", f"train={image}", "--image", "data=registry.example/d:1") == int(level == "failure")
    printed, errors = capsys.readouterr()
    found = line(printed, "images" if level == "failure" else "image train")
    assert (found[0], said in found[1]) == (level, True), found
    assert "warning" not in errors


def test_without_a_namespace_given_that_of_the_runs_is_looked_into(all_there, capsys, monkeypatch, tmp_path):
    context = tmp_path / "context.json"
    context.write_text(f'{{"namespace": "{NAMESPACE}"}}')
    monkeypatch.setattr("kfp.Client._LOCAL_KFP_CONTEXT", str(context))
    monkeypatch.setattr("tests.support.doctor_case.GIVEN", ())
    all_there.kfp.multi_user = True
    assert all_there.run() == 0
    assert line(capsys.readouterr().out, f"namespace {NAMESPACE}")[0] == "ok"


def test_the_command_is_part_of_the_command_line(all_there, capsys):
    from twofold.cli.kfp.command import main

    with pytest.raises(SystemExit) as ended:
        main(all_there.words())
    assert ended.value.code == 0
    with pytest.raises(SystemExit) as ended:
        main(all_there.words("--resources", str(ROOT / "none.yaml")))
    assert ended.value.code == 1
    assert "none.yaml" in capsys.readouterr().err
