"""Two pieces of work timed in turn, A B A B …: medians, and the ratio round by round.

In: two callables that do the same work. Out: a Comparison.
"""

import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from bench.harness.benchmarks import BENCHMARKS, Goal
from bench.harness.hardware import hardware, wait

DRIFT = 0.1  # a round is thrown away when the peer is further from its median than this share of it
EXTRA = 2  # and others are run in its place, at most this many times as many as were asked for
TRIAL = "TWOFOLD_BENCH_TRIAL"


@dataclass(frozen=True)
class Limit:
    """What no program on this machine could beat.

    Attributes:
        seconds: of a round.
        words: where that comes from, with the rates that it was computed from.
    """

    seconds: float
    words: str


@dataclass(frozen=True)
class Comparison:
    """What one part of a benchmark came to; times are wall seconds of one round.

    Attributes:
        name: B1 to B11.
        part: of the benchmark, as in the catalogue.
        work, ours, peer: in words; `ours` and `peer` with their settings.
        seconds_ours, seconds_peer: of the rounds that count.
        thrown: (ours, peer) of the rounds in which the peer drifted.
        goal: what it is meant to reach.
        equal: the check that both did the same work, in words, with the figure that it found.
        images: that one round of ours gets through, if that is what it does.
        limit: the physical limit of a round, where one can be stated.
        remark: what else was measured, in words.
        memory, growth: bytes that all processes of ours held at most, and by which that grows with every image.
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
    def ratios(self) -> list[float]:
        """Peer's seconds over ours, round by round: above 1 means that ours is faster."""
        return [peer / ours for ours, peer in zip(self.seconds_ours, self.seconds_peer, strict=True)]

    @property
    def ratio(self) -> float:
        """Their median."""
        return statistics.median(self.ratios)

    @property
    def seconds(self) -> float:
        """The median round of ours."""
        return statistics.median(self.seconds_ours)

    @property
    def rate(self) -> float | None:
        """Images a second of ours."""
        return self.images / self.seconds if self.images else None

    @property
    def fraction(self) -> float | None:
        """Of the physical limit that ours reaches; 1 is all that there is."""
        return self.limit.seconds / self.seconds if self.limit else None

    @property
    def reached(self) -> bool | None:
        """Whether every goal is met; None where none is set."""
        goal = self.goal
        met = [
            None if goal.ratio is None else self.ratio >= goal.ratio,
            None if goal.seconds is None else self.seconds <= goal.seconds,
            None if goal.rate is None else self.rate is not None and self.rate >= goal.rate,
            None if goal.memory is None else self.memory is not None and self.memory <= goal.memory,
            None if goal.growth is None else self.growth is not None and self.growth <= goal.growth,
        ]
        asked = [each for each in met if each is not None]
        return all(asked) if asked else None


def trial() -> bool:
    """Whether this is `python -m bench --try`: one round of little work, to see that it runs."""
    return bool(os.environ.get(TRIAL))


def sized(full: int, small: int) -> int:
    """How much work: the full count, or in a trial the small one."""
    return small if trial() else full


def goal_of(name: str, part: str) -> Goal:
    """What the catalogue asks of a part on this hardware."""
    return BENCHMARKS[name].parts[part].goal(hardware())


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
    """Run both once unmeasured, then in turn until `rounds` rounds count.

    A round counts unless the peer took more than 10 % longer or shorter in it than in its median round: something
    else was at work on the machine then.

    Args:
        name, part: as in the catalogue.
        ours, peer: (in words, what to call).
        equal: how it was checked that both do the same work, and what was found.
        images: that a round gets through.
        limit: of a round of ours.
        warm_up: what to run unmeasured instead, where once of each takes too long.
        rounds: 5 or more; 1 to 3 of a long benchmark; 1 in a trial whatever is asked for.
        alike: whether the peer's rounds are the same work. Those of other seeds are not, and all of them count.

    Raises:
        SystemExit: the machine is too restless for a figure.
    """
    if rounds < (1 if BENCHMARKS[name].long else 5):
        raise ValueError(f"rounds: {rounds}; a median of fewer than 5 is not worth quoting of {name}, which is short")
    wanted = 1 if trial() else rounds
    for call in [warm_up] if warm_up else [ours[1], peer[1]]:
        call()
    taken: list[tuple[float, float]] = []
    while sum(steady(taken, same_work)) < wanted and len(taken) < (1 + EXTRA) * wanted:
        taken.append((clocked(ours[1]), clocked(peer[1])))
        # A round may take minutes, and what is stopped before its last one should not have been for nothing.
        print(
            f"{name} {part}".strip() + f": ours {taken[-1][0]:.3f} s, peer {taken[-1][1]:.3f} s",
            file=sys.stderr,
            flush=True,
        )
    kept = steady(taken, same_work)
    if sum(kept) < wanted:
        found = ", ".join(f"{seconds:.2f}" for _, seconds in taken)
        raise SystemExit(f"bench: {name} {part}: the peer took {found} s: too restless a machine; leave it alone")
    counted = [each for each, good in zip(taken, kept, strict=True) if good]
    return Comparison(
        name,
        work,
        ours[0],
        peer[0],
        [mine for mine, _ in counted],
        [theirs for _, theirs in counted],
        goal_of(name, part),
        equal,
        part,
        images,
        limit,
        [each for each, good in zip(taken, kept, strict=True) if not good],
    )


def steady(taken: list[tuple[float, float]], same_work: bool) -> list[bool]:
    """Which rounds count: those in which the peer is within 10 % of its median over all."""
    if not taken or not same_work:
        return [True] * len(taken)
    middle = statistics.median(peer for _, peer in taken)
    return [abs(peer - middle) <= DRIFT * middle for _, peer in taken]


def clocked(work: Callable[[], object]) -> float:
    """Wall seconds of a piece of work, what it gave a GPU to do included."""
    wait()
    begin = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - begin
