"""Shared by the tests of `doctor`: a Kubeflow server, a cluster, the command line, and a parser of its output."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.kfp_server.server import KfpServer
from tests.support.kube_server.objects import NAMESPACE, fill
from tests.support.kube_server.server import Kube, kubeconfig, serve
from twofold.cli.kfp import doctor
from twofold.cli.output import print_result
from twofold.kubeflow.definition.resources import load_resources

ROOT = Path(__file__).resolve().parents[2]
IMAGES = tuple(f"registry.example/twofold-{target}@sha256:{'a' * 64}" for target in ("data", "train"))
GIVEN = ("--namespace", NAMESPACE)


@dataclass
class Case:
    """A server and a cluster with everything that the pipeline needs; tests remove parts of it."""

    kfp: KfpServer
    kube: Kube
    folder: Path
    capsys: pytest.CaptureFixture[str]
    errors: str = ""  # standard error of the last call

    def words(self, *more: str) -> list[str]:
        words = ["doctor", "--host", self.kfp.host, *GIVEN, "--params", str(ROOT / "params.yaml")]
        words += ["--kubeconfig", str(self.folder / "kubeconfig")]
        if "-p" not in more:
            words += ["-p", "ingest.source=/data/parts"]
        if "--image" not in more:
            words += ["--image", f"data={IMAGES[0]}", "--image", f"train={IMAGES[1]}"]
        return [*words, *more]

    def run(self, *more: str, status: int = 0) -> str:
        """Run the command, check its exit status, and return its standard output."""
        parser = argparse.ArgumentParser()
        doctor.add_parser(parser.add_subparsers())
        options = parser.parse_args(self.words(*more))
        found = options.run(options)
        print_result(found, as_json=False)
        printed, self.errors = self.capsys.readouterr()
        assert found.status == status, printed
        return printed


@contextmanager
def case(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Case]:
    """Start both servers, without this machine's own settings in the environment."""
    for name in ("KFP_TOKEN", "MLFLOW_TRACKING_URI", "AWS_ACCESS_KEY_ID", "AWS_PROFILE", "KUBECONFIG"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(folder))
    kube = Kube()
    fill(kube, load_resources())
    with KfpServer() as kfp, serve(kube) as host:
        kubeconfig(folder / "kubeconfig", host)
        yield Case(kfp, kube, folder, capsys)


def line(printed: str, check: str) -> tuple[str, str, str]:
    """The level, the text and the remedy of a check's line."""
    lines = printed.splitlines()
    for number, text in enumerate(lines):
        level, rest = text[:21].strip(), text[23:]
        if level and (rest == check or rest.startswith(f"{check} ")):
            after = lines[number + 1].strip() if number + 1 < len(lines) else ""
            return level, rest.removeprefix(check).strip(), after.removeprefix("-> ") if after.startswith("->") else ""
    raise AssertionError(f"no line for {check!r} in:\n{printed}")
