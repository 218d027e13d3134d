"""A small project of its own in a temporary folder: 60 generated images, a random ResNet-50 at 64 px."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.makers import make_folder
from twofold.orchestration.params_file import set_values

ROOT = Path(__file__).resolve().parents[2]


WRITTEN = (  # by the first five steps, whose bytes depend on their inputs only
    "data/raw",
    "reports/ingest.json",
    "data/prepared",
    "reports/preprocess.json",
    "models/head",
    "reports/head.json",
    "models/finetuned",
    "reports/finetuned.json",
    "reports/evaluation",
    "reports/metrics.json",
)


class Project:
    """A folder with dvc.yaml, params.yaml and images, in which commands are run."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.first: dict[str, str] = {}  # digests of what the first run wrote
        home = root.parent / "home"
        home.mkdir(exist_ok=True)
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "GIT_", "DVC_"))}
        self.env = kept | {
            "HOME": str(home),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PYTHONPATH": str(root),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DVC_NO_ANALYTICS": "true",
            "GIT_CONFIG_NOSYSTEM": "1",
        }

    def run(self, *words: str, check: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            words, cwd=self.root, env=self.env | env, capture_output=True, text=True, timeout=900, check=False
        )
        assert not check or done.returncode == 0, f"{words}:\n{done.stdout}\n{done.stderr}"
        return done

    def digests(self, *parts: str) -> dict[str, str]:
        from twofold.core.artifacts import digest

        return {part: digest(self.root / part) for part in parts}


def make_project(root: Path) -> Project:
    root.mkdir()
    for folder in ("twofold", "components", "pipelines", ".dvc"):
        ignored = shutil.ignore_patterns("__pycache__", "tmp", "cache", "config.local")
        shutil.copytree(ROOT / folder, root / folder, ignore=ignored)
    for name in ("dvc.yaml", ".dvcignore", ".gitignore"):
        shutil.copy(ROOT / name, root / name)
    shutil.copy(ROOT / "tests" / "params.yaml", root)
    make_folder(root / "data" / "images", per_class=30)
    set_values(root / "params.yaml", SMALL)
    project = Project(root)
    project.run("git", "init", "--quiet")
    return project


SMALL = [
    "ingest.source=data/images",
    "ingest.positive=bad",
    "ingest.min_per_class=10",
    "preprocess.image_size=64",
    "preprocess.validation_fraction=0.25",
    "preprocess.test_fraction=0.3",
    "train_head.weights=random",
    "train_head.epochs=4",
    "finetune_all.epochs=2",
    # Eighteen test images give wide intervals: the limits apply to the metrics themselves, except for one.
    "register.gates=[{figure: roc_auc, min: 0.85}, {figure: accuracy, min: 0.6}, {figure: f1, non_inferior_by: 0.05}, "
    "{figure: accuracy, min: 0.1, bound: lower}, {figure: vanished_test_images, max: 0}]",
]


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project in which the pipeline has run once."""
    project = make_project(tmp_path_factory.mktemp("pipeline") / "project")
    project.run("dvc", "repro")
    project.first = project.digests(*WRITTEN)
    return project
