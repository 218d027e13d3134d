"""Versions poisoned in place in a real MLflow store: when fetched, when the champion is scored, and in register."""

import hashlib
import http.server
import shutil
import threading

import pytest
from mlflow.entities import Experiment

from tests.support import poison
from tests.support import registration_case as case
from tests.unit.security.test_poison import everything, forge
from twofold.core.errors import ArtifactError, RegistryError
from twofold.promotion import champion_challenger
from twofold.promotion.candidate import read_candidate
from twofold.serving import model_resolver
from twofold.tracking import registry_client
from twofold.tracking import store as tracking
from twofold.tracking.urls import is_foreign_server


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    return case.make_known(tmp_path_factory.mktemp("known"))


@pytest.fixture(scope="module")
def data(known):
    return known[0]


@pytest.fixture(scope="module")
def made(known):
    return known[1]


@pytest.fixture(scope="module")
def registered(made, empty_store, tmp_path_factory):
    """A store with a champion, version 1, and the folder of its sealed files."""
    root = tmp_path_factory.mktemp("registered")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME", "DVC_EXP_NAME"):
            patch.delenv(name, raising=False)
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{shutil.copy(empty_store, root / 'mlflow.db')}")
        case.hurry(patch)
        case.run(made, root)
        store = tracking.connect()
    (folder,) = root.rglob("artifacts/sealed")
    return store, folder


@pytest.fixture
def version(registered, monkeypatch):
    """The champion; its files are restored after the test."""
    store, folder = registered
    case.hurry(monkeypatch)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store.uri)
    whole = shutil.copytree(folder, folder.with_name("whole"))
    yield registry_client.version_by_alias(store, "corner")
    for left in folder.parent.glob("elsewhere-*"):
        left.unlink()
    shutil.rmtree(folder)
    whole.rename(folder)


@pytest.mark.parametrize("kind", poison.KINDS)
def test_fetching_fails_and_leaves_no_files(kind, registered, version, canary, tmp_path):
    store, folder = registered
    poison.plant(kind, folder / "model.safetensors", canary)
    with pytest.raises(ArtifactError, match=r"altered|added") as caught:
        model_resolver.fetch_sealed(store, version, tmp_path)
    named = "MLmodel" if kind in poison.WITH_GOOD_WEIGHTS else "model.safetensors"
    assert f"sealed/{named}: " in str(caught.value)
    assert everything(tmp_path) == []
    assert not canary.exists()


@pytest.mark.parametrize("kind", [kind for kind in poison.KINDS if kind != "wrong SHA"])
def test_a_champion_with_a_forged_seal_and_tag_is_not_executed(kind, registered, version, canary, made):
    store, folder = registered
    poison.plant(kind, folder / "model.safetensors", canary)
    version.tags[registry_client.SEAL] = forge(folder)
    found = champion_challenger.score_champion(store, version, read_candidate(*made))
    assert len(found.answers.probability) == 0
    assert ".json: " in found.problem or "model.safetensors: " in found.problem
    assert "make another version champion with `twofold models rollback" in found.problem
    assert not canary.exists()


def test_register_promotes_nothing_over_a_poisoned_champion_and_succeeds(
    registered, version, canary, data, tmp_path, monkeypatch
):
    store, folder = registered
    better = case.make_candidate(tmp_path / "better", data, slope=9.0)
    poison.plant("pickle by reduce", folder / "model.safetensors", canary)
    digest = forge(folder)
    before = version.tags[registry_client.SEAL]
    store.client.set_model_version_tag("corner", "1", registry_client.SEAL, digest)
    try:
        found = case.run(better, tmp_path)
    finally:
        store.client.set_model_version_tag("corner", "1", registry_client.SEAL, before)
    assert (found["promoted"], found["champion"]) == (False, 1)
    assert any("model.safetensors: cannot be read" in reason for reason in found["reasons"])
    assert not canary.exists()


