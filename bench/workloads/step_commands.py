"""The commands of the pipeline's six steps, and the parameters of the demo."""

import shutil
from pathlib import Path

from twofold.cli.project.choices import PACKAGED
from twofold.orchestration.params_file import set_values

ROOT = Path(__file__).resolve().parents[2]


def step_commands(params: Path, folder: Path) -> dict[str, list[str]]:
    """The arguments of `python` for every step, in their order; all inputs and outputs are in `folder`."""
    paths = {name: folder / name for name in ("raw", "data", "head", "model", "evaluation")}
    raw, data, head, model, evaluation = paths.values()
    metrics, audits = folder / "metrics.json", folder / "audit"
    options = {
        "ingest": {"raw": raw, "metrics": folder / "ingest.json", "audit": audits / "ingest"},
        "preprocess": {"raw": raw, "data": data, "metrics": folder / "preprocess.json", "audit": audits / "preprocess"},
        "train_head": {"data": data, "preprocess_audit": audits / "preprocess", "model": head}
        | {"metrics": folder / "head.json", "audit": audits / "train_head"},
        "finetune_all": {"data": data, "head": head, "model": model, "metrics": folder / "finetuned.json"},
        "evaluate": {"data": data, "model": model, "evaluation": evaluation, "metrics": metrics},
        "register": paths
        | {f"{step}_audit": audits / step for step in ("ingest", "preprocess", "train_head")}
        | {"registration": folder / "registration", "verdict": folder / "verdict.json"}
        | {"index": folder / "index.html"},
    }
    return {
        step: ["-m", f"twofold.steps.{step}", "--params", str(params)]
        + [word for name, path in values.items() for word in (f"--{name}", str(path))]
        for step, values in options.items()
    }


def write_demo_params(path: Path, *changes: str) -> None:
    """Write params.yaml with the values that `twofold init` sets without ResNet-50's weights, and then `changes`."""
    shutil.copy(ROOT / "params.yaml", path)
    set_values(path, [f"{key}={value}" for key, value in PACKAGED.items()] + list(changes))
