"""The MLflow server of deploy/mlflow on a real PostgreSQL and a real S3, with the checks of `doctor`."""

import http.client
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.support.deployed_case import ADMIN, ADMINS_PASSWORD, authorization, deployed
from tests.support.tools.servers import KEY, SECRET, mlflow, s3
from twofold.orchestration import preflight_services

pytestmark = pytest.mark.slow
CLUSTER = Path(__file__).resolve().parents[2] / "docs" / "guides" / "cluster.md"


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    """The address of an S3 like Kubeflow's, all of whose 8 volumes are taken, and a client.

    It has the bucket of the manifest, and another one, `late`, that has no volume.
    """
    import boto3

    with s3(tmp_path_factory.mktemp("servers") / "s3", volumes=8) as address:
        client = boto3.Session(KEY, SECRET, region_name="us-east-1").client("s3", endpoint_url=address)
        for name in ("mlpipeline", "second"):
            client.create_bucket(Bucket=name)
            client.put_object(Bucket=name, Key="taken", Body=b"of Kubeflow")
        client.create_bucket(Bucket="late")
        yield address, client


@pytest.fixture(scope="module")
def server(bucket, tmp_path_factory):
    keys = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_ENDPOINT_URL": bucket[0]}
    with deployed(tmp_path_factory.mktemp("mlflow") / "deployed", keys) as address:
        yield address


@pytest.fixture
def pod(server, bucket, monkeypatch):
    """The environment of a run's pod, from the secrets."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    monkeypatch.setenv("AWS_ENDPOINT_URL", bucket[0])
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", ADMIN)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", ADMINS_PASSWORD)


def keys_of(bucket, name="mlpipeline"):
    return [each["Key"] for each in bucket[1].list_objects_v2(Bucket=name).get("Contents", [])]


def test_mlflow_and_s3_pass_the_checks_and_nothing_is_left_behind(pod, bucket):
    assert [each.level for each in preflight_services.mlflow()] == ["ok", "ok"]
    before = keys_of(bucket)
    assert preflight_services.s3("s3://mlpipeline/team", write=True).level == "ok"
    found = preflight_services.mlflow_files("of-the-admin", create=False)
    assert (found.level, "does not exist yet" in found.seen) == ("not checked from here", True), found
    for create in (True, False):
        found = preflight_services.mlflow_files("of-the-admin", create=create)
        assert (found.level, "written, read and deleted" in found.seen) == ("ok", True), found
    assert keys_of(bucket) == before


def test_a_bucket_that_exists_and_refuses_every_object_fails(pod, bucket):
    assert preflight_services.s3("s3://late").level == "ok", "the bucket is there"
    found = preflight_services.s3("s3://late/team", write=True)
    assert (found.level, "PutObject: HTTP 500" in found.seen) == ("failure", True), found
    assert "-volume.max" in found.remedy
    assert "docs/guides/cluster.md, step 6" in found.remedy


def test_mlflow_on_such_a_bucket_fails_although_it_accepts_the_login(pod, bucket, tmp_path, monkeypatch):
    with mlflow(tmp_path / "server", "--artifacts-destination", "s3://late/mlflow") as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        assert [each.level for each in preflight_services.mlflow()] == ["ok", "ok"]
        found = preflight_services.mlflow_files("of-the-runs", create=True)
    assert (found.level, "HTTP 500 to PUT" in found.seen) == ("failure", True), found
    assert "-volume.max" in found.remedy


def test_a_user_who_may_not_delete_in_the_experiment_writes_nothing(pod, bucket, server, monkeypatch):
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="starlette.middleware.wsgi is deprecated")
        from mlflow.server import get_app_client

        get_app_client("basic-auth", server).create_user("someone", "w0rd/of:the@someone%")
    preflight_services.mlflow_files("of-the-admin", create=True)
    before = keys_of(bucket)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "someone")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "w0rd/of:the@someone%")
    found = preflight_services.mlflow_files("of-the-admin", create=False)
    assert (found.level, "HTTP 403 to DELETE" in found.seen, "MANAGE" in found.remedy) == ("failure", True, True), found
    assert keys_of(bucket) == before


@pytest.mark.parametrize(("name", "value"), [("USERNAME", ""), ("PASSWORD", "another")])
def test_a_wrong_login_has_a_remedy_without_the_password(pod, monkeypatch, name, value):
    monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", value)
    *_, login = preflight_services.mlflow()
    assert (login.level, "MLFLOW_TRACKING_USERNAME and _PASSWORD" in login.remedy) == ("failure", True), login
    assert not {"another", ADMINS_PASSWORD} & set(f"{login}".replace("'", " ").split())


def test_the_documented_command_creates_the_user_of_the_runs(pod, server, monkeypatch):
    (code,) = re.findall(r'kubeflow password\) python -c "\n(.*?)"\n', CLUSTER.read_text(), re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", code.replace("http://localhost:5000", server)],
        env=os.environ | {"PASSWORD": "w0rd/of:the@runs%"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "twofold")
    assert preflight_services.mlflow()[-1].level == "failure"
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "w0rd/of:the@runs%")
    assert [each.level for each in preflight_services.mlflow()] == ["ok", "ok"]


def test_a_host_name_that_is_not_allowed_fails_although_the_server_is_healthy(pod, server, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.replace("localhost", "127.0.0.1"))
    version, login = preflight_services.mlflow()
    assert version.level == "ok"
    assert (login.level, "--allowed-hosts" in login.remedy) == ("failure", True), login


def test_s3_refuses_another_bucket_and_another_key(pod, monkeypatch):
    assert "no such bucket" in preflight_services.s3("s3://another").seen
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    found = preflight_services.s3("s3://mlpipeline")
    assert (found.level, "refused" in found.seen) == ("failure", True), found


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("mlflow.twofold.svc:5000", 200),
        ("mlflow.twofold.svc.cluster.local:5000", 200),
        ("mlflow:5000", 200),
        ("localhost:5000", 200),
        ("evil.example:5000", 403),
    ],
)
def test_the_server_answers_to_the_host_names_of_the_manifest(server, host, status):
    login = authorization(ADMIN, ADMINS_PASSWORD)
    connection = http.client.HTTPConnection(urlsplit(server).netloc, timeout=20)
    connection.request("GET", preflight_services.SEARCH, headers={"Host": host, "Authorization": login})
    response = connection.getresponse()
    response.read()
    connection.close()
    assert response.status == status


def request(server, method, path, **headers):
    connection = http.client.HTTPConnection(urlsplit(server).netloc, timeout=60)
    body = None if method == "GET" else "{}"
    connection.request(method, path, body=body, headers={"Content-Type": "application/json", **headers})
    response = connection.getresponse()
    text = response.read().decode(errors="replace")
    connection.close()
    return response.status, text


def endpoints():
    """Every method and path of MLflow's server, with `x` for each path parameter."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="starlette.middleware.wsgi is deprecated")
        from mlflow.server import app as pages
        from mlflow.server.fastapi_app import app
    found = {(method, rule.rule) for rule in pages.url_map.iter_rules() for method in rule.methods}
    found |= {(method.upper(), path) for path, methods in app.openapi()["paths"].items() for method in methods}
    plain = {(method, re.sub(r"<[^>]*>|{[^}]*}", "x", path)) for method, path in found}
    return sorted(each for each in plain if each[0] not in ("HEAD", "OPTIONS"))


