"""Summarizes a pipeline run, and each of its steps, from the metrics files and the verdict only."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from twofold.core.artifacts import read_json
from twofold.core.errors import shortened
from twofold.metrics.number_format import detection_sentence, weakest_slice, with_interval

KEPT = {"finetuned": "fine-tuned", "head_only": "head alone: fine-tuning was no better"}


class Files(NamedTuple):
    """The files that a summary reads, and the pages that it points to."""

    ingest: Path  # metrics of the step of that name, as are the next four
    preprocess: Path
    train_head: Path
    finetune_all: Path
    evaluate: Path
    register: Path  # the verdict
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
            train_head=reports / "head.json",
            finetune_all=reports / "finetuned.json",
            evaluate=reports / "evaluation" / "metrics.json",
            register=reports / "registration.json",
            model=root / "models" / "finetuned",
            audits=tuple(reports / "audit" / step / "audit.html" for step in ("ingest", "preprocess", "train_head")),
            report=reports / "evaluation" / "evaluation.html",
            decision=reports / "registration" / "decision.html",
        )


def summary(files: Files, ui: str = "") -> str:
    """Return what came of a run and where to read more, in twelve lines.

    Args:
        ui: the command that opens the MLflow UI on a run whose pages `twofold open` does not find.

    Raises:
        ArtifactError: a file is missing; the message names it.
    """
    ingest, preprocess, tuned, metrics, verdict, meta = map(
        read_json, (*files[:2], *files[3:6], files.model / "meta.json")
    )
    first, *more = verdict["raised"] or ["nothing was found"]
    splits = "/".join(str(preprocess[split]) for split in ("train", "validation", "test"))
    left_out = ingest["refused"] + preprocess["left_out"]
    size, positive = f"{meta['image_size']} px", meta["labels"][1]
    lines = {
        "verdict": _verdict(verdict),
        "gates": _gates(verdict["gates"]),
        "weakest slice": weakest_slice(metrics["slices"]),
        "audit": first + (f" and {len(more)} more" if more else ""),
        "metrics": ", ".join(f"{key} {with_interval(metrics, key)}" for key in ("accuracy", "roc_auc")),
        "data": f"{ingest['images']} images ({ingest['positive']} {positive}), split {splits}, {left_out} left out",
        "model": f"{meta['backbone']} ({meta['weights']}), {size}, {KEPT[tuned['winner']]}",
    }
    audit = files.audits[0].parents[1] / "*" / files.audits[0].name
    pages = {"decision": str(files.decision), "evaluation": str(files.report), "audit": str(audit), "mlflow": ui}
    if not ui:
        pages = {name: f"{f'twofold open {name}':<25}{page}".rstrip() for name, page in pages.items()}
    named = [f"{name:<15}{line}" for name, line in [*lines.items(), *pages.items()]]
    return "\n".join([_detection(metrics, positive), *named])


def approval_command(version: int) -> str:
    """Return the command that promotes a version which waits for review."""
    return f'twofold models approve {version} --reason "..."'


def step_result(step: str, files: Files) -> str:
    """Return the result of a finished step in a few words."""
    values = read_json(getattr(files, step))
    if step == "ingest":
        return f"{values['images']} images, {values['positive']} of them positive, {values['refused']} refused"
    if step == "preprocess":
        return f"{values['train']} train, {values['validation']} validation, {values['test']} test"
    if step == "train_head":
        epochs = f"epoch {values['best_epoch']} of {values['epochs']}"
        return f"{epochs}, validation roc_auc {values['validation']['roc_auc']:.3f}"
    if step == "finetune_all":
        winner = values["winner"]
        return f"{KEPT[winner]}, validation roc_auc {values['validation'][winner]['roc_auc']:.3f}"
    if step == "evaluate":
        return _detection(values, read_json(files.model / "meta.json")["labels"][1])
    return _verdict(values)


def _detection(metrics: Mapping[str, Any], positive: str) -> str:
    return detection_sentence(metrics, positive).replace("\N{NARROW NO-BREAK SPACE}", " ")  # terminals may lack it


def _gates(gates: list[Mapping[str, Any]]) -> str:
    applied = [gate for gate in gates if gate["applies"]]
    failed = [gate["name"] for gate in applied if not gate["passed"]]
    text = f"{len(applied) - len(failed)} of {len(applied)} passed"
    return f"{text}; FAILED: {shortened(failed, 1)}" if failed else text


def _verdict(verdict: Mapping[str, Any]) -> str:
    text = str(verdict["headline"])
    if verdict["nothing_new"]:
        text += ", the champion" if verdict["champion"] == verdict["version"] else ", which was not promoted"
    elif verdict["alias"] == "challenger" and not verdict["promoted"]:
        text += f": {approval_command(verdict['version'])}"
    return text
