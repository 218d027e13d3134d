"""Command-line options that several commands share: images, resources, parameters, server.

Adds them to argparse parsers, and turns parsed options into checked values before anything is compiled or sent.
"""

import argparse
import os
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from twofold.kubeflow.definition.compiler import Sections, compile_pipeline
from twofold.kubeflow.definition.images import Images, has_digest, parse_images
from twofold.kubeflow.definition.resources import DEFAULT, Resources, load_resources
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
        help="for a first try on a cluster without GPUs, secrets and claims: of --resources, leave out GPUs, /dev/shm, "
        "nodes, tolerations, CPU, memory, volumes and secrets, and keep the rest",
    )
    group.add_argument("--resources", type=Path, metavar="FILE", help=f"what each task requests ({DEFAULT})")
    add_params_option(group)


def add_image_option(group: argparse._ActionsContainer) -> None:
    """`--image`, up to twice."""
    group.add_argument(
        "--image",
        action="append",
        default=[],
        metavar="data=NAME | train=NAME",
        help="an image by tag or, better, by digest; may be given twice (twofold-data and twofold-train, tagged with "
        "the git commit, as `docker/images` builds them)",
    )


def add_params_option(group: argparse._ActionsContainer) -> None:
    group.add_argument("--params", type=Path, metavar="FILE", help=f"the parameters ({PARAMS} of the project)")


def add_argument_options(parser: argparse.ArgumentParser) -> None:
    """`-p` and `--force`: the arguments of one run."""
    group = parser.add_argument_group("this run")
    group.add_argument(
        "-p",
        "--param",
        action="append",
        default=[],
        dest="assignments",
        metavar="SECTION.KEY=VALUE",
        help="a parameter for this run, checked before anything starts; may be repeated",
    )
    group.add_argument(
        "--force",
        default="",
        metavar="TEXT",
        help="part of every cache key: a new text (a date, a ticket) makes every step run again",
    )


def add_connection_options(parser: argparse.ArgumentParser) -> None:
    """`--host` and the credentials, named as in kfp's own command line and kfp.Client."""
    group = parser.add_argument_group("the server")
    address = os.environ.get("KF_PIPELINES_ENDPOINT")
    group.add_argument(
        "--host",
        "--endpoint",
        metavar="URL",
        type=_parse_address,
        default=address,
        required=not address,
        help="Kubeflow Pipelines' API or UI, with http:// or https:// (KF_PIPELINES_ENDPOINT)",
    )
    group.add_argument(
        "--ui-host",
        metavar="URL",
        type=_parse_address,
        default=os.environ.get("KF_PIPELINES_UI_ENDPOINT"),
        help="address of the UI for links (KF_PIPELINES_UI_ENDPOINT, otherwise --host)",
    )
    group.add_argument("-n", "--namespace", metavar="NAME", help="your namespace on a multi-user server")
    token = group.add_mutually_exclusive_group()
    token.add_argument(
        "--token-file",
        type=Path,
        metavar="FILE",
        help="holds the bearer token; read at every call, so a renewed token is used",
    )
    token.add_argument(
        "--token",
        "--existing-token",
        metavar="TOKEN",
        help="the bearer token itself, visible to everyone in this machine's process list: prefer --token-file or the "
        "variable KFP_TOKEN (a session's cookies go into KFP_COOKIES)",
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
        help="certificate of the authority that signed the host's certificate",
    )


def images_from(options: argparse.Namespace) -> Images:
    """The two images; prints a warning for each without a digest.

    Raises:
        ParameterError: as for `parse_images`.
    """
    images = parse_images(options.image)
    for name in images:
        if not has_digest(name):
            print(
                f"warning: {name} is named by its tag, which can be moved to other content without Kubeflow's cache "
                "noticing; name it by digest (NAME@sha256:...)",
                file=sys.stderr,
            )
    return images


def params_from(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Every section of --params as plain values, checked: the defaults of the compiled pipeline."""
    sections = check_all(load_yaml(params_file(options)))
    return {name: section.model_dump(mode="json") for name, section in sections.items()}


def overrides_from(options: argparse.Namespace) -> dict[str, Any]:
    """The arguments of a run: each section that `-p` changes, complete, and `force`.

    Raises:
        ParameterError: an unknown section or key, or a value of the wrong type or out of range.
    """
    path = params_file(options)
    values = load_yaml(path)
    changed = assign(values, options.assignments, path)
    sections = check_all(values)
    overrides: dict[str, Any] = {name: sections[name].model_dump(mode="json") for name in changed}
    return overrides | ({"force": options.force} if options.force else {})


def resources_from(options: argparse.Namespace) -> Resources:
    """What each task requests from the cluster, reduced by `--cpu`."""
    resources = load_resources(options.resources)
    return resources.without_requests() if options.cpu else resources


def connection_from(options: argparse.Namespace) -> "Connection":
    from twofold.kubeflow.server.connection import Connection  # importing kfp takes long

    return Connection(**{field.name: getattr(options, field.name) for field in fields(Connection)})


def compile_from(options: argparse.Namespace, path: Path, params: Sections) -> None:
    """Compile the pipeline into a file."""
    compile_pipeline(path, images=images_from(options), resources=resources_from(options), params=params)


def params_file(options: argparse.Namespace) -> Path:
    """The parameter file: --params, otherwise that of the project."""
    return options.params or project_root() / PARAMS


def _parse_address(text: str) -> str:
    parts = urlsplit(text)
    if parts.username or parts.password:
        raise argparse.ArgumentTypeError("credentials in the address would be printed with it; use --token-file")
    # Not repeating the text, which may be meant as user:password@host.
    if parts.scheme not in ("http", "https") or not parts.netloc or parts.query or parts.fragment:
        raise argparse.ArgumentTypeError("not an address; write http://HOST:PORT or https://HOST/PATH")
    return text.rstrip("/")
