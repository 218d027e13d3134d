"""What the tests of `doctor` share: a Kubeflow server, a cluster, a command line, and what it printed."""

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.kfp_server.logs import KfpWithLogs
from tests.support.kube_server.objects import NAMESPACE, whole
from tests.support.kube_server.server import Kube, kubeconfig, serve
from twofold.cli.kfp import doctor
from twofold.kubeflow.definition.resources import Resources, load

ROOT = Path(__file__).resolve().parents[2]
IMAGES = tuple(f"registry.example/twofold-{target}@sha256:{'a' * 64}" for target in ("data", "train"))
GIVEN = ("--namespace", NAMESPACE)


@dataclass
class Case:
    """A server and a cluster that have all that the pipeline needs, until a test takes something away."""

    kfp: KfpWithLogs
    kube: Kube
    folder: Path

    def words(self, *more: str) -> list[str]:
        words = ["doctor", "--host", self.kfp.host, *GIVEN, "--params", str(ROOT / "params.yaml")]
        words += ["--kubeconfig", str(self.folder / "kubeconfig")]
        if "-p" not in more:
            words += ["-p", "ingest.source=/data/parts"]
        if "--image" not in more:
            words += ["--image", f"data={IMAGES[0]}", "--image", f"train={IMAGES[1]}"]
        return [*words, *more]

    def run(self, *more: str) -> int:
        parser = argparse.ArgumentParser()
        doctor.add_parser(parser.add_subparsers())
        options = parser.parse_args(self.words(*more))
        return int(options.func(options))


@contextmanager
def case(folder: Path, resources: Resources | None = None) -> Iterator[Case]:
    kube = Kube()
    whole(kube, resources or load())
    with KfpWithLogs() as kfp, serve(kube) as host:
        kubeconfig(folder / "kubeconfig", host)
        yield Case(kfp, kube, folder)


def line(printed: str, check: str) -> tuple[str, str, str]:
    """The level, what was seen, and the remedy of a check's line."""
    lines = printed.splitlines()
    for number, text in enumerate(lines):
        level, rest = text[:21].strip(), text[23:]
        if level and (rest == check or rest.startswith(f"{check} ")):
            after = lines[number + 1].strip() if number + 1 < len(lines) else ""
            return level, rest.removeprefix(check).strip(), after.removeprefix("-> ") if after.startswith("->") else ""
    raise AssertionError(f"no line for {check!r} in:\n{printed}")
