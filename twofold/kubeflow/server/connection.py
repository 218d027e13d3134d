"""The connection to a Kubeflow Pipelines server.

In: an address and credentials, and the environment that kfp.Client reads. Out: a client of a server that is there,
lets us in and is not too old.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.auth.exceptions import GoogleAuthError
from kfp.client.token_credentials_base import TokenCredentialsBase

from twofold.core.errors import ServerError
from twofold.kubeflow.server.kfp_client import Client, redact, secrets_of


@dataclass(frozen=True)
class Connection:
    """How to reach a server and be let in.

    Attributes:
        host: address of the API or the UI, without a slash at its end.
        ui_host: where a browser finds the UI; None for the same.
        namespace: of the user, where the server has many; None for none given.
        token_file: holds the bearer token, and is read at every call.
        token: the bearer token itself.
        client_id: of Google's Identity-Aware Proxy.
        ca_cert: certificate of the authority that signed the host's.
    """

    host: str
    ui_host: str | None = None
    namespace: str | None = None
    token_file: Path | None = None
    token: str | None = None
    client_id: str | None = None
    ca_cert: Path | None = None


def connect(server: Connection) -> Client:
    """A client of a server that is there, lets us in, and is not too old.

    Raises:
        ServerError: in every other case; what to do about it is in the message.
    """
    client = open_client(server)
    warning = client.check_version()
    if warning:
        print(f"warning: {warning}", file=sys.stderr)
    if client.multi_user and not client.get_user_namespace():
        raise ServerError(f"{server.host} has many users, each with a namespace; give yours with --namespace")
    return client


def open_client(server: Connection) -> Client:
    """A client of the server, of whatever version."""
    if server.ca_cert and not server.ca_cert.is_file():
        raise ServerError(f"--ca-cert {server.ca_cert}: no such file")
    cookies = os.environ.get("KFP_COOKIES") or None
    settings: dict[str, Any] = {
        "host": server.host,
        "ui_host": server.ui_host,
        "client_id": server.client_id,
        # "kubeflow" is kfp.Client's word for none given.
        "namespace": server.namespace or "kubeflow",
        "ssl_ca_cert": str(server.ca_cert) if server.ca_cert else None,
        "cookies": _visible(cookies, "KFP_COOKIES", " ") if cookies else None,
    }
    if server.token_file:
        settings["credentials"] = TokenFile(server.token_file)
        settings["credentials"].read()
    elif server.token or os.environ.get("KFP_TOKEN"):
        name = "--token" if server.token else "KFP_TOKEN"
        settings["existing_token"] = _visible(server.token or os.environ["KFP_TOKEN"], name)
    try:
        client = Client(settings)
    except (OSError, ValueError, GoogleAuthError) as error:
        # What kfp.Client reads by itself: ~/.config/kfp, service accounts, Google's credentials.
        raise ServerError(f"no connection to {server.host}: {redact(str(error), secrets_of(settings))}") from None
    client.given_namespace = server.namespace or ""
    return client


class TokenFile(TokenCredentialsBase):  # type: ignore[misc]  # kfp has no types
    """A token in a file that somebody renews."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> str:
        try:
            return _visible(self.path.read_text(encoding="utf-8"), f"--token-file {self.path}")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not text"
            raise ServerError(f"--token-file {self.path}: {reason}") from None

    def refresh_api_key_hook(self, config: Any) -> None:
        config.api_key["authorization"] = self.read()


def _visible(text: str, name: str, also: str = "") -> str:
    """A header's value; one that HTTP cannot carry would be quoted in the error that http.client raises."""
    text = text.strip()
    if not text or not all("!" <= letter <= "~" or letter in also for letter in text):
        raise ServerError(
            f"{name}: {'empty' if not text else 'holds characters that no token has (spaces, line ends)'}"
        )
    return text
