"""The checks of MLflow and S3, against a server that answers with each kind of problem."""

import base64
import http.server
import json
import os
import threading
from importlib.metadata import version
from typing import ClassVar

import pytest

from twofold.orchestration import preflight_services
from twofold.orchestration.preflight_findings import failed
from twofold.tracking import store as tracking
from twofold.tracking.live_run import STEP

OURS = version("mlflow")
SEARCH = "/api/2.0/mlflow/experiments/search"
NAMES = ("URI", "USERNAME", "PASSWORD", "TOKEN", "INSECURE_TLS", "SERVER_CERT_PATH")


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # whose clients wait for "100 Continue" before they send a file
    answers: ClassVar[dict[str, tuple[int, str]]] = {}
    login: ClassVar[str] = ""
    requests: ClassVar[list[tuple[str, str]]] = []
    files: ClassVar[dict[str, str]] = {}
    refused: ClassVar[dict[str, tuple[int, str]]] = {}  # answers to a method for files

    def do_GET(self):
        path, authorization = self.path.split("?")[0], self.headers.get("Authorization", "")
        self.requests.append((path, authorization))
        status, body = self.answers.get(path, (404, "no"))
        if "/twofold-doctor-" in path:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            if self.command == "PUT" and "PUT" not in self.refused:
                self.files[path] = content
            status, body = self.refused.get(self.command, (200, self.files[path] if self.command == "GET" else ""))
            if self.command == "DELETE" and status == 200:
                self.files.pop(path, None)
        if path == SEARCH and self.login and authorization != self.login:
            status, body = 401, "You are not authenticated."
        self.send_response(status)
        if 300 <= status < 400:
            self.send_header("Location", body)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body.encode())

    do_HEAD = do_PUT = do_DELETE = do_GET  # noqa: N815

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch):
    for name in (*(f"MLFLOW_TRACKING_{each}" for each in NAMES), "AWS_ENDPOINT_URL_S3", "MLFLOW_S3_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    Handler.answers = {"/health": (200, "OK"), "/version": (200, OURS), SEARCH: (200, "{}")}
    Handler.login, Handler.requests, Handler.files, Handler.refused = "", [], {}, {}
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        threading.Thread(target=found.serve_forever, args=(0.02,), daemon=True).start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{found.server_port}/")
        yield Handler
        found.shutdown()


def only(findings, level):
    return next(each for each in findings if each.level == level)


def test_a_server_of_our_version_that_answers_is_ok(server):
    assert [each.level for each in preflight_services.mlflow()] == ["ok", "ok"]


@pytest.mark.parametrize(
    ("theirs", "level"),
    [
        (OURS.rsplit(".", 1)[0] + ".99", "ok"),
        (f"{OURS.split('.')[0]}.999.0", "warning"),
        ("1.30.0", "failure"),
    ],
)
def test_the_servers_version_is_compared_with_the_clients(server, theirs, level):
    server.answers["/version"] = (200, theirs)
    found = preflight_services.mlflow()[0]
    assert (found.level, theirs in found.seen, OURS in found.seen) == (level, True, True)


@pytest.mark.parametrize(
    ("answers", "problem", "remedy"),
    [
        ({"/health": (404, "nginx")}, "404", "not an MLflow server"),
        ({SEARCH: (403, "Invalid Host header - possible DNS rebinding attack detected")}, "host name", "allowed-hosts"),
        ({SEARCH: (403, "Permission denied")}, "403", "USERNAME"),
        ({SEARCH: (302, "https://login.example/")}, "redirect", "server itself"),
        ({SEARCH: (500, "no database")}, "500", "database"),
    ],
)
def test_each_problem_has_a_remedy(server, answers, problem, remedy):
    server.answers |= answers
    found = only(preflight_services.mlflow(), "failure")
    assert problem in found.seen, found
    assert remedy in found.remedy, found


def test_credentials_are_sent_as_mlflow_sends_them_and_never_shown(server, monkeypatch):
    server.login = "Basic " + base64.b64encode(b"someone:p4ss").decode()
    assert "credentials" in only(preflight_services.mlflow(), "failure").seen
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "someone")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "wrong-p4ss")
    assert "p4ss" not in str(preflight_services.mlflow())
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "p4ss")
    assert not failed(preflight_services.mlflow())
    monkeypatch.delenv("MLFLOW_TRACKING_USERNAME")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t0ken")
    server.login = "Bearer t0ken"
    assert not failed(preflight_services.mlflow())


