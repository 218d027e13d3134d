"""What the commands have in common on their command line: images, resources, parameters.

In: argparse's options. Out: images, resources, sections of parameters and the run's arguments, all checked before
anything is compiled or sent.
"""

import argparse
import os
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from twofold.kubeflow.definition.images import Images, by_digest, images_named
from twofold.kubeflow.definition.resources import DEFAULT, Resources, load
from twofold.orchestration.params_file import PARAMS, assign, check_all, load_yaml, project_root

if TYPE_CHECKING:
    from twofold.kubeflow.server.connection import Connection


def add_compile_options(parser: argparse.ArgumentParser) -> None:
    """`--image`, `--cpu`, `--resources`, `--params`: what the compiled pipeline depends on."""
    group = parser.add_argument_group("the pipeline")
    add_image_option(group)
    group.add_argument(
        "--cpu",
        action="store_true",
        help="ask the cluster for nothing: no GPU, node, volume, secret, security context or retry. For a cluster "
        "without GPUs, give a --resources without them instead",
    )
    group.add_argument("--resources", type=Path, metavar="FILE", help=f"where the tasks run ({DEFAULT})")
    add_params_option(group)


def add_image_option(group: argparse._ActionsContainer) -> None:
    """`--image`, up to twice."""
    group.add_argument(
        "--image",
        action="append",
        default=[],
        metavar="data=NAME | train=NAME",
        help="an image by tag or, better, by digest (twofold-data and twofold-train, tagged with the git commit, as "
        "`make images` builds them); may be given twice",
    )


def add_params_option(group: argparse._ActionsContainer) -> None:
    """`--params`."""
    group.add_argument("--params", type=Path, metavar="FILE", help=f"the parameters ({PARAMS} of the project)")


def add_argument_options(parser: argparse.ArgumentParser) -> None:
    """`-p` and `--force`: what one run is given."""
    group = parser.add_argument_group("this run")
    group.add_argument(
        "-p",
        "--param",
        action="append",
        default=[],
        dest="assignments",
        metavar="SECTION.KEY=VALUE",
        help="a parameter for this run, checked before anything starts; may be given many times",
    )
    group.add_argument(
        "--force",
        default="",
        metavar="TEXT",
        help="part of every cache key: a text not used before (a date, a ticket) makes every step run again",
    )


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


def images_from(options: argparse.Namespace) -> Images:
    """The two images; a warning is printed for one without a digest.

    Raises:
        ParameterError: as `images_named`.
    """
    images = images_named(options.image)
    for name in images:
        if not by_digest(name):
            print(
                f"warning: {name} is named by its tag, which can be moved to other content without the cache noticing; "
                "name it by digest (NAME@sha256:...)",
                file=sys.stderr,
            )
    return images


def resources_from(options: argparse.Namespace) -> Resources:
    """The file of --resources, checked."""
    return load(options.resources)


def params_from(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Every section of --params as plain values, checked: the defaults of the compiled pipeline."""
    values = load_yaml(_params_file(options))
    return {name: section.model_dump(mode="json") for name, section in check_all(values).items()}


def overrides_from(options: argparse.Namespace) -> dict[str, Any]:
    """The arguments of a run: every section that `-p` changes, whole; and `force`.

    Raises:
        ParameterError: an unknown section or key, or a value of another type or out of range.
    """
    path = _params_file(options)
    values = load_yaml(path)
    changed = assign(values, options.assignments, path)
    sections = check_all(values)
    found: dict[str, Any] = {name: sections[name].model_dump(mode="json") for name in changed}
    return found | ({"force": options.force} if options.force else {})


def connection_from(options: argparse.Namespace) -> "Connection":
    """The server that the connection options name."""
    from twofold.kubeflow.server.connection import Connection  # kfp takes a while to import

    return Connection(**{each.name: getattr(options, each.name) for each in fields(Connection)})


def _params_file(options: argparse.Namespace) -> Path:
    return options.params or project_root() / PARAMS


def _address(text: str) -> str:
    parts = urlsplit(text)
    if parts.username or parts.password:
        raise argparse.ArgumentTypeError("credentials in the address would be printed with it; use --token-file")
    # The text is not repeated: what was meant may have been user:password@host.
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
        raise argparse.ArgumentTypeError("no address; write http://HOST:PORT or https://HOST/PATH")
    return text.rstrip("/")
