"""docs/guides/cluster.md names files, secrets, commands and versions that exist. Its commands are not run here."""

import argparse
import re
import shlex
from importlib.metadata import version
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from twofold.cli.kfp import doctor, options, schedule, submit
from twofold.kubeflow.definition.resources import load_resources
from twofold.kubeflow.server.kfp_client import OLDEST

ROOT = Path(__file__).resolve().parents[3]
TEXT = (ROOT / "docs" / "guides" / "cluster.md").read_text()
BLOCKS = [block.replace("\\\n", " ") for block in re.findall(r"```sh\n(.*?)```", TEXT, re.DOTALL)]
LINES = [line.strip() for block in BLOCKS for line in block.splitlines() if line.strip()]
COMMANDS = [line for line in LINES if line.startswith("twofold kfp")]


def secrets():
    example = YAML(typ="safe").load_all((ROOT / "deploy" / "secrets.example.yaml").read_text())
    return {(each["metadata"]["namespace"], each["metadata"]["name"]): set(each["stringData"]) for each in example}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_line_accepts_its_commands(command, monkeypatch):
    monkeypatch.setenv("KF_PIPELINES_ENDPOINT", "http://localhost:8080")
    monkeypatch.chdir(ROOT)
    parser = argparse.ArgumentParser()
    subparsers = parser.add_subparsers()
    for module in (doctor, schedule, submit):
        module.add_parser(subparsers)
    found = parser.parse_args(shlex.split(command, comments=True)[2:])
    if hasattr(found, "resources"):
        load_resources(found.resources)
        assert options.overrides_from(found)["ingest"]["source"] == "/data/elpv"


def test_all_three_commands_are_shown():
    assert {command.split()[2] for command in COMMANDS} == {"doctor", "submit", "schedule"}


def test_the_files_and_folders_that_it_names_exist():
    named = set(re.findall(r"(?<![/\w])(?:deploy|pipelines|docker|docs)/[\w./-]*\w", TEXT))
    assert len(named) > 8
    for name in named:
        assert (ROOT / name).exists(), name
    for folder in re.findall(r"kubectl (?:apply -k|kustomize) (deploy/\w+)", TEXT):
        assert (ROOT / folder / "kustomization.yaml").exists(), folder
    for link in re.findall(r"\]\((\.\./[^)#]+)\)", TEXT):
        assert (ROOT / "docs" / "guides" / link).exists(), link


def test_the_secrets_that_it_creates_are_those_of_the_example():
    created = {}
    for line in LINES:
        if line.startswith("kubectl create secret generic"):
            words = shlex.split(line, comments=True)
            namespace, name = words[words.index("--namespace") + 1], words[4]
            keys = {word.split("=")[1] for word in words if word.startswith("--from-literal=")}
            for each in ("kubeflow", "twofold") if namespace == "$namespace" else (namespace,):
                created[each, name] = keys
    # docs/guides/serving.md creates those for serving.
    assert created == {name: keys for name, keys in secrets().items() if name[0] != "twofold-serving"}


def test_what_it_replaces_in_the_manifests_is_in_them():
    replaced = re.findall(r'sed "s/([\w:-]+)/', TEXT)
    assert replaced
    for text in replaced:
        name, _, tag = text.partition(":")
        files = [path.read_text() for path in (ROOT / "deploy").rglob("*.yaml")]
        assert any(text in file or (f"newName: {name}" in file and f"newTag: {tag}" in file) for file in files), text


def test_its_make_targets_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^|`|: )make ([a-z-]+)", TEXT, re.MULTILINE))
    assert {"images"} <= named <= targets
    assert {"docker/images", "docker/push"} <= set(re.findall(r"docker/[a-z]+", TEXT))


def test_its_versions_are_those_of_the_sdk_and_of_the_client():
    assert f"export PIPELINE_VERSION={version('kfp')}" in TEXT
    assert f"{OLDEST[0]}.{OLDEST[1]} or newer is required" in TEXT


def test_the_bucket_and_the_addresses_are_those_of_the_manifests():
    config = (ROOT / "deploy" / "mlflow" / "mlflow.yaml").read_text()
    (place,) = re.findall(r"they go to `(s3://[\w/]+)`", TEXT)
    assert f"MLFLOW_ARTIFACTS_DESTINATION: {place}\n" in config
    assert "--from-literal=tracking_uri=http://mlflow.twofold.svc:5000" in TEXT
    assert "mlflow.twofold.svc:*" in config
