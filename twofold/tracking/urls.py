"""Where things are: how an address of images is recorded, and where the files of a store may lie.

A store's files lie on its own server, in a bucket, in a folder; never on another server.

MLflow's client logs in wherever files are said to lie, with the user's name and password; and whoever may edit a
version, or make an experiment, says where. MLflow's server refuses other servers since 3.17; an older one does not.
"""

import re
import urllib.request
from urllib.parse import urlsplit

_SERVERS = ("http", "https", "mlflow-artifacts")


def recorded_address(source: str) -> str:
    """An address of images as it is written down: without a user, who may be a token, but for that of ssh, without
    whom the address does not work.
    """
    return source if re.search(r"ssh://[^/:@]+@", source) else re.sub(r"(?<=://)[^/@\s]*@", "", source)


def is_foreign_server(home: str, place: str) -> bool:
    """Whether a place is on another server than the store's, or the same one without its TLS.

    Args:
        home: the store's address.
        place: as the store gives it: of a version, a run, an experiment.
    """
    there, here = urlsplit(place), urlsplit(home)
    if there.scheme not in _SERVERS or not there.netloc:
        return False
    scheme = here.scheme if there.scheme == "mlflow-artifacts" else there.scheme
    return (scheme, there.netloc.rpartition("@")[2]) != (here.scheme, here.netloc.rpartition("@")[2])


class NoRedirects(urllib.request.HTTPRedirectHandler):
    """Sends no request on: elsewhere a POST arrives as a GET, and the Authorization header is told to another server."""

    def redirect_request(self, *_: object) -> None:
        """Never."""
