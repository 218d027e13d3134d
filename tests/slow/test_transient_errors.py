"""Transient errors of real servers, behind a proxy that fails: tried again by the task; permanent ones are not."""

import boto3
import pytest
from mlflow import MlflowClient

from tests.support import registration_case as case
from tests.support.makers import UNJUDGED, make_folder
from tests.support.outage_case import (
    MLFLOW_KINDS,
    S3_KINDS,
    TRIES,
    Counted,
    Outage,
    assert_given_up,
    assert_permanent,
    assert_told_once,
    failing,
    told,
)
from tests.support.s3_case import fill
from tests.support.tools.servers import KEY, LISTER, SECRET, mlflow, s3
from twofold.core.artifacts import read_json
from twofold.orchestration import task
from twofold.registry import lock
from twofold.sources import base
from twofold.steps.ingest import ingest
from twofold.steps.register import register
from twofold.storage import s3_client

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def hurry(monkeypatch):
    monkeypatch.setattr(task, "PAUSE", 0.0)
    monkeypatch.setattr(task, "TRIES", TRIES)
    monkeypatch.setattr(base, "PAUSE", 0.0)
    monkeypatch.setattr(s3_client, "ATTEMPTS", 1)
    for name, seconds in (("LEASE", 0.5), ("HEARTBEAT", 0.1), ("MIN_PAUSE", 0.01), ("MAX_PAUSE", 0.05)):
        monkeypatch.setattr(lock, name, seconds)
    case.hurry(monkeypatch)
    for name, value in {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "us-east-1",
        "TWOFOLD_WORKERS": "1",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("AWS_PROFILE", "MLFLOW_RUN_ID", "KUBERNETES_SERVICE_HOST"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def bucket(tmp_path_factory):
    """An S3 server whose bucket `images` has twenty images."""
    folder = tmp_path_factory.mktemp("s3")
    with s3(folder / "server") as address:
        client = boto3.Session(KEY, SECRET, region_name="us-east-1").client("s3", endpoint_url=address)
        fill(client, "images", make_folder(folder / "images", per_class=10, size=16))
        yield address


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mlflow")
    words = ("--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "files"))
    with mlflow(folder / "server", *words) as address:
        yield address


@pytest.fixture(scope="module")
def candidates(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        case.know_corner(patch)
        root = tmp_path_factory.mktemp("candidates")
        data = case.make_data(root)
        return [case.make_candidate(root / str(slope), data, slope) for slope in (8.0, 9.0)]


def take_images(step, folder, **changes):
    """Run ingest as a task; return the digest of its output."""
    section = {"source": "s3://images", "positive": "bad", "require_checksum": False, "max_bytes": 10_000_000}
    section |= {"max_pixels": 1_000_000, "min_side": 4, "max_refused_fraction": 0.0, "min_per_class": 2}
    section |= {"audit": UNJUDGED} | changes
    paths = {name: str(folder / name) for name in ("raw", "metrics", "audit")}
    return task.run_step(step, section, {}, {}, **paths)


def judge(step, folder, candidate, **changes):
    """Run register as a task; return the verdict."""
    section = case.PARAMS.model_dump(mode="json") | changes
    paths = {name: str(path) for name, path in candidate._asdict().items()}
    written = {name: str(folder / name) for name in ("registration", "verdict", "index")}
    task.run_step(step, section, {}, {}, **paths, **written)
    return read_json(folder / "verdict")


S3_OUTAGES = [
    ("500", "list-type", r"s3://images: the server failed or is overloaded \(InternalError, HTTP 500\)"),
    ("503", "list-type", r"s3://images: .*\(SlowDown, HTTP 503\)"),
    ("429", "/images/(bad|good)/", r"s3://images/(bad|good)/.*\(TooManyRequests, HTTP 429\)"),
    ("RequestTimeout", "/images/(bad|good)/", r"\(RequestTimeout, HTTP 400\)"),
    ("refused", "", r"s3://images: Could not connect"),
    ("stall", "list-type", r"s3://images: Read timeout"),
    ("reset", "/images/(bad|good)/", r"s3://images/(bad|good)/.*\(tried 4 times\)"),
]


@pytest.mark.parametrize(("kind", "begin", "message"), S3_OUTAGES)
def test_an_outage_of_s3_that_passes_changes_no_result(bucket, tmp_path, monkeypatch, capfd, kind, begin, message):
    monkeypatch.setenv("AWS_ENDPOINT_URL", bucket)
    expected = take_images(ingest, tmp_path / "expected")
    outage = Outage(S3_KINDS.get(kind, kind), begin, only=True)
    step = Counted(ingest)
    with failing(bucket, outage, monkeypatch, "AWS_ENDPOINT_URL"):
        step.end = outage.end
        assert take_images(step, tmp_path) == expected
    assert step.calls == 2
    assert_told_once(told(capfd), message)


@pytest.mark.parametrize(("kind", "begin", "message"), S3_OUTAGES)
def test_an_outage_of_s3_that_stays_ends_with_one_line(bucket, tmp_path, monkeypatch, capfd, kind, begin, message):
    step = Counted(ingest)
    outage = Outage(S3_KINDS.get(kind, kind), begin, only=True)
    with failing(bucket, outage, monkeypatch, "AWS_ENDPOINT_URL"), pytest.raises(SystemExit):
        take_images(step, tmp_path)
    assert step.calls == TRIES
    assert_given_up(told(capfd), message)
    assert not (tmp_path / "raw").exists()


MLFLOW_OUTAGES = [
    # While the lock is held: it cannot be released, and the next try waits for the end of its lease.
    ("500", "POST .*/model-versions/create", "INTERNAL_ERROR: the database is full$"),
    ("503", "(POST|PUT) .*/registered-models/alias", "TEMPORARILY_UNAVAILABLE: the database is away$"),
    ("429", "POST .*/runs/log-batch", "error code 429 != 200. Response body: 'slow down, please'$"),
    ("502", "", "error code 502 != 200. Response body: '502 Bad Gateway'$"),
    ("refused", "", "Connection refused"),
    ("stall", "", "timed out"),
    (
        "upload",
        "PUT .*/mlflow-artifacts/",
        "500 Server Error: .*/mlflow-artifacts/.*Response text: Internal Server",
    ),
]


@pytest.mark.parametrize(("kind", "begin", "message"), MLFLOW_OUTAGES)
def test_an_outage_of_mlflow_that_passes_changes_no_result(
    server, candidates, tmp_path, monkeypatch, capfd, kind, begin, message
):
    outage = Outage(MLFLOW_KINDS.get(kind, kind), begin, only=kind == "upload")
    step = Counted(register)
    with failing(server, outage, monkeypatch, "MLFLOW_TRACKING_URI"):
        step.end = outage.end
        verdict = judge(step, tmp_path, candidates[0], model_name=f"passes-{kind}", experiment=f"passes-{kind}")
    assert step.calls == 2
    assert_told_once(told(capfd), rf"twofold register: MLflow at http://127\.0\.0\.1:\d+: .*{message.rstrip('$')}")
    assert (verdict["version"], verdict["alias"], verdict["nothing_new"]) == (1, "champion", False)
    client = MlflowClient(server)
    place = [client.get_experiment_by_name(f"passes-{kind}").experiment_id]
    assert [run.info.status for run in client.search_runs(place)] == ["FINISHED"] * 3, "with the two trainings"
    assert len(client.search_model_versions(f"name = 'passes-{kind}'")) == 1
    assert client.get_registered_model(f"passes-{kind}").aliases == {"champion": "1"}


@pytest.mark.parametrize(("kind", "begin", "message"), MLFLOW_OUTAGES)
def test_an_outage_of_mlflow_that_stays_ends_with_one_line(
    server, candidates, tmp_path, monkeypatch, capfd, kind, begin, message
):
    step = Counted(register)
    outage = Outage(MLFLOW_KINDS.get(kind, kind), "" if kind == "503" else begin, only=kind == "upload")
    with failing(server, outage, monkeypatch, "MLFLOW_TRACKING_URI"), pytest.raises(SystemExit):
        judge(step, tmp_path, candidates[0], model_name=f"stays-{kind}", experiment=f"stays-{kind}")
    assert step.calls == TRIES
    assert_given_up(told(capfd), r"MLflow at http://127\.0\.0\.1:\d+: ")
    assert not (tmp_path / "verdict").exists()


def test_a_champion_that_cannot_be_fetched_for_a_moment_is_no_reason_to_refuse(
    server, candidates, tmp_path, monkeypatch, capfd
):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    own = {"model_name": "fetched", "experiment": "fetched"}
    champion = judge(register, tmp_path / "first", candidates[0], **own)
    outage = Outage(MLFLOW_KINDS["upload"], f"GET .*/mlflow-artifacts/.*{champion['model_id']}", only=True)
    step = Counted(register)
    with failing(server, outage, monkeypatch, "MLFLOW_TRACKING_URI"):
        step.end = outage.end
        capfd.readouterr()
        verdict = judge(step, tmp_path / "second", candidates[1], **own)
    assert step.calls == 2
    assert_told_once(told(capfd), "cannot be fetched from .*500 Server Error")
    assert (verdict["judged_against"], verdict["comparison"]["problem"]) == (1, None)
    assert verdict["version"] == 2


def test_errors_of_s3_that_stay_are_not_tried_again(bucket, tmp_path, monkeypatch, capfd):
    monkeypatch.setenv("AWS_ENDPOINT_URL", bucket)
    wrong = {
        "the secret key is wrong": {"AWS_SECRET_ACCESS_KEY": "wrong"},
        "does not know the access key": {"AWS_ACCESS_KEY_ID": "wrong"},
        "access denied": {"AWS_ACCESS_KEY_ID": LISTER},
    }
    for message, environment in wrong.items():
        with monkeypatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            assert_permanent(Counted(ingest), capfd, message, lambda step: take_images(step, tmp_path))
    changed = {
        "no such bucket": {"source": "s3://none-such"},
        "no object found there": {"source": "s3://images/none"},
        "ingest.positive: found 'neither'": {"positive": "neither"},
        "too few different images": {"min_per_class": 11},
    }
    for message, values in changed.items():
        assert_permanent(Counted(ingest), capfd, message, lambda step, v=values: take_images(step, tmp_path, **v))


@pytest.mark.parametrize(
    ("kind", "message"),
    [("401", "rejects the login"), ("403", "permission denied"), ("400", "INVALID_PARAMETER")],
)
def test_a_refusal_of_mlflow_is_not_tried_again(server, candidates, tmp_path, monkeypatch, capfd, kind, message):
    with failing(server, Outage(MLFLOW_KINDS[kind]), monkeypatch, "MLFLOW_TRACKING_URI"):
        assert_permanent(Counted(register), capfd, message, lambda step: judge(step, tmp_path, candidates[0]))
