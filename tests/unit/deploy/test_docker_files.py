"""The Dockerfile and the scripts around it, without a container engine."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()
INSTRUCTIONS = re.sub(r"\\\n\s*", "", re.sub(r"(?m)^#.*\n", "", DOCKERFILE)).splitlines()
# What the images are made of; all but docker/ goes into the wheel, which lies in docker/wheel/.
SHIPPED = (".dockerignore", "docker", "LICENSE", "NOTICE", "pyproject.toml", "README.md", "setup.py", "twofold")


def bash(text, cwd, **env):
    words = ["bash", "-euc", text]
    path = f"{cwd}/bin:/usr/local/bin:/usr/bin:/bin"
    return subprocess.run(words, cwd=cwd, env={"PATH": path} | env, capture_output=True, text=True, check=False)


@pytest.fixture
def clone(tmp_path):
    """A repository with one commit that holds the scripts and what goes into the images."""
    for name in SHIPPED:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    (tmp_path / ".gitignore").write_text("__pycache__/\nbin/\n")
    for path in (tmp_path / "docker" / "wheel").glob("*.whl"):
        path.unlink()  # of `make images`
    (tmp_path / "docker" / "wheel" / "twofold-0.7.0-py3-none-any.whl").touch()
    git = "git -c user.name=T -c user.email=t@example.org"
    done = bash(f"git init -q && git add -A && {git} commit -q -m one && git rev-parse HEAD", tmp_path)
    return tmp_path, done.stdout.strip()


def engine(folder, name="podman"):
    """Install an engine that answers and records its command lines."""
    path = folder / "bin" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(f'#!/bin/sh\necho "{name} $*" >> {folder}/bin/log\n')
    path.chmod(0o755)


def commands(folder):
    return [line for line in (folder / "bin" / "log").read_text().splitlines() if not line.endswith(" info")]


def test_hadolint_finds_nothing():
    hadolint = Path(sys.executable).parent / "hadolint"
    words = [hadolint, "--no-color", ROOT / "docker" / "Dockerfile"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert "hadolint ignore" not in DOCKERFILE


def test_every_installation_requires_hashes_or_uses_no_index():
    installs = [line for line in INSTRUCTIONS if re.search(r"\bpip (install|wheel)\b", line)]
    assert len(installs) == 6
    for line in installs:
        assert ("--require-hashes" in line) != ("--no-index" in line), line
        assert "--no-deps" in line, line
    assert not [line for line in INSTRUCTIONS if re.search(r"apt-get|curl|wget", line)]


def test_the_base_is_one_argument_with_a_patch_version():
    assert re.search(r"^ARG BASE=docker\.io/library/python:3\.11\.\d+-slim-bookworm$", DOCKERFILE, re.MULTILINE)
    froms = [line.split()[1:] for line in INSTRUCTIONS if line.startswith("FROM ")]
    stages = {words[2] for words in froms}
    assert stages >= {"data", "train", "server"}
    assert {words[0] for words in froms} - stages == {"${BASE}"}


@pytest.mark.parametrize("target", ["data", "train", "server"])
def test_a_target_runs_as_a_numeric_user_and_has_labels_of_its_origin(target):
    body = DOCKERFILE.partition(f" AS {target}\n")[2].partition("\nFROM ")[0]
    assert re.findall(r"^USER (\d+):(\d+)$", body, re.MULTILINE) == [("10001", "10001")]
    for label in ("title", "description", "licenses", "revision", "version", "source"):
        assert f"org.opencontainers.image.{label}=" in body, label


def test_the_build_context_is_an_explicit_list():
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    assert [line for line in lines if line.startswith("!")] == ["!docker"]
    context = re.search(r"CONTEXT=\((.*)\)", (ROOT / "docker" / "engine.sh").read_text())[1].split()
    assert tuple(context) == SHIPPED


def test_images_are_tagged_with_the_commit_and_labelled(clone):
    folder, commit = clone
    engine(folder)
    bash("git remote add origin https://bob:hunter2@git.example/vision.git", folder)
    done = bash("BASE=mine:1 WEIGHTS=resnet50:imagenet1k_v1 BUILD_FLAGS='--network host' docker/images", folder)
    assert done.returncode == 0, done.stderr
    names = [f"localhost/twofold-{target}:{commit}" for target in ("data", "train")]
    assert done.stdout.split() == ["--image", f"data={names[0]}", "--image", f"train={names[1]}"]
    for line, name, target in zip(commands(folder), names, ("data", "train"), strict=True):
        assert line.startswith("podman build --file docker/Dockerfile ")
        assert f"--target {target} --tag {name} ." in line
        source = "SOURCE=https://git.example/vision.git"
        for word in (f"REVISION={commit}", "VERSION=0.7.0 ", "BASE=mine:1", "WEIGHTS=resnet50:imagenet1k_v1", source):
            assert f"--build-arg {word}" in line
        assert "--network host" in line
        assert "hunter2" not in line


@pytest.mark.parametrize(
    ("remote", "expected"),
    [
        ("https://git.example/vision.git", "https://git.example/vision.git"),
        ("https://oauth2:s3cret@git.example/vision.git", "https://git.example/vision.git"),
        ("ssh://git@git.example:22/vision.git", "ssh://git.example:22/vision.git"),
        ("git@git.example:team/vision.git", "git@git.example:team/vision.git"),
        ("/home/bob/vision", "unknown"),
        ("../vision", "unknown"),
        ("file:///home/bob/vision", "unknown"),
        (None, "unknown"),
    ],
)
def test_the_source_label_holds_no_secret_and_no_local_folder(clone, remote, expected):
    folder, _ = clone
    if remote:
        bash(f"git remote add origin {remote}", folder)
    assert bash("source docker/engine.sh; source_address", folder).stdout.strip() == expected


@pytest.mark.parametrize(
    "changed", ["twofold/model/classifier.py", "twofold/new.py", "docker/data.lock", "pyproject.toml"]
)
def test_a_changed_tree_is_tagged_dirty_and_not_pushed(clone, changed):
    folder, commit = clone
    engine(folder)
    with (folder / changed).open("a") as file:
        file.write("\n# changed\n")
    done = bash("docker/images", folder)
    assert f"train=localhost/twofold-train:{commit}-dirty" in done.stdout
    assert "dirty" in done.stderr
    before = commands(folder)
    done = bash("REGISTRY=registry.example/team docker/push", folder)
    assert done.returncode == 1
    assert changed in done.stderr
    assert commands(folder) == before


def test_a_changed_file_that_is_in_no_image_does_not_count(clone):
    folder, commit = clone
    engine(folder)
    (folder / "params.yaml").write_text("changed: true\n")
    assert f"data=localhost/twofold-data:{commit}\n" in bash("docker/images", folder).stdout


def test_docker_takes_precedence_over_podman_and_an_engine_that_fails_is_skipped(clone):
    folder, commit = clone
    assert "no container engine answers" in bash("ENGINE='none nothing' docker/images", folder).stderr
    engine(folder)
    engine(folder, "docker")
    assert f"data=twofold-data:{commit}\n" in bash("docker/images", folder).stdout
    (folder / "bin" / "docker").write_text("#!/bin/sh\nexit 1\n")
    assert f"data=localhost/twofold-data:{commit}\n" in bash("docker/images", folder).stdout
    done = bash("ENGINE=docker docker/images", folder)
    assert done.returncode == 1
    assert done.stdout == ""


@pytest.mark.parametrize("script", ["docker/images", "REGISTRY=registry.example/team docker/push"])
def test_without_a_commit_nothing_is_built_or_pushed(clone, script):
    folder, _ = clone
    engine(folder)
    bash("rm -rf .git && git init -q", folder)
    done = bash(script, folder)
    assert (done.returncode, done.stdout) == (1, "")
    assert "no git commit here, and the images are tagged with it; run: git add --all && git commit" in done.stderr
    assert commands(folder) == []


@pytest.mark.parametrize("count", [0, 2])
def test_images_are_built_from_exactly_one_wheel(clone, count):
    folder, _ = clone
    engine(folder)
    for path in (folder / "docker" / "wheel").glob("*.whl"):
        path.unlink()
    for number in range(count):
        (folder / "docker" / "wheel" / f"twofold-0.{number}-py3-none-any.whl").touch()
    done = bash("docker/images", folder)
    assert (done.returncode, done.stdout) == (1, "")
    assert "docker/wheel/ must hold exactly one wheel of twofold" in done.stderr
    assert commands(folder) == []


def test_push_requires_a_registry(clone):
    folder, _ = clone
    engine(folder)
    done = bash("docker/push", folder)
    assert done.returncode == 1
    assert "REGISTRY=ghcr.io/team docker/push" in done.stderr
