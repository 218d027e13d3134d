"""A project of Twofold 0.1.0 as a user has it, with a champion, a ledger and artifacts: release_0_1_0.tar.xz.

The code is that of commit dbe5a48, the last one before the package was divided into folders, which is the first change
of 0.2.0: its version is 0.1.0, and it has all that CHANGELOG.md lists under 0.1.0.

`python -m tests.support.release_case` makes the file again in a few minutes: it runs the six steps of that commit with
`dvc repro` for four candidates, and its commands for the decisions. The only change of its code is a backbone of eight
features, which keeps the file small. The first candidate was refused, versions 1 and 2 were promoted, version 3 is a
challenger under review, and then Ann rolled back to 1 and to 2, which is the champion. PNG charts are left out.
"""

import inspect
import os
import shutil
import sqlite3
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from torch import nn

from twofold.model import classifier

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "tests" / "golden" / "release_0_1_0.tar.xz"
COMMIT = "dbe5a48"
PLACE = Path("/tmp/twofold-0.1.0")  # where it was made: MLflow's tables hold this address
PACKED = ("params.yaml", "mlflow.db", "mlartifacts", "data", "models", "reports", "answers.jsonl", "networks.json")
ADDRESSES = (
    "UPDATE experiments SET artifact_location = replace(artifact_location, ?, ?)",
    "UPDATE runs SET artifact_uri = replace(artifact_uri, ?, ?)",
    "UPDATE logged_models SET artifact_location = replace(artifact_location, ?, ?)",
    "UPDATE model_versions SET storage_location = replace(storage_location, ?, ?)",
)
IMAGES = """
from pathlib import Path
from tests.makers import make_folder

root = make_folder(Path("data/images"), per_class=50, size=32)
rows = ["path,label,group,line"]
for path in sorted(root.glob("*/*.png")):
    folder, number = path.parent.name, int(path.stem)
    label = {"bad": "good", "good": "bad"}[folder] if number // 2 % 6 == 0 else folder  # models must not be perfect
    rows.append(f"{folder}/{path.name},{label},{folder}-{number // 2},{'north' if number % 3 else 'south'}")
(root / "labels.csv").write_text("\\n".join([*rows, ""]))
"""
NETWORKS = """
import json
from pathlib import Path

import torch
from twofold.model import BACKBONES, build

with torch.device("meta"):
    states = {name: build(name, 0.5).state_dict() for name in BACKBONES}
networks = {name: {key: [*value.shape] for key, value in state.items()} for name, state in states.items()}
Path("networks.json").write_text(json.dumps(networks))
"""
SETTINGS = (
    *("ingest.source=data/images", "ingest.positive=bad", "preprocess.image_size=32"),
    *("preprocess.validation_fraction=0.25", "preprocess.test_fraction=0.3"),
    *("train_head.backbone=tiny", "train_head.weights=random", "train_head.epochs=10"),
)
GATES = (
    "register.gates=[{figure: accuracy, min: 0.55}, {figure: accuracy, min: 0.3, bound: lower}, {figure: f1, "
    "non_inferior_by: 0.5}, {figure: accuracy, min: 0.3, slice: line}, {figure: vanished_test_images, max: 0}]"
)
# Learning rate, epochs, promotion.
CANDIDATES = ((0.005, 3, "auto"), (0.01, 5, "auto"), (0.02, 6, "auto"), (0.02, 12, "review"))


