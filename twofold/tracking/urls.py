"""Pages of the MLflow UI, whether a server answers, and the check that a store's files are not on another one.

A store's files may be on its own server, in a bucket, or in a folder. MLflow's client sends the user's name and
password to the server in a file's address, and anyone who may edit a version or create an experiment can set that
address. MLflow's server rejects addresses of other servers since 3.17; older ones accept them.
"""

import socket
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from urllib.parse import urlsplit

from twofold.core.errors import RegistryError
from twofold.core.progress import waiting
from twofold.core.redaction import without_credentials

LOCAL_UI = "http://127.0.0.1:5000"  # where `mlflow ui` listens
_SERVERS = ("http", "https", "mlflow-artifacts")
PATIENCE = 10.0  # seconds in which a server may start, for a command that a person waits for


def ui_page(*path: str) -> str:
    """Return a page's address from that of the MLflow UI, in the view of model training instead of that of GenAI."""
    return f"#/{'/'.join(path)}?workflowType=machine_learning"


def unreachable(uri: str) -> str:
    """Return why nothing answers at a server's address (refused, or no such host); empty otherwise."""
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or parts.scheme in urllib.request.getproxies():
        return ""
    try:
        address = (parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
        socket.create_connection(address, timeout=PATIENCE).close()
    except (ConnectionRefusedError, socket.gaierror) as error:
        return error.strerror or "no answer"
    except (OSError, ValueError):  # a slow server, or an address that MLflow's client explains
        pass
    return ""


def require_server(uri: str) -> None:
    """Raise a RegistryError if for PATIENCE nothing answers at a server's address; MLflow would try for minutes."""
    end = time.monotonic() + PATIENCE
    while reason := unreachable(uri):
        if time.monotonic() > end:
            raise RegistryError(
                f"nothing answers at {without_credentials(uri)}: {reason}; is the server running? MLFLOW_TRACKING_URI "
                "names it; unset it to use mlflow.db here",
                transient=True,
            )
        time.sleep(0.5)


@contextmanager
def waiting_for_server(uri: str) -> Iterator[None]:
    """Say every ten seconds that MLflow at an address is waited for, and why if nothing answers there."""
    with waiting(f"MLflow at {without_credentials(uri)}", partial(unreachable, uri)):
        yield


def is_foreign_server(home: str, place: str) -> bool:
    """Return whether a place is on another server than the store's, or on the same one without its TLS.

    Args:
        home: the store's address.
        place: the files' address from the store: of a version, a run, an experiment.
    """
    there, here = urlsplit(place), urlsplit(home)
    if there.scheme not in _SERVERS or not there.netloc:
        return False
    scheme = here.scheme if there.scheme == "mlflow-artifacts" else there.scheme
    return (scheme, there.netloc.rpartition("@")[2]) != (here.scheme, here.netloc.rpartition("@")[2])
