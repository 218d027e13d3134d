"""What a local run must have left behind: every task's every output, whole.

In: a run's folder (`<task>/<output>`) and the pipeline. Out: nothing, or an error that names what is missing.
"""

from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict

from twofold.core.artifacts import digest, read_json
from twofold.core.errors import ArtifactError
from twofold.orchestration.run_summary import Files

EXECUTED = "executor_output.json"  # in which kfp's executor keeps what a task returned
WITHOUT_FILE = "system.ClassificationMetrics"  # lives in the metadata alone
NAMED = {"ingest": "raw", "preprocess": "data", "train-head": "model", "finetune-all": "model"} | {
    "evaluate": "evaluation",
    "register": "registration",
}  # the output of a task whose bytes its digest is made of


def check_outputs(folder: Path, pipeline: Any) -> None:
    """Hold a run's folder to what the pipeline's tasks say they write.

    Raises:
        ArtifactError: listing every output that is missing or empty, or that is not what its task has named.
    """
    spec = MessageToDict(pipeline.pipeline_spec)
    problems: list[str] = []
    for component in spec["components"].values():
        if "executorLabel" not in component:
            continue
        task = component["executorLabel"].removeprefix("exec-")
        problems += [f"{task}: {problem}" for problem in _problems(folder / task, task, component)]
    if problems:
        raise ArtifactError(f"{folder}: the run is not whole:\n  " + "\n  ".join(problems))


def _problems(folder: Path, task: str, component: dict[str, Any]) -> list[str]:
    outputs = component.get("outputDefinitions", {})
    if not (folder / EXECUTED).is_file():
        return ["has not run to its end"]
    told = read_json(folder / EXECUTED)
    found = []
    for name, artifact in outputs.get("artifacts", {}).items():
        path = folder / name
        if artifact["artifactType"]["schemaTitle"] == WITHOUT_FILE:
            shown = told["artifacts"][name]["artifacts"][0].get("metadata")
            found += [] if shown else [f"{name} shows nothing"]
        elif not path.exists() or not (any(path.iterdir()) if path.is_dir() else path.stat().st_size):
            found.append(f"{name} is missing or empty ({path})")
    for name in outputs.get("parameters", {}):
        if not told.get("parameterValues", {}).get(name):
            found.append(f"{name} was not returned")
    if not found and task in NAMED and told["parameterValues"]["digest"] != digest(folder / NAMED[task]):
        found.append(f"{NAMED[task]} is not what the task has named by its digest")
    return found


def summary_files(folder: Path) -> Files:
    """What the summary reads, in a run's folder."""
    return Files(
        ingest=folder / "ingest" / "metrics",
        preprocess=folder / "preprocess" / "metrics",
        finetuned=folder / "finetune-all" / "metrics",
        metrics=folder / "evaluate" / "metrics",
        verdict=folder / "register" / "verdict",
        model=folder / "finetune-all" / "model",
        audits=tuple(folder / step / "audit" / "audit.html" for step in ("ingest", "preprocess", "train-head")),
        report=folder / "evaluate" / "evaluation" / "evaluation.html",
        decision=folder / "register" / "registration" / "decision.html",
    )
