"""Parses and checks the names of the two container images that the tasks run in."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from twofold.core.errors import ParameterError
from twofold.registry.provenance import run_git

_NAME = re.compile(
    r"^(?:[a-zA-Z0-9.-]+(?::[0-9]+)?/)?[a-z0-9]+(?:[._/-]+[a-z0-9]+)*"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?(?:@sha256:(?P<digest>[0-9a-f]{64}))?$"
)


class Images(NamedTuple):
    """`data` runs ingest, preprocess and check_gates, `train` everything else."""

    data: str
    train: str


def check_image(name: str) -> str:
    """Return the name if it identifies one image.

    Raises:
        ParameterError: not an image name, neither tag nor digest, or the tag `latest`.
    """
    match = _NAME.match(name)
    if not match:
        raise ParameterError(
            f"image {name!r}: not a name like registry.example/twofold-train:1a2b3c or NAME@sha256:..."
        )
    if not match["digest"] and match["tag"] in (None, "latest"):
        found = "the tag latest" if match["tag"] else "no tag, which means latest"
        raise ParameterError(
            f"image {name}: {found}; its content changes and Kubeflow's cache does not notice; use a fixed tag or, "
            "better, a digest"
        )
    return name


def parse_images(words: Sequence[str]) -> Images:
    """Parse `data=NAME` and `train=NAME`; an image that is not given is ours, tagged with the git commit.

    Raises:
        ParameterError: an unknown target, or as for `check_image`.
    """
    given: dict[str, str] = {}
    for word in words:
        target, equals, name = word.partition("=")
        if not equals or target not in Images._fields:
            raise ParameterError(f"--image {word}: write it as data=NAME or train=NAME")
        given[target] = check_image(name)
    if len(given) < len(Images._fields):
        if not (commit := (run_git(Path.cwd(), "rev-parse", "HEAD") or "").strip()):
            raise ParameterError(
                "found no git commit to name the default images by; give --image data=... --image train=..."
            )
        given = {target: f"twofold-{target}:{commit}" for target in Images._fields} | given
    return Images(**given)


def has_digest(image: str) -> bool:
    return "@sha256:" in image
