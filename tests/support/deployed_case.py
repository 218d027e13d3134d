"""Runs the MLflow server as deploy/mlflow does, with its arguments, configuration and login, on a real PostgreSQL."""

import base64
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ruamel.yaml import YAML

from tests.support.tools.servers import mlflow, postgres

MANIFEST = Path(__file__).resolve().parents[2] / "deploy" / "mlflow" / "mlflow.yaml"
DOCUMENTS = list(YAML(typ="safe").load_all(MANIFEST.read_text()))
CONFIG = next(each["data"] for each in DOCUMENTS if each["metadata"]["name"] == "mlflow" and "data" in each)
LOGIN = next(each["data"] for each in DOCUMENTS if each["metadata"]["name"] == "mlflow-login")
POD = next(each for each in DOCUMENTS if each["kind"] == "Deployment")["spec"]["template"]["spec"]
CONTAINER = POD["containers"][0]
PASSWORD = "p4ss/of:the@tests%"  # with characters that an address would have to escape
ADMIN, ADMINS_PASSWORD = "admin", "w0rd/of:the@admin%"


@contextmanager
def deployed(folder: Path, files: Mapping[str, str]) -> Iterator[str]:
    """Start the server and yield its address, one of those that it accepts.

    Args:
        folder: must not exist.
        files: environment variables for artifacts; they override the ConfigMap's.
    """
    assert CONTAINER["args"][:6] == ["mlflow", "server", "--host", "0.0.0.0", "--port", "5000"]  # noqa: S104
    (name,) = LOGIN
    assert f"/etc/mlflow/{name}" == CONFIG["MLFLOW_AUTH_CONFIG_PATH"]
    folder.mkdir(parents=True)
    (folder / name).write_text(LOGIN[name])
    secrets = {
        "MLFLOW_AUTH_ADMIN_USERNAME": ADMIN,
        "MLFLOW_AUTH_ADMIN_PASSWORD": ADMINS_PASSWORD,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "signing-key-of-the-tests",
    }
    assert set(secrets) <= {each["name"] for each in CONTAINER["env"]}
    with postgres(folder / "postgres", CONFIG["PGDATABASE"], "mlflow", PASSWORD) as port:
        login = {"PGHOST": "127.0.0.1", "PGPORT": str(port), "PGUSER": "mlflow", "PGPASSWORD": PASSWORD}
        environment = CONFIG | dict(files) | login | secrets | {"MLFLOW_AUTH_CONFIG_PATH": str(folder / name)}
        with mlflow(folder / "server", *CONTAINER["args"][6:], env=environment) as address:
            # Like kubectl port-forward.
            yield address.replace("127.0.0.1", "localhost")


def authorization(user: str, password: str) -> str:
    """The HTTP header of a login."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
