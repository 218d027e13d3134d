"""Permissions on the MLflow server of deploy/mlflow: login, a PostgreSQL, the commands of docs/guides/mlflow.md."""

import http.client
import re
import subprocess
import sys
import warnings
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from mlflow.entities import Param
from mlflow.exceptions import MlflowException
from mlflow.server import get_app_client
from ruamel.yaml import YAML

from tests.support import registration_case as case
from tests.support.deployed_case import ADMIN, ADMINS_PASSWORD, authorization, deployed
from twofold.core.errors import RegistryError
from twofold.serving.model_resolver import fetch_sealed
from twofold.serving.sealed_model import open_sealed
from twofold.tracking import runs
from twofold.tracking import store as tracking
from twofold.tracking.registry_client import KEY, SEAL, version_by_alias, versions_of_candidate

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[2]
DOC = (ROOT / "docs" / "guides" / "mlflow.md").read_text()
PASSWORDS = {name: f"w0rd/of:the@{name}%" for name in ("twofold", "reader", "approver", "editor")}


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    return case.make_known(tmp_path_factory.mktemp("known"))


@pytest.fixture(scope="module")
def data(known):
    return known[0]


@pytest.fixture(scope="module")
def made(known):
    return known[1]


def log_in(patch, server, user, password):
    patch.setenv("MLFLOW_TRACKING_URI", server)
    patch.setenv("MLFLOW_TRACKING_USERNAME", user)
    patch.setenv("MLFLOW_TRACKING_PASSWORD", password)
    for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME", "DVC_EXP_NAME"):
        patch.delenv(name, raising=False)


def run(commands):
    """Run commands of our own documentation."""
    with warnings.catch_warnings():
        # A deprecation in MLflow's server, on import.
        warnings.filterwarnings("ignore", message="starlette.middleware.wsgi is deprecated")
        exec(commands, {})  # noqa: S102


@pytest.fixture(scope="module")
def server(made, tmp_path_factory):
    """The server with the users of docs/guides/mlflow.md, and a champion that the user of the runs has registered."""
    first, grants = re.findall(r"```python\n(.*?)```", DOC, re.DOTALL)
    files = tmp_path_factory.mktemp("files")
    with deployed(tmp_path_factory.mktemp("mlflow") / "deployed", {"MLFLOW_ARTIFACTS_DESTINATION": str(files)}) as uri:
        with pytest.MonkeyPatch.context() as patch:
            log_in(patch, uri, ADMIN, ADMINS_PASSWORD)
            for name, word in PASSWORDS.items():
                patch.setenv(f"PASSWORD_OF_{name.upper()}", word)
            run(first)
            log_in(patch, uri, "twofold", PASSWORDS["twofold"])
            case.hurry(patch)
            assert case.run(made, tmp_path_factory.mktemp("registered"))["promoted"]
            log_in(patch, uri, ADMIN, ADMINS_PASSWORD)
            run(grants.replace('"registered_model", "twofold"', '"registered_model", "corner"'))
            users = get_app_client("basic-auth", uri)
            users.create_user("editor", PASSWORDS["editor"])
            users.grant_user_permission("editor", "registered_model", "corner", "EDIT")
        yield uri


@pytest.fixture
def user(server, monkeypatch):
    """A function that logs in as a user and returns a store for that user."""

    def log_in_as(name, password=None):
        log_in(monkeypatch, server, name, password or PASSWORDS[name])
        return tracking.connect()

    case.hurry(monkeypatch)
    return log_in_as


def error_of(store, call):
    """The error message of a call without permission."""
    with pytest.raises(RegistryError) as caught, tracking.readable_errors(store.uri):
        call()
    return str(caught.value)


def aliases(user):
    return user("twofold").client.get_registered_model("corner").aliases


def test_a_reader_can_fetch_the_champion(user, tmp_path):
    store = user("reader")
    with tracking.readable_errors(store.uri):
        version = version_by_alias(store, "corner")
        assert [each.version for each in versions_of_candidate(store, "corner", version.tags[KEY])] == [version.version]
        sealed = open_sealed(fetch_sealed(store, version, tmp_path), version.tags[SEAL])
    assert (str(version.version), sealed.labels) == ("1", ("good", "bad"))


