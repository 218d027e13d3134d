"""`run --runner docker`: runs every task in a container of its image, next to an MLflow server that all of them reach.

Takes a Docker engine (DOCKER_HOST), images and parameters; returns the run's folder. A container sees only this run's
folder and, read-only, the images' source and the weights if these are local folders.
"""

import os
import signal
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import requests
from docker.client import from_env
from docker.errors import DockerException
from docker.types import Mount
from kfp.local import DockerRunner

from twofold.core.errors import TwofoldError
from twofold.kubeflow.definition.compiler import Sections
from twofold.kubeflow.definition.images import Images
from twofold.kubeflow.local.process_runner import Output, run_pipeline

MLFLOW_START_TIMEOUT = 120  # seconds
RUN_LABEL = "twofold.run"  # label of the containers of one run
PASSED_VARIABLES = ("OMP_NUM_THREADS", "TWOFOLD_DEVICE", "TWOFOLD_LIVE", "TWOFOLD_WEIGHTS", "TWOFOLD_WORKERS")


def run_in_containers(
    root: Path, images: Images, params: Sections, arguments: Mapping[str, Any], output: Output = nullcontext
) -> tuple[Path, str]:
    """Run the pipeline; return the run's folder and the command that opens the MLflow UI on it.

    Raises:
        TwofoldError: no engine answers, a task failed, or an expected output is missing.
    """
    environment = {key: os.environ[key] for key in PASSED_VARIABLES if key in os.environ}
    ingest = dict(arguments.get("ingest", params["ingest"]))
    mounts = []
    for values, key in ((ingest, "source"), (environment, "TWOFOLD_WEIGHTS")):
        if values.get(key) and "://" not in values[key]:
            values[key] = str(Path(values[key]).absolute())
            mounts.append(values[key])
    for path in mounts:
        if not Path(path).exists():
            raise TwofoldError(f"{path}: no such file or folder; the containers would get an empty one")
    try:
        from_env().close()
    except DockerException as error:
        raise TwofoldError(
            f"no container engine answers ({str(error).splitlines()[0]}); start docker, or podman with its socket in "
            "DOCKER_HOST"
        ) from None
    run_id = uuid.uuid4().hex
    with _sigterm_as_interrupt(), mlflow_server(root / "mlflow") as address, _kill_containers_at_end(run_id):
        options: dict[str, Any] = {
            "network_mode": "host",
            "environment": environment | {"MLFLOW_TRACKING_URI": address, "PYTHONUNBUFFERED": "1"},
            "mounts": [Mount(target=path, source=path, type="bind", read_only=True) for path in mounts],
            "security_opt": ["no-new-privileges"],
            "cap_drop": ["ALL"],
            "shm_size": "1g",
            "labels": {RUN_LABEL: run_id},
        }
        if os.getuid():
            # Files belong to the caller. If the caller is root, the image's own non-root user stays.
            options["user"] = f"{os.getuid()}:{os.getgid()}"
        arguments = {**arguments, "ingest": ingest}
        folder = run_pipeline(root / "runs", DockerRunner(**options), images, params, arguments, output)
    return folder, f"{Path(sys.executable).name} -m mlflow server {' '.join(_store_options(root / 'mlflow'))}"


@contextmanager
def _kill_containers_at_end(run_id: str) -> Iterator[None]:
    """Kill the run's containers: kfp leaves them running when a run is interrupted."""
    try:
        yield
    finally:
        with suppress(DockerException):
            engine = from_env()
            for container in engine.containers.list(filters={"label": f"{RUN_LABEL}={run_id}"}, ignore_removed=True):
                with suppress(DockerException):  # the container has exited meanwhile
                    container.kill()
            engine.close()


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """Handle SIGTERM like Ctrl+C, so that it leaves neither a server nor a container running."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _store_options(folder: Path) -> list[str]:
    database, files = folder / "mlflow.db", folder / "files"
    return ["--backend-store-uri", f"sqlite:///{database}", "--artifacts-destination", str(files)]


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    """Start an MLflow server on a free local port, with its runs and files in `folder`; yield its address.

    The checkout's own store does not work here: it records local file paths, which do not exist in a container.

    Raises:
        TwofoldError: the server did not start; the message names its log.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address, log = f"http://127.0.0.1:{port}", folder / "server.log"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    with log.open("w", encoding="utf-8") as stream:
        server = subprocess.Popen(
            [*command, *_store_options(folder)],
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=os.environ | {"MLFLOW_DISABLE_TELEMETRY": "true"},
            start_new_session=True,  # Ctrl+C interrupts the run only, which then stops the server
        )
        try:
            _wait_for_server(server, address, log)
            yield address
        finally:
            for number in (signal.SIGTERM, signal.SIGKILL):
                with suppress(ProcessLookupError):
                    os.killpg(server.pid, number)  # the session includes the server's workers
                with suppress(subprocess.TimeoutExpired):
                    server.wait(timeout=30)
                    break


def _wait_for_server(server: "subprocess.Popen[bytes]", address: str, log: Path) -> None:
    deadline = time.monotonic() + MLFLOW_START_TIMEOUT
    while time.monotonic() < deadline and server.poll() is None:
        with suppress(OSError):
            requests.get(f"{address}/health", timeout=5).raise_for_status()
            return
        time.sleep(0.3)
    raise TwofoldError(f"the MLflow server did not start; see {log}")
