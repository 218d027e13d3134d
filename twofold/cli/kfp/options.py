"""What the commands have in common on their command line: images, resources, parameters.

In: argparse's options. Out: images, resources, sections of parameters and the run's arguments, all checked before
anything is compiled or sent.
"""

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

from twofold.core.errors import ParameterError
from twofold.kubeflow.definition.images import Images, image
from twofold.kubeflow.definition.resources import DEFAULT, Resources, load
from twofold.orchestration.params_file import assign, check_all, load_yaml


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
    group.add_argument(
        "--resources", type=Path, default=DEFAULT, metavar="FILE", help="where the tasks run (%(default)s)"
    )
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
    group.add_argument(
        "--params", type=Path, default=Path("params.yaml"), metavar="FILE", help="the parameters (%(default)s)"
    )


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


def images_from(options: argparse.Namespace) -> Images:
    """The two images; a warning is printed for one without a digest.

    Raises:
        ParameterError: as `images_named`.
    """
    images = images_named(options)
    for name in images:
        if not by_digest(name):
            print(
                f"warning: {name} is named by its tag, which can be moved to other content without the cache noticing; "
                "name it by digest (NAME@sha256:...)",
                file=sys.stderr,
            )
    return images


def images_named(options: argparse.Namespace) -> Images:
    """The two images, nothing printed.

    Raises:
        ParameterError: an unknown target, no tag, or the tag `latest`.
    """
    given: dict[str, str] = {}
    for word in options.image:
        target, equals, name = word.partition("=")
        if not equals or target not in Images._fields:
            raise ParameterError(f"--image {word}: write it as data=NAME or train=NAME")
        given[target] = image(name)
    if len(given) < len(Images._fields):
        commit = _commit()
        given = {target: f"twofold-{target}:{commit}" for target in Images._fields} | given
    return Images(**given)


def by_digest(image: str) -> bool:
    """Whether the name can mean one content only."""
    return "@sha256:" in image


def resources_from(options: argparse.Namespace) -> Resources:
    """The file of --resources, checked."""
    return load(options.resources)


def params_from(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Every section of --params as plain values, checked: the defaults of the compiled pipeline."""
    values = load_yaml(options.params)
    return {name: section.model_dump(mode="json") for name, section in check_all(values).items()}


def overrides_from(options: argparse.Namespace) -> dict[str, Any]:
    """The arguments of a run: every section that `-p` changes, whole; and `force`.

    Raises:
        ParameterError: an unknown section or key, or a value of another type or out of range.
    """
    values = load_yaml(options.params)
    changed = assign(values, options.assignments, options.params)
    sections = check_all(values)
    found: dict[str, Any] = {name: sections[name].model_dump(mode="json") for name in changed}
    return found | ({"force": options.force} if options.force else {})


def _commit() -> str:
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        raise ParameterError(
            "no git commit here by which images are tagged; give --image data=... --image train=..."
        ) from None
    return done.stdout.strip()
