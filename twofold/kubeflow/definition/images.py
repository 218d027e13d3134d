"""The names of the two images that the tasks run in.

In: names as a person writes them. Out: the same, if they say which images are meant.
"""

import re
import subprocess
from collections.abc import Sequence
from typing import NamedTuple

from twofold.core.errors import ParameterError

_NAME = re.compile(
    r"^(?:[a-zA-Z0-9.-]+(?::[0-9]+)?/)?[a-z0-9]+(?:[._/-]+[a-z0-9]+)*"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}))?(?:@sha256:(?P<digest>[0-9a-f]{64}))?$"
)


class Images(NamedTuple):
    """`data` runs ingest and preprocess, `train` everything else."""

    data: str
    train: str


def image(name: str) -> str:
    """The name itself.

    Raises:
        ParameterError: it is no image's name, has neither tag nor digest, or the tag `latest`.
    """
    found = _NAME.match(name)
    if not found:
        raise ParameterError(
            f"image {name!r}: not a name like registry.example/twofold-train:1a2b3c or NAME@sha256:..."
        )
    if found["digest"]:
        return name
    if found["tag"] in (None, "latest"):
        raise ParameterError(
            f"image {name}: {'no tag, which means latest' if found['tag'] is None else 'the tag latest'} names other "
            "content every week, and Kubeflow's cache would not notice; give a tag that stays, or better a digest"
        )
    return name


def images_named(words: Sequence[str]) -> Images:
    """The images that `--image` names; those that it does not are ours, tagged with the git commit.

    Args:
        words: `data=NAME` or `train=NAME`.

    Raises:
        ParameterError: an unknown target, no tag, or the tag `latest`.
    """
    given: dict[str, str] = {}
    for word in words:
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


def _commit() -> str:
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
    except (FileNotFoundError, subprocess.CalledProcessError):
        raise ParameterError(
            "no git commit here by which images are tagged; give --image data=... --image train=..."
        ) from None
    return done.stdout.strip()
