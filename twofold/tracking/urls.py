"""Pages of the MLflow UI, and the check that a store's files are not on another server.

A store's files may be on its own server, in a bucket, or in a folder. MLflow's client sends the user's name and
password to the server in a file's address, and anyone who may edit a version or create an experiment can set that
address. MLflow's server rejects addresses of other servers since 3.17; older ones accept them.
"""

import urllib.request
from urllib.parse import urlsplit

LOCAL_UI = "http://127.0.0.1:5000"  # where `mlflow ui` listens
_SERVERS = ("http", "https", "mlflow-artifacts")


def ui_page(*path: str) -> str:
    """Return a page's address from that of the MLflow UI, in the view of model training instead of that of GenAI."""
    return f"#/{'/'.join(path)}?workflowType=machine_learning"


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


class NoRedirects(urllib.request.HTTPRedirectHandler):
    """Follows no redirect, which would turn a POST into a GET and send the Authorization header to another server."""

    def redirect_request(self, *_: object) -> None:
        """Return no request, so that the redirect becomes an error."""
