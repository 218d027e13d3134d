"""Checks that a local run wrote every output of every task.

Reads a run's folder (`<task>/<output>`) and the pipeline; raises an error that names what is missing.
"""

from pathlib import Path
from typing import Any

from google.protobuf.json_format import MessageToDict

from twofold.core.artifacts import digest, read_json
from twofold.core.errors import ArtifactError
from twofold.orchestration.run_summary import Files

EXECUTOR_OUTPUT = "executor_output.json"  # in which kfp's executor records what a task returned
WITHOUT_FILE = "system.ClassificationMetrics"  # stored in the metadata only
# The output of each task that its parameter `digest` is computed from.
DIGESTED = {"ingest": "raw", "preprocess": "data", "train-head": "model", "finetune-all": "model"}
DIGESTED |= {"evaluate": "evaluation", "register": "registration"}


def check_outputs(folder: Path, pipeline: Any) -> None:
    """Check a run's folder against the outputs that the pipeline's tasks declare.

    Raises:
        ArtifactError: listing every output that is missing or empty, or that differs from its task's digest.
    """
    problems: list[str] = []
    for component in MessageToDict(pipeline.pipeline_spec)["components"].values():
        if "executorLabel" in component:
            task = component["executorLabel"].removeprefix("exec-")
            problems += [f"{task}: {problem}" for problem in _find_problems(folder / task, task, component)]
    if problems:
        raise ArtifactError(f"{folder}: the run is incomplete:\n  " + "\n  ".join(problems))


def _find_problems(folder: Path, task: str, component: dict[str, Any]) -> list[str]:
    outputs = component.get("outputDefinitions", {})
    if not (folder / EXECUTOR_OUTPUT).is_file():
        return ["did not finish"]
    returned = read_json(folder / EXECUTOR_OUTPUT)
    problems = []
    for name, artifact in outputs.get("artifacts", {}).items():
        path = folder / name
        if artifact["artifactType"]["schemaTitle"] == WITHOUT_FILE:
            if not returned["artifacts"][name]["artifacts"][0].get("metadata"):
                problems.append(f"{name} holds no metadata")
        elif not path.exists() or not (any(path.iterdir()) if path.is_dir() else path.stat().st_size):
            problems.append(f"{name} is missing or empty ({path})")
    for name in outputs.get("parameters", {}):
        if not returned.get("parameterValues", {}).get(name):
            problems.append(f"{name} was not returned")
    if not problems and task in DIGESTED:
        output = DIGESTED[task]
        if returned["parameterValues"]["digest"] != digest(folder / output):
            problems.append(f"{output} differs from the digest that the task returned")
    return problems


def summary_files(folder: Path) -> Files:
    """The files of a run's folder that the run's summary reads."""
    return Files(
        ingest=folder / "ingest" / "metrics",
        preprocess=folder / "preprocess" / "metrics",
        train_head=folder / "train-head" / "metrics",
        finetune_all=folder / "finetune-all" / "metrics",
        evaluate=folder / "evaluate" / "evaluation" / "metrics.json",
        register=folder / "register" / "verdict",
        model=folder / "finetune-all" / "model",
        audits=tuple(folder / step / "audit" / "audit.html" for step in ("ingest", "preprocess", "train-head")),
        report=folder / "evaluate" / "evaluation" / "evaluation.html",
        decision=folder / "register" / "registration" / "decision.html",
    )
