"""Connects to a Kubeflow Pipelines server.

Takes an address, credentials, and the environment that kfp.Client reads; returns a client of a server that answers,
accepts the credentials and is new enough.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.auth.exceptions import GoogleAuthError
from kfp.client.token_credentials_base import TokenCredentialsBase

from twofold.core.errors import ServerError
from twofold.kubeflow.server.kfp_client import Client


@dataclass(frozen=True)
class Connection:
    """Address and credentials of a server."""

    host: str  # address of the API or the UI, without a trailing slash
    ui_host: str | None = None  # address of the UI for browsers; None if it is the same
    namespace: str | None = None  # of the user, on a multi-user server
    token_file: Path | None = None  # holds the bearer token; read at every call
    token: str | None = None  # the bearer token itself
    client_id: str | None = None  # of Google's Identity-Aware Proxy
    ca_cert: Path | None = None  # certificate of the authority that signed the host's certificate


def connect(server: Connection) -> Client:
    """Open a client and check that the server accepts us and is new enough.

    Raises:
        ServerError: it does not; the message says what to do.
    """
    client = open_client(server)
    warning = client.check_version()
    if warning:
        print(f"warning: {warning}", file=sys.stderr)
    if client.multi_user and not client.get_user_namespace():
        raise ServerError(f"{server.host} is a multi-user server; give your namespace with --namespace")
    return client


def open_client(server: Connection) -> Client:
    """Open a client without checking the server's version."""
    if server.ca_cert and not server.ca_cert.is_file():
        raise ServerError(f"--ca-cert {server.ca_cert}: no such file")
    cookies = os.environ.get("KFP_COOKIES") or None
    settings: dict[str, Any] = {
        "host": server.host,
        "ui_host": server.ui_host,
        "client_id": server.client_id,
        # kfp.Client treats "kubeflow" as "not given".
        "namespace": server.namespace or "kubeflow",
        "ssl_ca_cert": str(server.ca_cert) if server.ca_cert else None,
        "cookies": _check_header(cookies, "KFP_COOKIES", allowed=" ") if cookies else None,
    }
    if server.token_file:
        settings["credentials"] = TokenFile(server.token_file)
        settings["credentials"].read()
    elif token := server.token or os.environ.get("KFP_TOKEN"):
        settings["existing_token"] = _check_header(token, "--token" if server.token else "KFP_TOKEN")
    try:
        client = Client(settings)
    except (OSError, ValueError, GoogleAuthError) as error:
        # From what kfp.Client reads by itself: ~/.config/kfp, service accounts, Google's credentials.
        raise ServerError(f"no connection to {server.host}: {error}") from None
    client.given_namespace = server.namespace or ""
    return client


class TokenFile(TokenCredentialsBase):  # type: ignore[misc]  # kfp has no types
    """A bearer token in a file that is renewed from outside."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> str:
        try:
            return _check_header(self.path.read_text(encoding="utf-8-sig"), f"--token-file {self.path}")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not text"
            raise ServerError(f"--token-file {self.path}: {reason}") from None

    def refresh_api_key_hook(self, config: Any) -> None:
        config.api_key["authorization"] = self.read()


def _check_header(text: str, name: str, allowed: str = "") -> str:
    """Return the stripped text if HTTP can carry it in a header; http.client's own error would quote the secret."""
    text = text.strip()
    if not text:
        raise ServerError(f"{name}: empty")
    if not all("!" <= letter <= "~" or letter in allowed for letter in text):
        raise ServerError(f"{name}: contains characters that no token has (spaces, line breaks, non-ASCII)")
    return text