def test_without_a_login_only_the_documented_endpoints_answer(server):
    known = endpoints()
    assert len(known) > 400
    answering = {path for method, path in known if request(server, method, path)[0] != 401}
    info = {f"/{api}/3.0/mlflow/server-info" for api in ("api", "ajax-api")}
    assert answering == {"/health", "/static-files/x", *info}


def test_the_assistant_answers_only_locally_and_language_models_are_off(server):
    login = {"Authorization": authorization(ADMIN, ADMINS_PASSWORD)}
    path = "/ajax-api/3.0/mlflow/assistant/config"
    assert request(server, "PUT", path, **login)[0] == 200
    status, text = request(server, "PUT", path, **login, **{"X-Forwarded-For": "203.0.113.9"})
    assert (status, "only accessible from the same host" in text) == (403, True)
    status, text = request(server, "GET", "/gateway/mlflow/v1/models", **login)
    assert (status, "feature is disabled" in text) == (501, True)


def test_a_clients_files_reach_the_bucket_through_the_server(server, bucket, tmp_path):
    # In a process without S3 keys, like a pod without them.
    code = (
        "import mlflow, pathlib; mlflow.set_experiment('deployed')\n"
        "with mlflow.start_run() as run:\n"
        "    pathlib.Path('page.md').write_text('hello'); mlflow.log_artifact('page.md'); print(run.info.artifact_uri)"
    )
    env = {key: value for key, value in os.environ.items() if not key.startswith(("AWS_", "MLFLOW_"))}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=env
        | {
            "MLFLOW_TRACKING_URI": server,
            "MLFLOW_TRACKING_USERNAME": ADMIN,
            "MLFLOW_TRACKING_PASSWORD": ADMINS_PASSWORD,
        },
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "mlflow-artifacts:/" in done.stdout
    keys = keys_of(bucket)
    assert any(key.startswith("mlflow/") and key.endswith("/page.md") for key in keys), keys
