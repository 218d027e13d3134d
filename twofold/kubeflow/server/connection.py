"""The connection to a Kubeflow Pipelines server.

In: options of the command line, and the environment that kfp.Client reads. Out: a client of a server that is there,
lets us in and is not too old.
"""

import argparse
import os
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from google.auth.exceptions import GoogleAuthError
from kfp.client.token_credentials_base import TokenCredentialsBase

from twofold.core.errors import ServerError
from twofold.kubeflow.server.kfp_client import Client, redact, secrets_of


def add_connection_options(parser: argparse.ArgumentParser) -> None:
    """`--host` and how to be let in, named as kfp's own command line and kfp.Client name them."""
    group = parser.add_argument_group("the server")
    address = os.environ.get("KF_PIPELINES_ENDPOINT")
    group.add_argument(
        "--host",
        "--endpoint",
        metavar="URL",
        type=_address,
        default=address,
        required=not address,
        help="Kubeflow Pipelines' API or UI, with http:// or https:// (KF_PIPELINES_ENDPOINT)",
    )
    group.add_argument(
        "--ui-host",
        metavar="URL",
        type=_address,
        default=os.environ.get("KF_PIPELINES_UI_ENDPOINT"),
        help="where a browser finds the UI, for links (KF_PIPELINES_UI_ENDPOINT; else --host)",
    )
    group.add_argument("-n", "--namespace", metavar="NAME", help="your namespace, where the server has many users")
    token = group.add_mutually_exclusive_group()
    token.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="holds the bearer token; read at every call, so that one that is renewed stays good",
    )
    token.add_argument(
        "--token",
        "--existing-token",
        metavar="TOKEN",
        help="the bearer token itself; everyone on this machine can see it in the list of processes: use --token-file "
        "or the variable KFP_TOKEN instead (a session's cookies go into KFP_COOKIES)",
    )
    group.add_argument(
        "--client-id",
        "--iap-client-id",
        metavar="ID",
        help="of Google's Identity-Aware Proxy (KF_PIPELINES_IAP_OAUTH2_CLIENT_ID)",
    )
    group.add_argument(
        "--ca-cert",
        "--ssl-ca-cert",
        type=Path,
        metavar="FILE",
        help="certificate of the authority that signed the host's",
    )


def connect(options: argparse.Namespace) -> Client:
    """A client of a server that is there, lets us in, and is not too old.

    Raises:
        ServerError: in every other case; what to do about it is in the message.
    """
    client = open_client(options)
    warning = client.check_version()
    if warning:
        print(f"warning: {warning}", file=sys.stderr)
    if client.multi_user and not client.get_user_namespace():
        raise ServerError(f"{options.host} has many users, each with a namespace; give yours with --namespace")
    return client


def open_client(options: argparse.Namespace) -> Client:
    """A client of the server, of whatever version."""
    if options.ca_cert and not options.ca_cert.is_file():
        raise ServerError(f"--ca-cert {options.ca_cert}: no such file")
    cookies = os.environ.get("KFP_COOKIES") or None
    settings: dict[str, Any] = {
        "host": options.host,
        "ui_host": options.ui_host,
        "client_id": options.client_id,
        # "kubeflow" is kfp.Client's word for none given.
        "namespace": options.namespace or "kubeflow",
        "ssl_ca_cert": str(options.ca_cert) if options.ca_cert else None,
        "cookies": _visible(cookies, "KFP_COOKIES", " ") if cookies else None,
    }
    if options.token_file:
        settings["credentials"] = TokenFile(options.token_file)
        settings["credentials"].read()
    elif options.token or os.environ.get("KFP_TOKEN"):
        name = "--token" if options.token else "KFP_TOKEN"
        settings["existing_token"] = _visible(options.token or os.environ["KFP_TOKEN"], name)
    try:
        client = Client(settings)
    except (OSError, ValueError, GoogleAuthError) as error:
        # What kfp.Client reads by itself: ~/.config/kfp, service accounts, Google's credentials.
        raise ServerError(f"no connection to {options.host}: {redact(str(error), secrets_of(settings))}") from None
    client.given_namespace = options.namespace or ""
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


def _address(text: str) -> str:
    parts = urlsplit(text)
    if parts.username or parts.password:
        raise argparse.ArgumentTypeError("credentials in the address would be printed with it; use --token-file")
    # The text is not repeated: what was meant may have been user:password@host.
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
        raise argparse.ArgumentTypeError("no address; write http://HOST:PORT or https://HOST/PATH")
    return text.rstrip("/")
