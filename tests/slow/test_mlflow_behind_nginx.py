"""MLflow's server behind the nginx of docs/guides/mlflow.md: TLS, large files, and no access to the assistant."""

import http.client
import os
import re
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.deployed_case import ADMIN, ADMINS_PASSWORD, authorization, deployed
from tests.support.tools.servers import free_port, running

pytestmark = pytest.mark.slow
DOC = Path(__file__).resolve().parents[2] / "docs" / "guides" / "mlflow.md"
ASSISTANT = "/ajax-api/3.0/mlflow/assistant/config"


def is_listening(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


@pytest.fixture(scope="module")
def proxy(tmp_path_factory):
    """(port, certificate) of nginx with the configuration of the document; only addresses and paths are replaced."""
    folder = tmp_path_factory.mktemp("nginx")
    key, certificate = folder / "tls.key", folder / "tls.crt"
    wanted = ["-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-keyout", key, "-out", certificate]
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(["openssl", "req", *wanted, *names], check=True, capture_output=True)
    with deployed(folder / "deployed", {"MLFLOW_ARTIFACTS_DESTINATION": str(folder / "files")}) as uri:
        port = free_port()
        (lines,) = re.findall(r"```nginx\n(.*?)```", DOC.read_text(), re.DOTALL)
        for documented, local in {
            "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
            "mlflow.example": "localhost",
            "/etc/nginx/tls": str(folder),
            "http://127.0.0.1:5000": uri.replace("localhost", "127.0.0.1"),
        }.items():
            assert documented in lines
            lines = lines.replace(documented, local)
        kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        own = "".join(f"{kind}_temp_path {folder / kind};\n" for kind in kinds)
        start = f"daemon off;\npid {folder / 'pid'};\nerror_log stderr;\nevents {{}}\n"
        (folder / "nginx.conf").write_text(f"{start}http {{\naccess_log off;\n{own}{lines}}}\n")
        command = ["/usr/sbin/nginx", "-c", str(folder / "nginx.conf"), "-p", str(folder)]
        with running(command, folder, lambda: is_listening(port)):
            yield port, certificate


def request(proxy, method, path, **headers):
    port, certificate = proxy
    trusted = ssl.create_default_context(cafile=str(certificate))
    connection = http.client.HTTPSConnection("localhost", port, context=trusted, timeout=60)
    login = {"Authorization": authorization(ADMIN, ADMINS_PASSWORD), "Content-Type": "application/json"}
    connection.request(method, path, body=None if method == "GET" else "{}", headers=login | headers)
    response = connection.getresponse()
    text = response.read().decode(errors="replace")
    connection.close()
    return response.status, text


def test_a_client_with_the_certificate_can_send_and_fetch_a_large_file(proxy, tmp_path):
    port, certificate = proxy
    code = (
        "import mlflow, pathlib; mlflow.set_experiment('tls')\n"
        "with mlflow.start_run() as run:\n"
        "    pathlib.Path('big').write_bytes(b'0' * 50_000_000); mlflow.log_artifact('big')\n"
        "found = mlflow.artifacts.download_artifacts(run.info.artifact_uri + '/big', dst_path='back')\n"
        "print(pathlib.Path(found).stat().st_size)"
    )
    env = {key: value for key, value in os.environ.items() if not key.startswith("MLFLOW_")} | {
        "MLFLOW_TRACKING_URI": f"https://localhost:{port}",
        "MLFLOW_TRACKING_SERVER_CERT_PATH": str(certificate),
        "MLFLOW_TRACKING_USERNAME": ADMIN,
        "MLFLOW_TRACKING_PASSWORD": ADMINS_PASSWORD,
    }
    (tmp_path / "back").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "50000000" in done.stdout


@pytest.mark.parametrize("spelled", ["", "/", "/./", "/%2e/"])
@pytest.mark.parametrize("name", ["assistant", "%61ssistant", "assistant/../assistant"])
def test_the_assistant_is_blocked_however_its_path_is_written(proxy, spelled, name):
    path = spelled + ASSISTANT.replace("assistant", name)
    # With a header that claims to come from the server's own machine.
    status, text = request(proxy, "PUT", path, **{"X-Forwarded-For": "127.0.0.1"})
    assert (status, "nginx" in text) == (403, True)


def test_the_host_header_is_passed_on_and_another_host_is_rejected(proxy):
    search = "/api/2.0/mlflow/experiments/search?max_results=1"
    assert request(proxy, "GET", search)[0] == 200
    status, text = request(proxy, "GET", search, Host="evil.example")
    assert (status, "Invalid Host header" in text) == (403, True)
