"""The errors that Twofold raises for people to read; every one ends a command with exit status 1.

TwofoldError
├── ParameterError   params.yaml: a wrong, missing or unknown key
├── DataError        images, labels, splits
│   └── SourceError  a source that does not answer, refuses, or changes while it is read
├── WeightsError     pretrained weights: missing, altered, of another architecture
├── ArtifactError    a step's files: missing, of another kind, altered
├── TrainingError    training that cannot go on
├── RegistryError    MLflow: tracking, registry, promotion
└── ServerError      Kubeflow's server: connection, authentication, what it refuses
"""

from collections.abc import Sequence


class TwofoldError(Exception):
    """What went wrong, in words that name the file or key, what was found and what is allowed."""


class ParameterError(TwofoldError):
    pass


class DataError(TwofoldError):
    pass


class SourceError(DataError):
    pass


class WeightsError(TwofoldError):
    pass


class ArtifactError(TwofoldError):
    pass


class TrainingError(TwofoldError):
    pass


class RegistryError(TwofoldError):
    pass


class ServerError(TwofoldError):
    pass


def first_line(error: BaseException) -> str:
    """The first line of an error's message; its type where it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def shortened(names: Sequence[str], most: int = 3) -> str:
    """The first few of many names: `a, b, c, …`."""
    return ", ".join(names[:most]) + (", …" if len(names) > most else "")


def listed(title: str, lines: Sequence[str], most: int) -> str:
    """A title with the first few of many lines indented below it, and how many more there are."""
    more = [f"… and {len(lines) - most} more"] if len(lines) > most else []
    return "\n  ".join([title, *lines[:most], *more])