def _tiny() -> nn.Module:
    pool = (nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(nn.Conv2d(3, 8, 7, 4), nn.BatchNorm2d(8), nn.ReLU(), *pool)


ARCHITECTURE = {"features": 8, "mean": (0.5,) * 3, "std": (0.5,) * 3, "stages": (("0.", "1."),)}
BACKBONE = f'\n\n{inspect.getsource(_tiny)}\n\nBACKBONES["tiny"] = Backbone(make=_tiny, **{ARCHITECTURE})\n'


def know_tiny(patch: pytest.MonkeyPatch) -> None:
    """Add the backbone to this process."""
    patch.setitem(classifier.BACKBONES, "tiny", classifier.Backbone(make=_tiny, **ARCHITECTURE))


def unpack(folder: Path) -> Path:
    """Unpack the project into a folder that does not exist, and let MLflow's tables name this folder."""
    with tarfile.open(FILE) as archive:
        archive.extractall(folder, filter="data")
    move(folder / "mlflow.db", PLACE, folder)
    return folder


def move(database: Path, old: Path, new: Path) -> None:
    """Replace a folder in all addresses of a SQLite database of MLflow."""
    with sqlite3.connect(database) as tables:
        for change in ADDRESSES:
            tables.execute(change, (str(old), str(new)))
    tables.close()


def make() -> None:
    """Make the project with the code of COMMIT, and pack it."""
    PLACE.mkdir()
    try:
        code = subprocess.run(["git", "archive", COMMIT], cwd=ROOT, stdout=subprocess.PIPE, check=True).stdout
        subprocess.run(["tar", "x"], cwd=PLACE, input=code, check=True)
        model, step = PLACE / "twofold" / "model.py", PLACE / "twofold" / "steps" / "train_head.py"
        model.write_text(model.read_text().replace("\n\nclass Classifier(", f"{BACKBONE}\n\nclass Classifier("))
        step.write_text(step.read_text().replace('"efficientnet_lite0"]', '"efficientnet_lite0", "tiny"]'))
        shutil.copy(PLACE / "tests" / "params.yaml", PLACE)
        run("-c", "from setuptools import setup; setup()", "-q", "egg_info")  # so that it says 0.1.0
        run("-c", IMAGES)
        run("-c", NETWORKS)
        git("init", "--quiet")
        for rate, epochs, promotion in CANDIDATES:
            own = [f"finetune_all.{name}learning_rate={rate}" for name in ("", "head_")]
            own += [f"finetune_all.epochs={epochs}", f"register.promotion={promotion}"]
            run("-m", "twofold.cli", "params", "set", *SETTINGS, GATES, *own)
            git("add", "--all")
            git("commit", "--quiet", "--message", "a candidate")
            run("-m", "dvc", "repro")
        for version in ("1", "2"):
            run("-m", "twofold.cli", "models", "rollback", version, "--reason", "a trial", "--actor", "ann")
        run("-m", "twofold.cli", "predict", "champion", "data/images", "--to", "answers.jsonl")
        with sqlite3.connect(PLACE / "mlflow.db") as tables:
            tables.execute("VACUUM")
        with tarfile.open(FILE, "w:xz", preset=9) as archive:
            for name in PACKED:
                archive.add(PLACE / name, name, filter=_without_owner_and_charts)
    finally:
        shutil.rmtree(PLACE)


def _without_owner_and_charts(entry: tarfile.TarInfo) -> tarfile.TarInfo | None:
    entry.uid = entry.gid = entry.mtime = 0
    entry.uname = entry.gname = ""
    return None if entry.name.endswith(".png") and "images" not in entry.name else entry


def run(*words: str) -> None:
    """Run Python in the project, with its code."""
    own = {"HOME": str(PLACE / ".home"), "PYTHONPATH": str(PLACE), "OMP_NUM_THREADS": "1", "LOGNAME": "ann"}
    own |= {"MLFLOW_DISABLE_TELEMETRY": "true", "DVC_NO_ANALYTICS": "true", "PATH": path_with_python()}
    subprocess.run([sys.executable, *words], cwd=PLACE, env=own, check=True)


def git(*words: str) -> None:
    """Run Git in the project."""
    subprocess.run(["git", "-c", "user.name=ann", "-c", "user.email=ann@example.com", *words], cwd=PLACE, check=True)


def path_with_python() -> str:
    """PATH, with this Python first."""
    return f"{Path(sys.executable).parent}:{os.environ['PATH']}"


if __name__ == "__main__":
    make()
