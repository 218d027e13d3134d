"""What must hold in this project whatever its images are; add your own tests here."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def run(*words):
    return subprocess.run([sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_parameters_are_valid():
    done = run("twofold.cli", "params", "check")
    assert done.returncode == 0, done.stderr


def test_the_pipeline_compiles_for_kubeflow(tmp_path):
    images = ("--image", "data=twofold-data:test", "--image", "train=twofold-train:test")
    done = run("pipelines", "compile", "--output", str(tmp_path / "pipeline.yaml"), *images)
    assert done.returncode == 0, done.stderr
    assert "register" in (tmp_path / "pipeline.yaml").read_text()
