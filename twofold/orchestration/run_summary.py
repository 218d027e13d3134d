"""Summarizes a pipeline run for a terminal, from the metrics files and the verdict only."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from twofold.core.artifacts import read_json
from twofold.evaluation.slice_names import in_order

METRICS = (
    "accuracy",
    "precision",
    "recall",
    "f1",
    "specificity",
    "roc_auc",
    "average_precision",
    "log_loss",
    "brier",
    "ece",
)
MAX_VALUES = 10  # of a slice column; the report shows more


class Files(NamedTuple):
    """The files that a summary reads, and the pages that it points to."""

    ingest: Path  # metrics of the step of that name, as are the next three
    preprocess: Path
    finetuned: Path
    metrics: Path
    verdict: Path
    model: Path  # folder of the fine-tuned model
    audits: tuple[Path, ...]  # pages, in the order of the steps
    report: Path
    decision: Path

    @classmethod
    def of(cls, root: Path) -> "Files":
        """Return the files of `dvc repro` in a project's folder."""
        reports = root / "reports"
        return cls(
            ingest=reports / "ingest.json",
            preprocess=reports / "preprocess.json",
            finetuned=reports / "finetuned.json",
            metrics=reports / "evaluation" / "metrics.json",
            verdict=reports / "registration.json",
            model=root / "models" / "finetuned",
            audits=tuple(reports / "audit" / step / "audit.html" for step in ("ingest", "preprocess", "train_head")),
            report=reports / "evaluation" / "evaluation.html",
            decision=reports / "registration" / "decision.html",
        )


def summary(files: Files, ui: str) -> str:
    """Return data, splits, model, test metrics, gates, registration and where to read more, a few lines each.

    Args:
        files: of the run.
        ui: the command that opens the MLflow UI on the run.

    Raises:
        ArtifactError: a file is missing; the message names it.
    """
    paths = (files.ingest, files.preprocess, files.finetuned, files.metrics, files.verdict, files.model / "meta.json")
    ingest, preprocess, finetuned, metrics, verdict, meta = map(read_json, paths)
    negative, positive = meta["labels"]
    counts = f"{ingest['images']} images: {ingest['positive']} {positive}, {ingest['negative']} {negative}"
    kept = "fine-tuned" if finetuned["winner"] == "finetuned" else "head only: fine-tuning was not better"
    blocks = {
        "data": [f"{counts}; {ingest['refused']} refused"],
        "splits": [_splits(preprocess, positive)],
        "model": [f"{meta['backbone']} ({meta['weights']}), {meta['image_size']} px; {kept}"],
        "test": _test_metrics(metrics),
        "gates": _gates(verdict),
        "registry": _registry(verdict),
        "pages": [
            *(f"{page}   data audit" for page in files.audits),
            f"{files.report}   evaluation on the test images",
            f"{files.decision}   the verdict, gate by gate",
            f"{ui}   the MLflow UI: runs and the registered model",
        ],
    }
    width = max(map(len, blocks))
    text = ""
    for name, lines in blocks.items():
        text += "\n" + "".join(f"  {'' if i else name:<{width}}  {line}\n" for i, line in enumerate(lines))
    return text


def _splits(preprocess: Mapping[str, Any], positive: str) -> str:
    words = [
        f"{preprocess[split]} {split} ({preprocess[f'{split}_{positive}']} {positive})"
        for split in ("train", "validation", "test")
    ]
    return f"{', '.join(words)}; {preprocess['left_out']} left out as duplicates or split leakage"


def _test_metrics(metrics: Mapping[str, Any]) -> list[str]:
    lines = [
        f"on {metrics['n']} unseen images; temperature {metrics['temperature']:.3f} and threshold "
        f"{metrics['threshold']:.3f} were chosen on validation; 95 % confidence intervals in brackets"
    ]
    lines += [f"{name:<18} {_with_interval(metrics, name)}" for name in METRICS if isinstance(metrics.get(name), float)]
    for column, by_value in metrics["slices"].items():
        values = in_order(column, by_value)
        for value in values[:MAX_VALUES]:
            own = by_value[value]
            if "accuracy" in own:
                few = "" if own["judged"] else ", too few to judge"
                lines.append(f"{column} {value}: accuracy {_with_interval(own, 'accuracy')}, n = {own['n']}{few}")
        if len(values) > MAX_VALUES:
            lines.append(f"{column}: {len(values) - MAX_VALUES} more values are in the report")
    return lines


def _with_interval(metrics: Mapping[str, Any], name: str) -> str:
    """Format a metric with its interval, if it has one: "0.893 (0.867 to 0.914)"."""
    bounds = metrics["intervals"].get(name)
    return f"{metrics[name]:.3f}" + (f" ({bounds['low']:.3f} to {bounds['high']:.3f})" if bounds else "")


def _gates(verdict: Mapping[str, Any]) -> list[str]:
    lines = []
    for gate in verdict["gates"]:
        result = ("passed" if gate["passed"] else "FAILED") if gate["applies"] else "does not apply"
        lines.append(f"{result:<15} {gate['name']}: {gate['detail']}")
    return lines or ["none"]


def _registry(verdict: Mapping[str, Any]) -> list[str]:
    name, version = verdict["name"], verdict["version"]
    role = "is its champion" if version and verdict["champion"] == version else "was not promoted"
    if verdict["nothing_new"]:
        line = f"nothing new since version {version} of '{name}'; it {role}"
    elif verdict["registered"]:
        line = f"version {version} of '{name}' registered; it {role}"
    else:
        line = f"{'refused' if verdict['reasons'] else 'recorded'}; nothing was registered"
    return [line, *verdict["reasons"]]
