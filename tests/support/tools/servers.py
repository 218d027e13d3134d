"""Real servers on this machine for tests: S3 (SeaweedFS), PostgreSQL, MLflow.

Each takes an empty folder and yields its address; an error at the start shows the server's log.
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
LISTER = "key-that-lists"  # a user who may only list; with the same secret


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
    """Run a process that is ready when the block begins and ended after it; its log is in the folder."""
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
            # Not SIGTERM, at which PostgreSQL would wait for its clients.
            for signal_ in (signal.SIGINT, signal.SIGKILL):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal_)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(10)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):  # noqa: S310  (a server on this machine)
            return True
    except urllib.error.HTTPError as error:
        error.close()
        return error.code < 500
    except OSError:
        return False


@contextmanager
def s3(folder: Path, volumes: int = 200) -> Iterator[str]:
    """Run SeaweedFS with the user KEY, who may do everything, and the user LISTER, who may only list.

    Each bucket takes one to seven of the volumes; a bucket that finds none left exists, and refuses every object.
    """
    folder.mkdir(parents=True)
    rights = {KEY: ["Admin", "Read", "Write", "List", "Tagging"], LISTER: ["List"]}
    identities = [
        {"name": name, "credentials": [{"accessKey": name, "secretKey": SECRET}], "actions": actions}
        for name, actions in rights.items()
    ]
    (folder / "identities.json").write_text(json.dumps({"identities": identities}))
    weed = shutil.which("weed") or str(Path(sys.executable).parent / "weed")
    # Each of its servers also uses a port 10,000 above its own.
    ports = {name: free_port() % 20000 + 20000 for name in ("master", "volume", "filer", "s3")}
    words = [weed, "server", f"-dir={folder}", "-ip=127.0.0.1", "-s3", f"-s3.config={folder / 'identities.json'}"]
    words += [f"-{name}.port={port}" for name, port in ports.items()]
    words += ["-s3.port.iceberg=0", "-s3.port.lance=0"]  # off: their fixed ports would collide with a second server's
    words += ["-master.volumeSizeLimitMB=64", f"-volume.max={volumes}"]
    address = f"http://127.0.0.1:{ports['s3']}"
    with running(words, folder, lambda: answers(f"{address}/status")):
        yield address


@contextmanager
def postgres(folder: Path, database: str, user: str, password: str) -> Iterator[int]:
    """Run PostgreSQL with one database and one user; yield its port. The folder gets its log.

    The data are in a folder outside pytest's: if this process is root, PostgreSQL runs as another user, who needs
    access to it, and each start of pytest removes such access from pytest's folders.
    """
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    assert binaries, "no PostgreSQL here: scripts/install-test-tools"
    initdb, server, psql = (str(binaries[-1] / name) for name in ("initdb", "postgres", "psql"))
    folder.mkdir(parents=True)
    # PostgreSQL refuses to run as root.
    root = os.getuid() == 0
    as_user = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"] if root else []
    with tempfile.TemporaryDirectory(prefix="twofold-postgres-", ignore_cleanup_errors=True) as home:
        if root:
            shutil.chown(home, "postgres", "postgres")
        password_file, data = Path(home) / "password", f"{home}/data"
        password_file.write_text(password)
        password_file.chmod(0o644)
        words = [initdb, "-D", data, "-U", user, "-A", "scram-sha-256", f"--pwfile={password_file}", "--no-sync"]
        subprocess.run([*as_user, *words], check=True, capture_output=True, cwd=home)
        port = free_port()
        login = {"PGPASSWORD": password, "PGHOST": "127.0.0.1", "PGPORT": str(port), "PGUSER": user}

        def query(text: str, check: bool) -> bool:
            words = [psql, "-d", "postgres", "-c", text]
            return not subprocess.run(words, env=os.environ | login, check=check, capture_output=True).returncode

        # `-F`: without fsync, since a test's data need not survive a power failure.
        words = [*as_user, server, "-D", data, "-p", str(port), "-h", "127.0.0.1", "-k", home, "-F"]
        with running(words, folder, lambda: query("select 1", check=False), cwd=Path(home)):
            query(f'create database "{database}"', check=True)
            yield port


@contextmanager
def mlflow(folder: Path, *words: str, env: Mapping[str, str] | None = None) -> Iterator[str]:
    """Run an MLflow server; on SQLite unless words or environment name a backend store."""
    folder.mkdir(parents=True)
    port = free_port()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), *words]
    address = f"http://127.0.0.1:{port}"
    environment = os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"} | dict(env or {})
    with running(command, folder, lambda: answers(f"{address}/health"), environment):
        yield address
