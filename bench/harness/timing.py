"""Time two pieces of work alternately, A B A B …, and compare them round by round.

Takes two callables that do the same work; returns a Comparison.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from bench.harness.benchmarks import BENCHMARKS, Goal
from bench.harness.hardware import hardware_name, synchronize

TOLERANCE = 0.1  # a round is discarded if the peer's time differs from its median by more than this share of it
MAX_ROUNDS = 3  # times the wanted number of rounds, with those that replace discarded ones
TRIAL = "TWOFOLD_BENCH_TRIAL"


@dataclass(frozen=True)
class Limit:
    """A lower bound of the time that any program needs on this machine.

    Attributes:
        seconds: of a round.
        words: how it is computed, with the measured rates.
    """

    seconds: float
    words: str


@dataclass(frozen=True)
class Comparison:
    """The result of one part of a benchmark; times are wall seconds of one round.

    Attributes:
        name: B1 to B11.
        part: the part's name in BENCHMARKS.
        work, ours, peer: descriptions; those of `ours` and `peer` state their settings.
        seconds_ours, seconds_peer: of the rounds that count.
        thrown: (ours, peer) of the discarded rounds.
        equal: how it was checked that both did the same work, with the measured difference.
        images: that we process in one round, if the work consists of images.
        limit: the physical limit of a round, if it is known.
        remark: other measurements, as text.
        memory: peak bytes of all our processes.
        growth: bytes that each further image adds to it.
    """

    name: str
    work: str
    ours: str
    peer: str
    seconds_ours: list[float]
    seconds_peer: list[float]
    goal: Goal
    equal: str
    part: str = ""
    images: int | None = None
    limit: Limit | None = None
    thrown: list[tuple[float, float]] = field(default_factory=list)
    remark: str = ""
    memory: int | None = None
    growth: float | None = None

    @property
    def title(self) -> str:
        """The name with the part's."""
        return f"{self.name} {self.part}".rstrip()

    @property
    def ratios(self) -> list[float]:
        """The peer's seconds over ours, per round: above 1, ours is faster."""
        return [peer / ours for ours, peer in zip(self.seconds_ours, self.seconds_peer, strict=True)]

    @property
    def ratio(self) -> float:
        """The median of the ratios."""
        return statistics.median(self.ratios)

    @property
    def seconds(self) -> float:
        """Our median round."""
        return statistics.median(self.seconds_ours)

    @property
    def rate(self) -> float | None:
        """Images that we process per second."""
        return self.images / self.seconds if self.images else None

    @property
    def fraction(self) -> float | None:
        """The share of the physical limit that we reach; at most 1."""
        return self.limit.seconds / self.seconds if self.limit else None

    @property
    def reached(self) -> bool | None:
        """Whether every condition of the goal is met; None if there is none."""
        goal = self.goal
        at_least = [(goal.ratio, self.ratio), (goal.rate, self.rate)]
        at_most = [(goal.seconds, self.seconds), (goal.memory, self.memory), (goal.growth, self.growth)]
        met = [value is not None and value >= bound for bound, value in at_least if bound is not None]
        met += [value is not None and value <= bound for bound, value in at_most if bound is not None]
        return all(met) if met else None


def is_trial() -> bool:
    """Whether this is `python -m bench --try`: one round of little work, to check that everything runs."""
    return bool(os.environ.get(TRIAL))


def work_size(full: int, small: int) -> int:
    """The amount of work: `full`, or `small` in a trial."""
    return small if is_trial() else full


def goal_of(name: str, part: str) -> Goal:
    """The goal of a part on this hardware."""
    return BENCHMARKS[name].parts[part].goal(hardware_name())


def compare(
    name: str,
    work: str,
    *,
    ours: tuple[str, Callable[[], object]],
    peer: tuple[str, Callable[[], object]],
    equal: str,
    part: str = "",
    images: int | None = None,
    limit: Limit | None = None,
    warm_up: Callable[[], object] | None = None,
    rounds: int = 5,
    same_work: bool = True,
) -> Comparison:
    """Run both once unmeasured, then alternately until `rounds` rounds count.

    A round is discarded if the peer's time differs from its median by more than 10 %: something else was running on
    the machine.

    Args:
        name, part: as in BENCHMARKS.
        ours, peer: (description, callable).
        equal: how it was checked that both do the same work, and the measured difference.
        images: per round.
        limit: of one of our rounds.
        warm_up: run unmeasured in place of one run each, where that takes too long.
        rounds: 5 or more; for a long benchmark 1 to 3. A trial always runs 1.
        same_work: whether all rounds of the peer are the same work. Rounds of different seeds are not, and all count.

    Raises:
        SystemExit: the times vary too much for a result.
    """
    if rounds < (1 if BENCHMARKS[name].long else 5):
        raise ValueError(f"rounds: {rounds}; {name} is a short benchmark, whose median needs at least 5")
    wanted = 1 if is_trial() else rounds
    for call in [warm_up] if warm_up else [ours[1], peer[1]]:
        call()
    title = f"{name} {part}".rstrip()
    measured: list[tuple[float, float]] = []
    while sum(stable_rounds(measured, same_work)) < wanted and len(measured) < MAX_ROUNDS * wanted:
        measured.append((measure_seconds(ours[1]), measure_seconds(peer[1])))
        # A round may take minutes, so its times must survive a run that is stopped later.
        print(f"{title}: ours {measured[-1][0]:.3f} s, peer {measured[-1][1]:.3f} s", file=sys.stderr, flush=True)
    stable = stable_rounds(measured, same_work)
    if sum(stable) < wanted:
        times = ", ".join(f"{seconds:.2f}" for _, seconds in measured)
        raise SystemExit(f"bench: {title}: the peer took {times} s, which varies too much; run nothing else meanwhile")
    own = [seconds for (seconds, _), counts in zip(measured, stable, strict=True) if counts]
    others = [seconds for (_, seconds), counts in zip(measured, stable, strict=True) if counts]
    discarded = [times for times, counts in zip(measured, stable, strict=True) if not counts]
    goal = goal_of(name, part)
    return Comparison(name, work, ours[0], peer[0], own, others, goal, equal, part, images, limit, discarded)


def stable_rounds(measured: list[tuple[float, float]], same_work: bool) -> list[bool]:
    """Which rounds count: those in which the peer is within 10 % of its median over all rounds."""
    if not measured or not same_work:
        return [True] * len(measured)
    median = statistics.median(peer for _, peer in measured)
    return [abs(peer - median) <= TOLERANCE * median for _, peer in measured]


def measure_seconds(work: Callable[[], object]) -> float:
    """Wall seconds of a piece of work, with the work that it gives to a GPU."""
    synchronize()
    begin = time.perf_counter()
    work()
    synchronize()
    return time.perf_counter() - begin
