"""What the last run of the pipeline came to, for a terminal: read from the metrics and the verdict, nothing heavier.

In: the folder of a project whose `dvc repro` has run. Out: text.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twofold.artifacts import read_json

SHOWN = ("accuracy", "precision", "recall", "f1", "specificity", "roc_auc", "average_precision", "log_loss", "brier")


def summary(root: Path) -> str:
    """Data, splits, model, test figures, gates, registration and where to look on, a line or a few each.

    Raises:
        ArtifactError: a file is missing; the message names it.
    """
    reports = root / "reports"
    read = {name: read_json(reports / f"{name}.json") for name in ("ingest", "preprocess", "finetuned", "metrics")}
    verdict = read_json(reports / "registration.json")
    meta = read_json(root / "models" / "finetuned" / "meta.json")
    negative, positive = meta["labels"]
    parts = [
        ("data", _data(read["ingest"], negative, positive)),
        ("splits", _splits(read["preprocess"], positive)),
        ("model", _model(meta, read["finetuned"])),
        ("test", _figures(read["metrics"])),
        ("gates", _gates(verdict)),
        ("registry", _registry(verdict)),
        ("look", _look(reports)),
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
    lines = [f"{name:<18} {metrics[name]:.3f}" for name in SHOWN if isinstance(metrics.get(name), float)]
    lines[0] += (
        f"   on {metrics['n']} unseen images, at the threshold {metrics['threshold']:.3f} (chosen on validation)"
    )
    for column, values in metrics.get("slices", {}).items():
        for value, figures in values.items():
            accuracy = figures.get("accuracy")
            if accuracy is not None:
                lines.append(f"{column} {value}: accuracy {accuracy:.3f} (n = {figures['n']})")
    return lines


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


def _look(reports: Path) -> list[str]:
    return [
        f"{reports / 'evaluation' / 'evaluation.html'}   how good it is, with pictures",
        f"{reports / 'registration' / 'decision.html'}   the verdict, gate by gate",
        "make ui   MLflow's page on the runs and the registered model",
    ]
