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