REGISTRY = {
    "alias": lambda client, version: client.set_registered_model_alias("corner", "champion", "1"),
    "new alias": lambda client, version: client.set_registered_model_alias("corner", "challenger", "1"),
    "alias away": lambda client, version: client.delete_registered_model_alias("corner", "champion"),
    "tag of the version": lambda client, version: client.set_model_version_tag("corner", "1", SEAL, "0" * 64),
    "tag of the model": lambda client, version: client.set_registered_model_tag("corner", "twofold.ledger.9", "{}"),
    "tag away": lambda client, version: client.delete_model_version_tag("corner", "1", SEAL),
    "description": lambda client, version: client.update_model_version("corner", "1", "better"),
    "version": lambda client, version: client.create_model_version("corner", version.source, version.run_id),
    "version away": lambda client, version: client.delete_model_version("corner", "1"),
    "name": lambda client, version: client.rename_registered_model("corner", "mine"),
    "model away": lambda client, version: client.delete_registered_model("corner"),
}


def model_id(version):
    """The id of the logged model, which a server does not return as a field."""
    return version.source.removeprefix("models:/")


EXPERIMENT = {
    "run": lambda client, version: client.create_run(client.get_run(version.run_id).info.experiment_id),
    "tag of the run": lambda client, version: client.set_tag(version.run_id, "a", "b"),
    "parameter": lambda client, version: client.log_batch(version.run_id, params=[Param("a", "b")]),
    "end of the run": lambda client, version: client.set_terminated(version.run_id),
    "file of the run": lambda client, version: client.log_artifact(version.run_id, __file__),
    "tag of the logged model": lambda client, version: client.set_logged_model_tags(model_id(version), {"a": "b"}),
    "file of the logged model": lambda client, version: client.log_model_artifacts(
        model_id(version), str(Path(__file__).parent / "s3")
    ),
}


@pytest.mark.parametrize("what", [*REGISTRY, *EXPERIMENT])
def test_a_reader_can_change_nothing_and_the_error_names_the_missing_permission(user, what):
    store = user("reader")
    version = version_by_alias(store, "corner")
    thing = "registered model" if what in REGISTRY else "experiment"
    message = error_of(store, lambda: (REGISTRY | EXPERIMENT)[what](store.client, version))
    assert re.search(f"user 'reader' lacks EDIT .* on the {thing}", message)
    assert PASSWORDS["reader"] not in message
    assert version_by_alias(store, "corner").tags == version.tags


def test_register_as_a_reader_fails_in_the_teams_experiment_and_in_its_own(user, data, tmp_path):
    better = case.make_candidate(tmp_path / "better", data, slope=9.0)
    before = aliases(user)
    user("reader")
    with pytest.raises(RegistryError, match=r"lacks EDIT .* on the experiment"):
        case.run(better, tmp_path / "one")
    own = case.PARAMS.model_copy(update={"experiment": "of-the-reader"})
    with pytest.raises(RegistryError, match=r"lacks EDIT .* on the registered model"):
        case.run(better, tmp_path / "two", own)
    assert not list(tmp_path.glob("*/registration*"))
    assert aliases(user) == before
    assert len(user("twofold").client.search_model_versions("name = 'corner'")) == 1


