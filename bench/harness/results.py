"""What benchmarks came to: lines for the terminal, and a file in bench/results/<hardware>/ that the page is made from.

In: the comparisons of a benchmark. Out: `<name>.json` with every round, the machine, and the command.
"""

import json
import statistics
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.harness.benchmarks import Goal
from bench.harness.hardware import hardware, machine
from bench.harness.memory import MIB
from bench.harness.timing import Comparison, Limit

RESULTS = Path(__file__).resolve().parents[1] / "results"


def save(name: str, result: dict[str, Any], results: Path = RESULTS) -> Path:
    """Write a result and the machine that it was found on; returns where."""
    path = results / hardware() / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(result | {"machine": machine()}, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return path


def keep(name: str, comparisons: list[Comparison], results: Path = RESULTS) -> Path:
    """Write what a benchmark came to."""
    found = [asdict(each) | {"ratios": each.ratios, "ratio": each.ratio} for each in comparisons]
    return save(name, {"benchmark": name, "command": f"python -m bench {name}", "comparisons": found}, results)


def load(path: Path) -> tuple[list[Comparison], dict[str, Any]]:
    """The comparisons in a result's file, and the machine."""
    found = json.loads(path.read_text(encoding="utf-8"))
    return [_comparison(each) for each in found["comparisons"]], found["machine"]


def _comparison(found: dict[str, Any]) -> Comparison:
    fields = {key: value for key, value in found.items() if key not in ("ratios", "ratio")}
    limit = Limit(**fields["limit"]) if fields["limit"] else None
    thrown = [(ours, peer) for ours, peer in fields["thrown"]]
    return Comparison(**fields | {"goal": Goal(**fields["goal"]), "limit": limit, "thrown": thrown})


def told(c: Comparison) -> str:
    """A comparison as lines for the terminal."""
    lines = [
        f"{c.name} {c.part}".strip() + f"  {c.work}",
        f"  ours  {c.seconds:8.3f} s  {c.ours}",
        f"  peer  {statistics.median(c.seconds_peer):8.3f} s  {c.peer}",
        f"  {figure(c)}; n = {len(c.ratios)}, {len(c.thrown)} thrown away; goal {c.goal}: {verdict(c)}",
        f"  equal work: {c.equal}",
    ]
    if c.limit:
        lines.append(f"  limit {c.limit.seconds:8.3f} s, of which {c.fraction:.2f} is reached: {c.limit.words}")
    return "\n".join([*lines, f"  {c.remark}"] if c.remark else lines)


def figure(c: Comparison) -> str:
    """The ratio with its spread over the rounds, and what else is asked for."""
    ratios = sorted(c.ratios)
    spread = f"{shown(ratios[0])} to {shown(ratios[-1])}" if len(ratios) > 1 else "one round"
    words = [f"{shown(c.ratio)}x ({spread})"]
    if c.goal.seconds is not None:
        words.append(f"{c.seconds:.2f} s")
    if c.rate is not None:
        words.append(f"{shown(c.rate)} images/s")
    if c.memory is not None:
        words.append(f"{c.memory / MIB:,.0f} MiB")
    if c.growth is not None:
        words.append(f"{c.growth / 1000:.1f} kB more an image")
    return ", ".join(words)


def shown(value: float) -> str:
    """Three digits that say something, or all of those before the point."""
    places = next((places for bound, places in ((1, 3), (10, 2), (100, 1)) if value < bound), 0)
    return f"{value:,.{places}f}"


def verdict(c: Comparison) -> str:
    """Whether the goal is reached, in a word."""
    return {None: "reported", True: "reached", False: "NOT reached"}[c.reached]
