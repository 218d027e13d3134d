"""docs/guides/mlflow.md agrees with deploy/mlflow, the client and Twofold's own code; tests/slow/ runs the server."""

import re
from configparser import ConfigParser

from tests.support.deployed_case import CONFIG, CONTAINER, LOGIN
from tests.unit.deploy.test_deploy import ROOT

DOC = (ROOT / "docs" / "guides" / "mlflow.md").read_text()
SHELL, INI, NGINX = (re.findall(rf"```{kind}\n(.*?)```", DOC, re.DOTALL)[0] for kind in ("sh", "ini", "nginx"))


def ini(text):
    parser = ConfigParser()
    parser.read_string(text)
    return dict(parser["mlflow"])


def test_the_login_of_the_recipe_is_that_of_the_manifest():
    assert ini(INI) == ini(LOGIN["basic_auth.ini"])
    assert ini(INI)["default_permission"] == "READ"


def test_database_and_files_are_named_as_in_the_manifest():
    assert re.search(r"--backend-store-uri (\S+)", SHELL)[1] == CONFIG["MLFLOW_BACKEND_STORE_URI"]
    # The bucket is another: that of the manifest is Kubeflow's.
    for place in (re.search(r"--artifacts-destination (\S+)", SHELL)[1], CONFIG["MLFLOW_ARTIFACTS_DESTINATION"]):
        assert re.fullmatch(r"s3://\w+/\w+", place), place


def test_the_recipe_starts_the_server_like_the_manifest():
    for flag in ("--app-name", "--workers"):
        assert re.search(rf"{flag} (\S+)", SHELL)[1] == CONTAINER["args"][CONTAINER["args"].index(flag) + 1]
    assert "--allowed-hosts" in SHELL
    assert CONFIG["MLFLOW_SERVER_ALLOWED_HOSTS"]
    names = ("CREATE_MODEL_VERSION_SOURCE_VALIDATION_REGEX", "ENABLE_AI_GATEWAY", "SERVER_ENABLE_JOB_EXECUTION")
    for name in (*names, "AUTH_CONFIG_PATH"):
        assert re.search(rf"MLFLOW_{name}=(\S+)", SHELL)[1].strip("'") == CONFIG[f"MLFLOW_{name}"]


def test_every_secret_of_the_manifest_is_in_the_recipe_and_no_password_in_the_manifest():
    secret = {each["name"] for each in CONTAINER["env"] if "secretKeyRef" in each.get("valueFrom", {})}
    assert {name for name in secret if name not in SHELL} == {
        "AWS_ENDPOINT_URL"
    }  # only for S3 stores other than Amazon's
    assert all("valueFrom" in each for each in CONTAINER["env"])
    assert not {"admin_username", "admin_password"} & set(ini(LOGIN["basic_auth.ini"]))


def test_the_proxy_forwards_the_clients_address():
    # Without it, every client looks local to the server, and MLflow's assistant answers local clients.
    assert "proxy_set_header X-Forwarded-For $remote_addr;" in NGINX
    assert re.search(r"location ~ \^/ajax-api/\S+assistant \{ return 403; \}", NGINX)
    assert re.match(r"^/ajax-api/[^/]+/mlflow/assistant", "/ajax-api/3.0/mlflow/assistant/message")


def test_the_files_that_the_document_names_exist():
    for path in re.findall(r"`((?:tests|deploy|docs)/[\w./-]+)`|\]\(([\w./-]+)\)", DOC):
        name = path[0] or f"docs/guides/{path[1]}"
        assert (ROOT / name).exists(), name