def test_the_commands_error_is_one_line_without_traceback_or_password(user, data, tmp_path):
    better = case.make_candidate(tmp_path / "better", data, slope=7.0)
    user("reader")
    yaml = YAML()
    params = yaml.load((ROOT / "tests" / "params.yaml").read_text())
    params["register"] |= {"experiment": "trying", "model_name": "corner"}
    yaml.dump(params, tmp_path / "params.yaml")
    words = [part for name, path in better._asdict().items() for part in (f"--{name}", str(path))]
    outputs = ["--registration", str(tmp_path / "registration"), "--verdict", str(tmp_path / "registration.json")]
    outputs += ["--index", str(tmp_path / "index.html")]
    done = subprocess.run(
        [sys.executable, "-m", "twofold.steps.register", "--params", str(tmp_path / "params.yaml"), *words, *outputs],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "error: MLflow at http://localhost" in done.stderr
    assert "user 'reader' lacks EDIT (MANAGE where something is removed) on the experiment" in done.stderr
    assert "Traceback" not in done.stderr
    assert PASSWORDS["reader"] not in done.stdout + done.stderr
    assert not (tmp_path / "registration.json").exists()


def test_an_editor_can_set_aliases_and_tags_but_remove_nothing(user):
    before = aliases(user)
    store = user("editor")
    store.client.set_registered_model_alias("corner", "approved", "1")
    store.client.set_model_version_tag("corner", "1", "twofold.note", "seen")
    assert aliases(user) == before | {"approved": "1"}
    store = user("editor")
    for remove in (
        lambda: store.client.delete_registered_model_alias("corner", "approved"),
        lambda: store.client.delete_model_version_tag("corner", "1", "twofold.note"),
    ):
        assert "MANAGE where something is removed) on the registered model" in error_of(store, remove)
    assert aliases(user) == before | {"approved": "1"}
    user("twofold").client.delete_registered_model_alias("corner", "approved")


def test_an_approver_can_set_and_remove_aliases(user):
    before = aliases(user)
    version = version_by_alias(user("approver"), "corner")
    assert before["champion"] == version.version
    client = user("approver").client
    client.set_registered_model_alias("corner", "challenger", version.version)
    assert aliases(user) == before | {"challenger": version.version}
    user("approver").client.delete_registered_model_alias("corner", "challenger")
    assert aliases(user) == before


@pytest.mark.parametrize(("name", "password"), [("reader", "another w0rd"), ("nobody", "w0rd")])
def test_the_error_of_a_wrong_login_names_the_variables_and_no_password(user, name, password):
    store = user(name, password)
    with (
        pytest.raises(RegistryError, match=f"rejects the login of user '{name}': set MLFLOW_TRACKING_") as caught,
        tracking.readable_errors(store.uri),
    ):
        version_by_alias(store, "corner")
    assert password not in str(caught.value)


def test_files_require_a_login_too(user, server):
    store = user("reader")
    version = version_by_alias(store, "corner")
    location = store.client.get_model_version_download_uri("corner", version.version).partition(":")[2]
    path = f"/api/2.0/mlflow-artifacts/artifacts{location}/artifacts/sealed/decision.json"

    def status(method, login, body=None):
        connection = http.client.HTTPConnection(urlsplit(server).netloc, timeout=30)
        headers = {"Authorization": authorization(login, PASSWORDS[login])} if login else {}
        connection.request(method, path, body=body, headers=headers)
        response = connection.getresponse()
        response.read()
        connection.close()
        return response.status

    assert [status("GET", who) for who in (None, "reader")] == [401, 200]
    assert [status("PUT", who, b"{}") for who in (None, "reader")] == [401, 403]
    assert [status("DELETE", who) for who in (None, "reader", "approver")] == [401, 403, 403]


def test_the_login_leaves_unguarded_what_the_document_names(user):
    store = user("reader")
    # "Anyone with a login may create experiments and registered models of new names", even of a lock's name.
    assert store.client.create_registered_model("of-the-reader.1").name == "of-the-reader.1"
    assert store.client.create_experiment("of-the-reader.1")
    # "say that their experiment's files lie in any folder or bucket"
    assert store.client.create_experiment("elsewhere", artifact_location="s3://elsewhere/x")
    store.client.delete_registered_model("of-the-reader.1")
    for words in ("experiments and registered models of new names", "experiment's files lie in any folder or bucket"):
        assert words in " ".join(DOC.split())


@pytest.mark.parametrize("place", ["http://127.0.0.1:9/x", "mlflow-artifacts://127.0.0.1:9/x"])
def test_an_artifact_location_on_another_server_is_rejected(user, place):
    client = user("reader").client
    with pytest.raises(MlflowException, match="addresses a host other than the tracking server's"):
        client.create_experiment("on another server", artifact_location=place)
    client.create_registered_model("of-the-reader.2")
    try:
        with pytest.raises(MlflowException, match=r"addresses a host|Invalid model version source"):
            client.create_model_version("of-the-reader.2", source=place)
    finally:
        client.delete_registered_model("of-the-reader.2")


@pytest.mark.parametrize("place", ["s3://images/secret", "/etc", "file:///etc", "dbfs:/x"])
def test_a_version_source_outside_the_server_is_rejected(user, place):
    client = user("reader").client
    client.create_registered_model("of-the-reader.3")
    try:
        with pytest.raises(MlflowException, match="Invalid model version source"):
            client.create_model_version("of-the-reader.3", source=place)
    finally:
        client.delete_registered_model("of-the-reader.3")


def test_tags_that_a_run_already_has_are_not_sent_again(user):
    # So that a register with nothing to change needs READ only.
    store = user("reader")
    version = version_by_alias(store, "corner")
    run = store.client.get_run(version.run_id)
    runs.set_tags(store, run, {runs.OUTCOME: run.data.tags[runs.OUTCOME]})
