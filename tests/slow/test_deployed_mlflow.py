"""The MLflow server as deploy/mlflow starts it, on a real PostgreSQL and a real S3, seen by the checks of `doctor`."""

import http.client
import os
import subprocess
import sys
from urllib.parse import urlsplit

import pytest

from tests.deployed_case import ADMIN, ADMINS_PASSWORD, authorization, deployed
from tests.tools.servers import KEY, SECRET, s3
from twofold import services

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    """S3's address, with the bucket of the manifest in it."""
    import boto3

    with s3(tmp_path_factory.mktemp("servers") / "s3") as address:
        client = boto3.Session(KEY, SECRET, region_name="us-east-1").client("s3", endpoint_url=address)
        client.create_bucket(Bucket="mlflow")
        yield address, client


@pytest.fixture(scope="module")
def server(bucket, tmp_path_factory):
    keys = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_ENDPOINT_URL": bucket[0]}
    with deployed(tmp_path_factory.mktemp("mlflow") / "deployed", keys) as address:
        yield address


@pytest.fixture
def pod(server, bucket, monkeypatch):
    """The environment that the secrets give a pod of a run."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    monkeypatch.setenv("AWS_ENDPOINT_URL", bucket[0])
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", ADMIN)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", ADMINS_PASSWORD)


def test_both_are_well(pod):
    assert [each.level for each in services.mlflow()] == ["ok", "ok"]
    assert services.s3("mlflow").level == "ok"


@pytest.mark.parametrize(("name", "value"), [("USERNAME", ""), ("PASSWORD", "another")])
def test_without_a_login_or_with_another_password_the_remedy_is_named_and_no_password(pod, monkeypatch, name, value):
    monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", value)
    *_, login = services.mlflow()
    assert (login.level, "MLFLOW_TRACKING_USERNAME and _PASSWORD" in login.remedy) == ("failure", True), login
    assert not {"another", ADMINS_PASSWORD} & set(f"{login}".replace("'", " ").split())


def test_a_name_that_the_server_was_not_told_is_a_failure_though_it_is_healthy(pod, server, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.replace("localhost", "127.0.0.1"))
    version, login = services.mlflow()
    assert version.level == "ok"
    assert (login.level, "--allowed-hosts" in login.remedy) == ("failure", True), login


def test_s3_refuses_another_bucket_and_another_key(pod, monkeypatch):
    assert "no such bucket" in services.s3("another").seen
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    found = services.s3("mlflow")
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
def test_it_answers_to_the_names_that_the_manifest_allows(server, host, status):
    login = authorization(ADMIN, ADMINS_PASSWORD)
    connection = http.client.HTTPConnection(urlsplit(server).netloc, timeout=20)
    connection.request("GET", services.SEARCH, headers={"Host": host, "Authorization": login})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    assert answer.status == status


def test_a_clients_files_go_through_the_server_into_the_bucket(server, bucket, tmp_path):
    # In a process without S3's keys, as a pod may be.
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
    keys = [each["Key"] for each in bucket[1].list_objects_v2(Bucket="mlflow")["Contents"]]
    assert any(key.startswith("artifacts/") and key.endswith("/page.md") for key in keys), keys
