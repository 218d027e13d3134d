"""The names of the two images that the tasks run in.

In: a name as a person writes it. Out: the same, if it says which image is meant.
"""

import re
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
