"""What a run of the pipeline came to, for a terminal: read from the metrics and the verdict, nothing heavier.

In: where the run's files lie, by default those of `dvc repro`. Out: text.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from twofold.core.artifacts import read_json
from twofold.evaluation.slice_names import in_order

SHOWN = (
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
MOST_VALUES = 10  # of a slice column; the report shows more


class Files(NamedTuple):
    """What a summary reads, and the pages that it points to."""

    ingest: Path  # metrics of the step of that name, as are the next three
    preprocess: Path
    finetuned: Path
    metrics: Path
    verdict: Path
    model: Path  # folder of the whole model
    audits: tuple[Path, ...]  # pages, in the order of the steps
    report: Path
    decision: Path

    @classmethod
    def of(cls, root: Path) -> "Files":
        """Those of `dvc repro` in a project's folder."""
        reports = root / "reports"
        return cls(
            ingest=reports / "ingest.json",
            preprocess=reports / "preprocess.json",
            finetuned=reports / "finetuned.json",
            metrics=reports / "metrics.json",
            verdict=reports / "registration.json",
            model=root / "models" / "finetuned",
            audits=tuple(reports / "audit" / step / "audit.html" for step in ("ingest", "preprocess", "train_head")),
            report=reports / "evaluation" / "evaluation.html",
            decision=reports / "registration" / "decision.html",
        )


def summary(files: Files, ui: str = "make ui") -> str:
    """Data, splits, model, test figures, gates, registration and where to look on, a line or a few each.

    Args:
        files: of the run.
        ui: the command that opens MLflow's page on it.

    Raises:
        ArtifactError: a file is missing; the message names it.
    """
    steps = [read_json(path) for path in (files.ingest, files.preprocess, files.finetuned, files.metrics)]
    ingest, preprocess, finetuned, metrics = steps
    verdict = read_json(files.verdict)
    meta = read_json(files.model / "meta.json")
    negative, positive = meta["labels"]
    parts = [
        ("data", _data(ingest, negative, positive)),
        ("splits", _splits(preprocess, positive)),
        ("model", _model(meta, finetuned)),
        ("test", _figures(metrics)),
        ("gates", _gates(verdict)),
        ("registry", _registry(verdict)),
        ("look", _look(files, ui)),
    ]
    width = max(len(name) for name, _ in parts)
    lines = []
    for name, block in parts:
        lines += [f"  {name if not i else '':<{width}}  {line}" for i, line in enumerate(block)] + [""]
    return "\n".join(["", *lines]).rstrip() + "\n"


def _data(ingest: Mapping[str, Any], negative: str, positive: str) -> list[str]:
    line = f"{ingest['images']} images: {ingest['positive']} {positive}, {ingest['negative']} {negative}"
    return [f"{line}; {ingest['refused']} refused"]


def _splits(preprocess: Mapping[str, Any], positive: str) -> list[str]:
    words = [
        f"{preprocess[split]} {split} ({preprocess[f'{split}_{positive}']} {positive})"
        for split in ("train", "validation", "test")
    ]
    return [", ".join(words) + f"; {preprocess['left_out']} left out as repeats"]


def _model(meta: Mapping[str, Any], finetuned: Mapping[str, Any]) -> list[str]:
    kept = "fine-tuned" if finetuned["winner"] == "finetuned" else "head only: fine-tuning did not beat it"
    return [f"{meta['backbone']} ({meta['weights']}), {meta['image_size']} px; {kept}"]


def _figures(metrics: Mapping[str, Any]) -> list[str]:
    lines = [
        f"on {metrics['n']} unseen images; temperature {metrics['temperature']:.3f} and threshold "
        f"{metrics['threshold']:.3f} were chosen on validation; in brackets 95 % intervals"
    ]
    lines += [f"{name:<18} {_figure(metrics, name)}" for name in SHOWN if isinstance(metrics.get(name), float)]
    for column, values in metrics["slices"].items():
        order = in_order(column, values)
        for value in order[:MOST_VALUES]:
            figures = values[value]
            if "accuracy" in figures:
                few = "" if figures["judged"] else ", too few to judge"
                words = f"accuracy {_figure(figures, 'accuracy')}, n = {figures['n']}{few}"
                lines.append(f"{column} {value}: {words}")
        if len(order) > MOST_VALUES:
            lines.append(f"{column}: {len(order) - MOST_VALUES} more values are in the report")
    return lines


def _figure(figures: Mapping[str, Any], name: str) -> str:
    """A figure with its interval: "0.893 (0.867 to 0.914)"."""
    ends = figures["intervals"].get(name)
    return f"{figures[name]:.3f}" + (f" ({ends['low']:.3f} to {ends['high']:.3f})" if ends else "")


def _gates(verdict: Mapping[str, Any]) -> list[str]:
    lines = []
    for gate in verdict["gates"]:
        word = ("passed" if gate["passed"] else "FAILED") if gate["applies"] else "does not apply"
        lines.append(f"{word:<15} {gate['name']}: {gate['detail']}")
    return lines or ["none"]


def _registry(verdict: Mapping[str, Any]) -> list[str]:
    name, version = verdict["name"], verdict["version"]
    if verdict["nothing_new"]:
        line = f"nothing new since version {version} of '{name}'"
    elif not verdict["registered"]:
        line = "refused; nothing was registered" if verdict["reasons"] else "recorded; nothing was registered"
    else:
        line = f"version {version} of '{name}' registered"
    alias = "is its champion" if verdict["champion"] == version and version else "was not promoted"
    return [f"{line}; it {alias}" if verdict["registered"] or verdict["nothing_new"] else line, *verdict["reasons"]]


def _look(files: Files, ui: str) -> list[str]:
    return [
        *(f"{page}   what is odd about the data, with pictures" for page in files.audits),
        f"{files.report}   how good it is, with pictures",
        f"{files.decision}   the verdict, gate by gate",
        f"{ui}   MLflow's page on the runs and the registered model",
    ]