def test_credentials_do_not_follow_a_redirect(server, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t0ken")
    server.answers[SEARCH] = (302, "/elsewhere")
    preflight_services.mlflow()
    assert "/elsewhere" not in [path for path, _ in server.requests]


@pytest.mark.parametrize(
    "address", ["", "sqlite:///mlflow.db", "postgresql://someone:p4ss@db/mlflow", "http://127.0.0.1:9"]
)
def test_an_address_that_pods_cannot_use_fails_and_shows_no_password(server, monkeypatch, address):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    (found,) = preflight_services.mlflow()
    assert found.level == "failure"
    assert "p4ss" not in str(found)


@pytest.fixture
def keys(server, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDOFNOBODY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cret-of-nobody")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", os.environ["MLFLOW_TRACKING_URI"].rstrip("/"))
    return server


@pytest.mark.parametrize(
    ("status", "level", "words"),
    [
        (200, "ok", "accepted"),
        (403, "failure", "refused"),
        (404, "failure", "no such bucket"),
        (400, "failure", "token"),
    ],
)
def test_a_bucket_is_checked_by_a_head_request_only(keys, status, level, words):
    keys.answers["/parts"] = (status, "")
    found = preflight_services.s3("s3://parts/2026")
    assert (found.level, words in found.seen) == (level, True), found
    assert "s3cret" not in str(found)
    assert "AKID" not in str(found)
    assert {path for path, _ in keys.requests} == {"/parts"}


def test_a_missing_bucket_endpoint_or_credentials(keys, monkeypatch, tmp_path):
    assert [each.level for each in preflight_services.s3_buckets("/data/parts", "", "")] == ["not checked from here"]
    assert preflight_services.s3("s3://not a bucket's name").level == "failure"
    assert "s3cret" not in str(preflight_services.s3("s3://someone:s3cret@parts"))
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    assert "127.0.0.1:9" in preflight_services.s3("s3://parts").seen
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    found = preflight_services.s3("s3://parts")
    assert (found.level, "no credentials" in found.seen) == ("failure", True), found


def test_the_source_is_only_read_and_the_other_buckets_take_an_object(keys):
    keys.answers |= dict.fromkeys(("/parts", "/team", "/cache"), (200, ""))
    found = preflight_services.s3_buckets("s3://parts/2026", "team/a", "s3://cache/b")
    assert [each.check for each in found] == ["S3 s3://parts/2026", "S3 s3://team/a", "S3 s3://cache/b"]
    assert {each.level for each in found} == {"ok"}
    written = {path.rpartition("/")[0] for path, _ in keys.requests if "twofold-doctor" in path}
    assert (written, keys.files) == ({"/team/a", "/cache/b"}, {})


S3_FULL = "<Error><Code>InternalError</Code><Message>an internal error</Message></Error>"
S3_DENIED = "<Error><Code>AccessDenied</Code><Message>Access Denied.</Message></Error>"
REFUSALS = [
    ({"PUT": (500, S3_FULL)}, "HTTP 500 an internal error", "-volume.max"),
    ({"PUT": (403, S3_DENIED)}, "HTTP 403 Access Denied.", "s3:PutObject"),
    ({"GET": (403, S3_DENIED)}, "HTTP 403", "s3:GetObject"),
    ({"GET": (200, "another")}, "not what was written", ""),
]


@pytest.mark.parametrize(("refused", "seen", "remedy"), REFUSALS)
def test_a_bucket_that_refuses_an_object_fails_with_its_answer_and_keeps_nothing(keys, refused, seen, remedy):
    keys.answers["/parts"] = (200, "")
    keys.refused |= refused
    found = preflight_services.s3("s3://parts", write=True)
    assert (found.level, seen in found.seen, remedy in found.remedy) == ("failure", True, True), found
    assert keys.files == {}


def test_nothing_is_written_where_the_credentials_may_not_delete(keys):
    keys.answers["/parts"] = (200, "")
    keys.refused["DELETE"] = (403, S3_DENIED)
    assert "s3:DeleteObject" in preflight_services.s3("s3://parts", write=True).remedy
    assert keys.files == {}


def place_files(server, location):
    """Let the experiment's files be at this address."""
    found = {"experiment_id": "1", "name": "twofold", "artifact_location": location, "lifecycle_stage": "active"}
    for call in ("get", "get-by-name"):
        server.answers[f"/api/2.0/mlflow/experiments/{call}"] = (200, json.dumps({"experiment": found}))


@pytest.mark.parametrize("location", ["mlflow-artifacts:/1", "mlflow-artifacts://{host}/1", "{address}{FILES}/1"])
def test_mlflow_takes_a_file_at_the_experiments_address_and_keeps_nothing(server, location):
    address = os.environ["MLFLOW_TRACKING_URI"].rstrip("/")
    host = address.removeprefix("http://")
    place_files(server, location.format(host=host, address=address, FILES=preflight_services.FILES))
    found = preflight_services.mlflow_files("twofold", create=False)
    assert found.level == "ok", found
    paths = {path for path, _ in server.requests if "twofold-doctor" in path}
    assert {path.rpartition("/")[0] for path in paths} == {"/api/2.0/mlflow-artifacts/artifacts/1"}
    assert server.files == {}


@pytest.mark.parametrize(
    ("refused", "seen", "remedy"),
    [
        ({"PUT": (500, "<title>500</title><p>no room</p>")}, "HTTP 500 to PUT: 500 no room", "-volume.max"),
        ({"GET": (500, "")}, "HTTP 500 to GET", "log"),
        ({"DELETE": (403, "Permission denied")}, "HTTP 403 to DELETE: Permission denied", "MANAGE"),
    ],
)
def test_a_file_that_mlflow_refuses_is_a_failure_with_its_answer(server, refused, seen, remedy):
    place_files(server, "mlflow-artifacts:/1")
    server.refused |= refused
    found = preflight_services.mlflow_files("twofold", create=False)
    assert (found.level, seen in found.seen, remedy in found.remedy) == ("failure", True, True), found
    assert server.files == {}


@pytest.mark.parametrize(
    ("location", "level", "seen"),
    [
        ("s3://parts/mlflow", "ok", "an object was written"),
        ("/mlflow/1", "failure", "a folder"),
        ("file:///mlflow/1", "failure", "a folder"),
        ("gs://parts/1", "not checked from here", "only S3"),
        ("https://other.example/1", "failure", "is not the MLflow server"),
    ],
)
def test_files_that_do_not_go_through_mlflows_server(keys, location, level, seen):
    keys.answers["/parts"] = (200, "")
    place_files(keys, location)
    found = preflight_services.mlflow_files("twofold", create=False)
    assert (found.check, found.level, seen in found.seen) == ("MLflow's file storage", level, True), found
    assert keys.files == {}


def test_the_last_judgement_of_each_model_says_how_much_of_the_test_images_is_used_up(mlflow_store):
    assert preflight_services.test_reuse("ours") == []
    client = tracking.connect().client
    place = client.create_experiment("ours")
    for time, (name, candidate, allowed) in enumerate((("a", 9, 50), ("a", 40, 50), ("b", 39, 50), ("c", 99, 0))):
        looks = json.dumps({"candidate": candidate, "allowed": allowed})
        run = client.create_run(place, time + 1, {STEP: "register", tracking.LOOKS: looks}).info.run_id
        client.log_param(run, "register.model_name", name)
    client.create_run(place, 9, {STEP: "register"})  # of an earlier version
    found = {each.check: (each.level, each.seen) for each in preflight_services.test_reuse("ours")}
    assert found == {
        "test images of 'b'": ("ok", "candidate 39 of 50 was judged last"),
        "test images of 'a'": ("warning", "candidate 40 of 50 was judged last"),
    }
