"""The MLflow server as deploy/mlflow starts it, on a real PostgreSQL: its manifest's arguments, values and login.

In: an empty folder, and where S3 is. Out: the server's address, under a name that it was told to answer to.
"""

import base64
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from ruamel.yaml import YAML

from tests.support.tools.servers import mlflow, postgres

DOCUMENTS = list(
    YAML(typ="safe").load_all((Path(__file__).resolve().parents[2] / "deploy" / "mlflow" / "mlflow.yaml").read_text())
)
CONFIG = next(each["data"] for each in DOCUMENTS if each["metadata"]["name"] == "mlflow" and "data" in each)
LOGIN = next(each["data"] for each in DOCUMENTS if each["metadata"]["name"] == "mlflow-login")
POD = next(each for each in DOCUMENTS if each["kind"] == "Deployment")["spec"]["template"]["spec"]
CONTAINER = POD["containers"][0]
PASSWORD = "p4ss/of:the@tests%"  # (what an address would have to escape)
ADMIN, ADMINS_PASSWORD = "admin", "w0rd/of:the@admin%"


@contextmanager
def deployed(folder: Path, files: Mapping[str, str]) -> Iterator[str]:
    """The Deployment's arguments and the ConfigMaps' values; only addresses are this machine's.

    Args:
        folder: empty.
        files: environment that says where files go, over what the ConfigMap says.
    """
    assert CONTAINER["args"][:6] == ["mlflow", "server", "--host", "0.0.0.0", "--port", "5000"]  # noqa: S104
    (name,) = LOGIN
    assert f"/etc/mlflow/{name}" == CONFIG["MLFLOW_AUTH_CONFIG_PATH"]
    folder.mkdir(parents=True)
    (folder / name).write_text(LOGIN[name])
    asked = {each["name"] for each in CONTAINER["env"]}
    secrets = {
        "MLFLOW_AUTH_ADMIN_USERNAME": ADMIN,
        "MLFLOW_AUTH_ADMIN_PASSWORD": ADMINS_PASSWORD,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "signing-key-of-the-tests",
    }
    assert set(secrets) <= asked
    with postgres(folder / "postgres", CONFIG["PGDATABASE"], "mlflow", PASSWORD) as port:
        login = {"PGHOST": "127.0.0.1", "PGPORT": str(port), "PGUSER": "mlflow", "PGPASSWORD": PASSWORD}
        own = {"MLFLOW_AUTH_CONFIG_PATH": str(folder / name)}
        environment = CONFIG | dict(files) | login | secrets | own
        with mlflow(folder / "server", *CONTAINER["args"][6:], env=environment) as address:
            # As through kubectl port-forward.
            yield address.replace("127.0.0.1", "localhost")


def authorization(user: str, password: str) -> str:
    """The header of a login."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
