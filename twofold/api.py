"""The Python interface of Twofold: all that a team's own code needs. Everything else may change between versions.

from twofold import api

model = api.load_model("champion")  # of the registered model in params.yaml
for answer in api.predict(model, ["new/"]):
    print(answer.path, answer.label, answer.probability)
api.evaluate(model, "s3://bucket/labelled")["roc_auc"]
api.run_step("preprocess", raw="data/raw", data="data/prepared", metrics="p.json", audit="audit")
"""

import importlib
from collections.abc import Iterator, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from twofold.core.errors import DataError, ParameterError
from twofold.orchestration.params_file import PARAMS, STEPS, get_value, project_root, read
from twofold.orchestration.step_cli import signature
from twofold.serving.model_resolver import ResolvedModel, resolve_model
from twofold.serving.predict import Answer, find_files, predict_files
from twofold.sources.factory import open_source

__all__ = ["STEPS", "Answer", "ResolvedModel", "evaluate", "load_model", "predict", "run_step"]


def load_model(model: str = "champion", name: str | None = None) -> ResolvedModel:
    """Load a sealed model into memory, after all of its files were verified.

    Args:
        model: an alias (`champion`), a version (`3`), `models:/NAME/3`, `models:/NAME@champion`, or a folder.
        name: of the registered model; None for `register.model_name` of the project's params.yaml.

    Raises:
        RegistryError: there is no such model, alias or version, or the registry cannot be reached.
        ArtifactError: a file of the model is missing or altered.
    """
    with resolve_model(model, lambda: name or str(get_value(project_root() / PARAMS, "register.model_name"))) as found:
        return found


def predict(model: ResolvedModel, paths: Sequence[str]) -> Iterator[Answer]:
    """Yield one answer per file: path, label, probability of the positive class, threshold, version, error.

    Args:
        paths: files, folders, globs, `s3://bucket/prefix` or `dvc+…`. Only a file that is no image the model accepts
            has an error, and no label and probability.

    Raises:
        DataError: a path does not exist or contains no image.
        SourceError: a source failed while it was read.
    """
    yield from predict_files(model, find_files(paths))


def evaluate(model: ResolvedModel, source: str) -> dict[str, Any]:
    """Compute the metrics of a model on labelled images that it has not been trained on.

    Args:
        source: two class folders, or a folder with labels.csv, as for `ingest.source`.

    Returns:
        The metrics at the model's threshold and their 95 % intervals, with the keys of
        `reports/evaluation/metrics.json`; images of one group count as one sample.

    Raises:
        DataError: a class is not one of the model's, or an image cannot be decoded.
        SourceError: the source failed while it was read.
    """
    from twofold.metrics.classification import metrics_summary
    from twofold.metrics.metric_intervals import metric_intervals
    from twofold.serving.image_loader import ImageFile

    opened = open_source(source)
    entries = opened.listing().entries
    labels = model.sealed.labels
    if unknown := sorted({entry.label for entry in entries} - {*labels}):
        raise DataError(f"{opened.name}: found {', '.join(unknown)}; the model knows {' and '.join(labels)}")
    answers = list(predict_files(model, [ImageFile(entry.key, opened, entry.key) for entry in entries]))
    if refused := [f"{answer.path}: {answer.error}" for answer in answers if answer.error]:
        raise DataError(f"{opened.name}: {len(refused)} of {len(answers)} images have no prediction: {refused[0]}")
    target = [labels.index(entry.label) for entry in entries]
    outputs = [answer.probability or 0.0 for answer in answers], model.sealed.threshold
    intervals = metric_intervals(target, *outputs, [entry.group for entry in entries])
    return {**metrics_summary(target, *outputs), "intervals": intervals}


def run_step(step: str, params: str | PathLike[str] = PARAMS, **paths: str | PathLike[str]) -> None:
    """Run one of the six steps, as `python -m twofold.steps.STEP` and `dvc repro` do.

    Args:
        step: one of STEPS.
        params: the file with all sections.
        paths: of everything that the step reads and writes, by name: see `python -m twofold.steps.STEP --help`.

    Raises:
        ParameterError: the step is unknown, a path is missing or not known, or params.yaml is wrong.
        TwofoldError: what the step itself reports.
    """
    if step not in STEPS:
        raise ParameterError(f"step: found {step!r}, allowed are {', '.join(STEPS)}")
    work = getattr(importlib.import_module(f"twofold.steps.{step}"), step)
    reads, writes = signature(work)
    if {*paths} != {*reads, *writes}:
        wanted = f"reads {', '.join(reads) or 'nothing'} and writes {', '.join(writes)}"
        raise ParameterError(f"{step} {wanted}; found {', '.join(sorted(paths)) or 'none'}")
    work(read(Path(params))[step], **{name: Path(path) for name, path in paths.items()})
