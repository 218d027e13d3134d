"""Real servers on this machine, for tests: S3 (SeaweedFS), PostgreSQL, MLflow.

In: an empty folder for each. Out: its address, as long as the block lasts; where one does not start, its log.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

KEY, SECRET = "key-of-the-tests", "s3cret-of-the-tests"
LISTER = "key-that-lists"  # with the same secret


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def running(
    words: Sequence[str],
    folder: Path,
    ready: Callable[[], bool],
    env: Mapping[str, str] | None = None,
    wait: float = 90,
    cwd: Path | None = None,
) -> Iterator[None]:
    """A process that is ready when the block begins and gone when it ends; its log lies in the folder."""
    log = folder / "log"
    with log.open("wb") as stream:
        process = subprocess.Popen(
            words, cwd=cwd or folder, stdout=stream, stderr=stream, env=env, start_new_session=True
        )
        try:
            end = time.monotonic() + wait
            while not ready():
                assert process.poll() is None and time.monotonic() < end, f"{words[0]}:\n{log.read_text()[-4000:]}"
                time.sleep(0.2)
            yield
        finally:
            _stop(process)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """The process and its children: at once, but in order (PostgreSQL would wait for its clients at SIGTERM)."""
    for signal_ in (signal.SIGINT, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal_)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(10)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):  # noqa: S310  (our own server's)
            return True
    except urllib.error.HTTPError as error:
        error.close()
        return error.code < 500
    except OSError:
        return False


@contextmanager
def s3(folder: Path) -> Iterator[str]:
    """SeaweedFS with a user, KEY and SECRET, who may do everything, and one, LISTER, who may only list."""
    folder.mkdir(parents=True)
    rights = {KEY: ["Admin", "Read", "Write", "List", "Tagging"], LISTER: ["List"]}
    identities = [
        {"name": name, "credentials": [{"accessKey": name, "secretKey": SECRET}], "actions": actions}
        for name, actions in rights.items()
    ]
    (folder / "identities.json").write_text(json.dumps({"identities": identities}))
    weed = shutil.which("weed") or str(Path(sys.executable).parent / "weed")
    # Each of its servers also takes a port 10,000 above its own.
    ports = {name: free_port() % 20000 + 20000 for name in ("master", "volume", "filer", "s3")}
    words = [
        weed,
        "server",
        f"-dir={folder}",
        "-ip=127.0.0.1",
        "-s3",
        "-s3.port.iceberg=0",  # this and the next have fixed ports, which a second server could not have
        "-s3.port.lance=0",
        f"-s3.config={folder / 'identities.json'}",
    ]
    words += [f"-{name}.port={port}" for name, port in ports.items()] + [
        "-master.volumeSizeLimitMB=64",
        "-volume.max=200",  # each bucket takes several volumes for itself, and eight are the default
    ]
    address = f"http://127.0.0.1:{ports['s3']}"
    with running(words, folder, lambda: answers(f"{address}/status")):
        yield address


@contextmanager
def postgres(folder: Path, database: str, user: str, password: str) -> Iterator[int]:
    """PostgreSQL with one database and one user; its port. The folder gets its log.

    Its data lie in a folder of their own: as root it runs as another user, who must be let in, and pytest shuts its
    folders again whenever another pytest is started.
    """
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    assert binaries, "no PostgreSQL here: scripts/install-test-tools"
    folder.mkdir(parents=True)
    # It refuses to run as root.
    root = os.getuid() == 0
    as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if root else []
    with tempfile.TemporaryDirectory(prefix="twofold-postgres-", ignore_cleanup_errors=True) as place:
        if root:
            shutil.chown(place, "postgres", "postgres")
        with _postgres(folder, Path(place), binaries[-1], as_user, database, user, password) as port:
            yield port


@contextmanager
def _postgres(
    folder: Path, place: Path, binaries: Path, as_user: Sequence[str], database: str, user: str, password: str
) -> Iterator[int]:
    (place / "password").write_text(password)
    (place / "password").chmod(0o644)
    port, data = free_port(), place / "data"
    initdb = [str(binaries / "initdb"), "-D", str(data), "-U", user, "-A", "scram-sha-256"]
    subprocess.run(
        [*as_user, *initdb, f"--pwfile={place / 'password'}", "--no-sync"],
        check=True,
        capture_output=True,
        cwd=place,
    )
    words = [str(binaries / "postgres"), "-D", str(data), "-p", str(port), "-h", "127.0.0.1", "-k", str(place)]
    # `-F`: a test's data need not outlive a power cut.
    login = {"PGPASSWORD": password, "PGHOST": "127.0.0.1", "PGPORT": str(port), "PGUSER": user}
    psql = [str(binaries / "psql"), "-d", "postgres", "-c"]

    def ready() -> bool:
        return (
            subprocess.run([*psql, "select 1"], env=os.environ | login, capture_output=True, check=False).returncode
            == 0
        )

    with running([*as_user, *words, "-F"], folder, ready, cwd=place):
        create = [*psql, f'create database "{database}"']
        subprocess.run(create, env=os.environ | login, check=True, capture_output=True)
        yield port


@contextmanager
def mlflow(folder: Path, *words: str, env: Mapping[str, str] | None = None) -> Iterator[str]:
    """MLflow's server; without `--backend-store-uri` in words or environment, on SQLite."""
    folder.mkdir(parents=True)
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), *words]
    address = f"http://127.0.0.1:{port}"
    environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"} | dict(env or {})
    with running(command, folder, lambda: answers(f"{address}/health"), environment):
        yield address
