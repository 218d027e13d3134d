"""docs/mlflow.md is of one mind with deploy/mlflow, the client and Twofold's own code; the server is tried in slow."""

import re
from configparser import ConfigParser

import pytest

from tests.support.deployed_case import CONFIG, CONTAINER, LOGIN
from tests.unit.deploy.test_deploy import ROOT

DOC = (ROOT / "docs" / "mlflow.md").read_text()
SHELL, INI, NGINX = (re.findall(rf"```{kind}\n(.*?)```", DOC, re.DOTALL)[0] for kind in ("sh", "ini", "nginx"))
FLAGS = {  # of `mlflow server`, and what sets the same in the manifest
    "--backend-store-uri": "MLFLOW_BACKEND_STORE_URI",
    "--artifacts-destination": "MLFLOW_ARTIFACTS_DESTINATION",
}


def ini(text):
    parser = ConfigParser()
    parser.read_string(text)
    return dict(parser["mlflow"])


def test_the_login_of_the_recipe_is_that_of_the_manifest():
    assert ini(INI) == ini(LOGIN["basic_auth.ini"])
    assert ini(INI)["default_permission"] == "READ"


@pytest.mark.parametrize(("flag", "name"), FLAGS.items())
def test_the_addresses_are_those_of_the_manifest(flag, name):
    assert re.search(rf"{flag} (\S+)", SHELL)[1] == CONFIG[name]


def test_the_server_is_started_alike():
    for flag in ("--app-name", "--workers"):
        assert re.search(rf"{flag} (\S+)", SHELL)[1] == CONTAINER["args"][CONTAINER["args"].index(flag) + 1]
    assert "--allowed-hosts" in SHELL
    assert CONFIG["MLFLOW_SERVER_ALLOWED_HOSTS"]
    for name in (
        "MLFLOW_CREATE_MODEL_VERSION_SOURCE_VALIDATION_REGEX",
        "MLFLOW_ENABLE_AI_GATEWAY",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION",
        "MLFLOW_AUTH_CONFIG_PATH",
    ):
        assert re.search(rf"{name}=(\S+)", SHELL)[1].strip("'") == CONFIG[name]


def test_every_secret_of_the_manifest_is_in_the_recipe_and_no_password_in_the_manifest():
    secret = {each["name"] for each in CONTAINER["env"] if "secretKeyRef" in each.get("valueFrom", {})}
    assert {name for name in secret if name not in SHELL} == {"AWS_ENDPOINT_URL"}  # of S3 that is not Amazon's
    assert all("valueFrom" in each for each in CONTAINER["env"])
    assert not {"admin_username", "admin_password"} & set(ini(LOGIN["basic_auth.ini"]))


def test_who_is_behind_a_proxy_is_told_to_the_server():
    # Without it every visitor looks like a process of the server's machine, to whom MLflow's assistant answers.
    assert "proxy_set_header X-Forwarded-For $remote_addr;" in NGINX
    assert re.search(r"location ~ \^/ajax-api/\S+assistant \{ return 403; \}", NGINX)
    assert re.match(r"^/ajax-api/[^/]+/mlflow/assistant", "/ajax-api/3.0/mlflow/assistant/message")


def test_what_the_document_names_exists():
    for path in re.findall(r"`((?:tests|deploy|docs)/[\w./-]+)`|\]\(([\w./-]+)\)", DOC):
        name = path[0] or f"docs/{path[1]}"
        assert (ROOT / name).exists(), name