def test_code_next_to_the_sealed_files_is_not_fetched(registered, version, canary, tmp_path):
    store, folder = registered
    model = folder.parent.parent
    served = next(model.rglob("served.py"))
    before = served.read_text()
    served.write_text(f"import pathlib\npathlib.Path({str(canary)!r}).touch()\n{before}")
    try:
        found = model_resolver.fetch_sealed(store, version, tmp_path)
    finally:
        served.write_text(before)
    assert [path.suffix for path in found.iterdir() if path.suffix == ".py"] == []
    assert everything(tmp_path) == sorted(["sealed", *(f"sealed/{path.name}" for path in folder.iterdir())])
    assert not canary.exists()


class Listener(http.server.BaseHTTPRequestHandler):
    """A foreign server that records the logins that it receives."""

    def do_GET(self):
        self.server.received.append(self.headers.get("Authorization"))
        self.send_error(404)

    def log_message(self, *words):
        pass


@pytest.fixture
def foreign_server():
    with http.server.HTTPServer(("127.0.0.1", 0), Listener) as server:
        server.received = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize("scheme", ["http", "mlflow-artifacts"])
def test_the_password_is_not_sent_to_another_server(scheme, registered, version, foreign_server, tmp_path, monkeypatch):
    store, _ = registered
    home = tracking.MlflowStore(store.client, "http://user:word@mlflow.example:5000", None)
    place = f"{scheme}://127.0.0.1:{foreign_server.server_address[1]}/api/2.0/mlflow-artifacts/artifacts/1"
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "user")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "the-password")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setattr(store.client, "get_model_version_download_uri", lambda name, number: place)
    with pytest.raises(RegistryError, match=r"which is not the MLflow server http://mlflow\.example:5000") as caught:
        model_resolver.fetch_sealed(home, version, tmp_path)
    assert "word" not in str(caught.value).replace("password", "")
    assert foreign_server.received == []
    # Without the check it would be sent.
    monkeypatch.setattr(model_resolver, "refuse_foreign_server", lambda store, place: None)
    with pytest.raises(RegistryError, match="cannot be fetched"):
        model_resolver.fetch_sealed(home, version, tmp_path)
    assert foreign_server.received
    assert all(word.startswith("Basic ") for word in foreign_server.received)


def test_nothing_is_logged_to_an_experiment_on_another_server(registered, foreign_server, monkeypatch):
    store, _ = registered
    place = f"http://127.0.0.1:{foreign_server.server_address[1]}/api/2.0/mlflow-artifacts/artifacts/1"
    made = Experiment("7", "trying", place, "active")
    monkeypatch.setattr(store.client, "get_experiment_by_name", lambda name: made)
    with pytest.raises(RegistryError, match="nothing is sent there"):
        tracking.experiment(store, "trying")
    assert foreign_server.received == []


@pytest.mark.parametrize(
    ("place", "home", "fine"),
    [
        ("mlflow-artifacts:/1/models/m-1", "http://mlflow:5000", True),
        ("mlflow-artifacts://mlflow:5000/1", "http://user:p@mlflow:5000", True),
        ("http://mlflow:5000/api/1", "http://mlflow:5000", True),
        ("http://mlflow:5000/api/1", "https://mlflow:5000", False),
        ("https://mlflow:5001/api/1", "https://mlflow:5000", False),
        ("https://mlflow:5000@evil/api/1", "https://mlflow:5000", False),
        ("mlflow-artifacts://evil/1", "http://mlflow:5000", False),
        ("s3://bucket/1", "http://mlflow:5000", True),
        ("/srv/mlflow/1", "sqlite:////srv/mlflow.db", True),
        ("http://evil/1", "sqlite:////srv/mlflow.db", False),
    ],
)
def test_allowed_locations_of_files(place, home, fine):
    assert is_foreign_server(home, place) is not fine


def test_the_fixture_restores_the_files(registered, version, tmp_path):
    store, _ = registered
    found = model_resolver.fetch_sealed(store, version, tmp_path)
    assert hashlib.sha256((found / "seal.json").read_bytes()).hexdigest() == version.tags[registry_client.SEAL]
