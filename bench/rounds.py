"""Two pieces of work timed in turn, A B A B …: medians, and the ratio round by round.

In: two callables that do the same work. Out: a Comparison, printed and written to bench/results/<name>.json.
"""

import importlib.metadata
import json
import multiprocessing
import os
import platform
import statistics
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"


@dataclass(frozen=True)
class Comparison:
    """What one benchmark came to; times are wall seconds of one round."""

    name: str
    work: str
    ours: str
    peer: str
    seconds_ours: list[float]
    seconds_peer: list[float]
    goal: float
    equal: str
    """The check that both did the same work, in words, with the figure that it found."""

    @property
    def ratios(self) -> list[float]:
        """Peer's seconds over ours, round by round: above 1 means that ours is faster."""
        return [peer / ours for ours, peer in zip(self.seconds_ours, self.seconds_peer, strict=True)]


class Apart:
    """Work in a process of its own, so that no setting of ours (memory, determinism) reaches the peer.

    Args:
        prepare: an importable function; called once in that process, it returns what each call here then runs there.
        arguments: for `prepare`.
    """

    def __init__(self, prepare: Callable[..., Callable[..., object]], *arguments: object) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_serve, args=(theirs, prepare, arguments), daemon=True)
        self._process.start()
        theirs.close()

    def __call__(self, *arguments: object) -> None:
        self._pipe.send(arguments)
        failure = self._pipe.recv()
        if failure:
            raise SystemExit(f"bench: the peer failed:\n{failure}")


def _serve(pipe: Connection, prepare: Callable[..., Callable[..., object]], arguments: tuple[object, ...]) -> None:
    work = prepare(*arguments)
    while True:
        try:
            call = pipe.recv()
        except EOFError:
            return
        try:
            work(*call)
            pipe.send("")
        except Exception:
            pipe.send(traceback.format_exc())


def compare(
    name: str,
    work: str,
    *,
    ours: tuple[str, Callable[[], object]],
    peer: tuple[str, Callable[[], object]],
    goal: float,
    equal: str,
    warm_up: Callable[[], object] | None = None,
    rounds: int = 5,
) -> Comparison:
    """Run both once unmeasured, then `rounds` times in turn.

    Args:
        ours, peer: (in words, what to call).
        warm_up: what to run unmeasured instead, where once of each takes too long.
        goal: the ratio that we mean to reach.
    """
    if rounds < 5:
        raise ValueError(f"rounds: {rounds}; a median of fewer than 5 is not worth quoting")
    for call in [warm_up] if warm_up else [ours[1], peer[1]]:
        call()
    seconds: dict[str, list[float]] = {"ours": [], "peer": []}
    for _ in range(rounds):
        for side, (_, call) in (("ours", ours), ("peer", peer)):
            begin = time.perf_counter()
            call()
            seconds[side].append(time.perf_counter() - begin)
    return Comparison(name, work, ours[0], peer[0], seconds["ours"], seconds["peer"], goal, equal)


def report(comparison: Comparison) -> str:
    """Write the result as JSON and return it as lines for the terminal."""
    c = comparison
    ratios = sorted(c.ratios)
    ratio = statistics.median(ratios)
    result: dict[str, Any] = asdict(c) | {"ratios": c.ratios, "median_ratio": ratio, "machine": machine()}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{c.name}.json").write_text(json.dumps(result, indent=2, sort_keys=True) + "\n")
    verdict = "reached" if ratio >= c.goal else "NOT reached"
    return "\n".join(
        [
            f"{c.name}  {c.work}",
            f"  ours  {statistics.median(c.seconds_ours):8.2f} s  {c.ours}",
            f"  peer  {statistics.median(c.seconds_peer):8.2f} s  {c.peer}",
            f"  {ratio:.2f}x (rounds {ratios[0]:.2f} to {ratios[-1]:.2f}, n = {len(ratios)}); "
            f"goal {c.goal}x {verdict}; equal work: {c.equal}",
        ]
    )


def machine() -> dict[str, Any]:
    """Hardware and versions, for a figure to be worth something later."""
    model = platform.processor()
    flags: set[str] = set()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                model = value.strip()
            if key.strip() == "flags":
                flags = set(value.split())
    packages = ("torch", "torchvision", "timm", "pillow", "numpy")
    return {
        "processor": model,
        "bf16": bool(flags & {"avx512_bf16", "amx_bf16"}),
        "threads": len(os.sched_getaffinity(0)),
        "versions": {name: importlib.metadata.version(name) for name in packages},
    }
