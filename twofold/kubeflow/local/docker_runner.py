"""`run --runner docker`: every task in a container of its image, and an MLflow server that they all reach.

In: a docker engine (DOCKER_HOST), the images, parameters. Out: the run's folder. A container sees this run's folder,
and, read-only, the images' source and weights that lie in a folder: nothing else of this machine.
"""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from twofold.core.errors import TwofoldError
from twofold.kubeflow.definition.compiler import Sections
from twofold.kubeflow.definition.images import Images
from twofold.kubeflow.local.process_runner import run_pipeline

PATIENCE = 120  # seconds for MLflow's server to answer
MARK = "twofold.run"  # label of the containers of one run
PASSED_ON = ("OMP_NUM_THREADS", "TWOFOLD_DEVICE", "TWOFOLD_LIVE", "TWOFOLD_WEIGHTS", "TWOFOLD_WORKERS")


def run_in_containers(root: Path, images: Images, params: Sections, arguments: Mapping[str, Any]) -> tuple[Path, str]:
    """Run the pipeline; returns the run's folder and the command that opens MLflow's page on it.

    Raises:
        TwofoldError: no engine answers, a task failed, or an expected output is missing.
    """
    from docker.client import from_env
    from docker.errors import DockerException
    from docker.types import Mount
    from kfp.local import DockerRunner

    section = dict(arguments.get("ingest", params["ingest"]))
    readable = []
    if "://" not in section["source"]:
        section["source"] = str(Path(section["source"]).absolute())
        readable.append(section["source"])
    weights = os.environ.get("TWOFOLD_WEIGHTS", "")
    if weights and "://" not in weights:
        readable.append(str(Path(weights).absolute()))
    for path in readable:
        if not Path(path).exists():
            raise TwofoldError(f"{path}: no such file or folder; the containers would be given an empty one")
    try:
        from_env().close()
    except DockerException as error:
        raise TwofoldError(
            f"no container engine answers ({str(error).splitlines()[0]}); start docker, or podman with its socket in "
            "DOCKER_HOST"
        ) from None
    mark = uuid.uuid4().hex
    with _ended_as_by_ctrl_c(), mlflow_server(root / "mlflow") as address, _none_left(mark):
        environment = {key: os.environ[key] for key in PASSED_ON if key in os.environ}
        environment |= {"MLFLOW_TRACKING_URI": address, "PYTHONUNBUFFERED": "1"}
        if weights and "://" not in weights:
            environment["TWOFOLD_WEIGHTS"] = readable[-1]
        options: dict[str, Any] = {
            "network_mode": "host",
            "environment": environment,
            "mounts": [Mount(target=path, source=path, type="bind", read_only=True) for path in readable],
            "security_opt": ["no-new-privileges"],
            "cap_drop": ["ALL"],
            "shm_size": "1g",
            "labels": {MARK: mark},
        }
        if os.getuid():
            # What is written belongs to whoever asked for it; for root the image's own user stays, who is none.
            options["user"] = f"{os.getuid()}:{os.getgid()}"
        folder = run_pipeline(root / "runs", DockerRunner(**options), images, params, {**arguments, "ingest": section})
    return folder, f"{Path(sys.executable).name} -m mlflow server {' '.join(_store(root / 'mlflow'))}"


@contextmanager
def _none_left(mark: str) -> Iterator[None]:
    """End the containers that bear the mark: kfp leaves them to themselves when a run is broken off."""
    from docker.client import from_env
    from docker.errors import DockerException

    try:
        yield
    finally:
        with suppress(DockerException):
            engine = from_env()
            for container in engine.containers.list(filters={"label": f"{MARK}={mark}"}, ignore_removed=True):
                with suppress(DockerException):  # it has ended by itself meanwhile
                    container.kill()
            engine.close()


@contextmanager
def _ended_as_by_ctrl_c() -> Iterator[None]:
    """SIGTERM, too, leaves neither a server nor a container behind."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _store(folder: Path) -> list[str]:
    database, files = folder / "mlflow.db", folder / "files"
    return ["--backend-store-uri", f"sqlite:///{database}", "--artifacts-destination", str(files)]


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """An MLflow server on a free port of this machine, its runs and files in `folder`; yields its address.

    The store of the checkout would not do: it names files by paths of this machine, which no container has.

    Raises:
        TwofoldError: it did not start; its log says why.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address, log = f"http://127.0.0.1:{port}", folder / "server.log"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with log.open("w", encoding="utf-8") as stream:
        server = subprocess.Popen(
            [*command, *_store(folder)],
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"},
            start_new_session=True,  # Ctrl+C is for the run, which then ends the server
        )
        try:
            _wait(server, address, log)
            yield address
        finally:
            _stop(server)


def _stop(server: "subprocess.Popen[bytes]") -> None:
    """End the server and its workers, which are processes of its session."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(server.pid, number)
        with suppress(subprocess.TimeoutExpired):
            server.wait(timeout=30)
            return


def _wait(server: "subprocess.Popen[bytes]", address: str, log: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=5):  # noqa: S310  (an address of this machine)
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.3)
    raise TwofoldError(f"MLflow's server did not start; see {log}")
