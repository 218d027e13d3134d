"""The results of benchmarks: as lines for the terminal, and as files bench/results/<hardware>/<name>.json.

A file holds every round, the machine and the command. The results page is made from these files.
"""

import json
import statistics
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.harness.benchmarks import Goal
from bench.harness.hardware import describe_machine, hardware_name
from bench.harness.memory import MIB
from bench.harness.timing import Comparison, Limit

RESULTS = Path(__file__).resolve().parents[1] / "results"


def save(name: str, result: dict[str, Any], results: Path = RESULTS) -> Path:
    """Write a result with a description of the machine; returns the file's path."""
    path = results / hardware_name() / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = json.dumps(result | {"machine": describe_machine()}, indent=2, sort_keys=True)
    path.write_text(content + "\n", encoding="utf-8")
    return path


def save_comparisons(name: str, comparisons: list[Comparison], results: Path = RESULTS) -> Path:
    """Write the comparisons of a benchmark; returns the file's path."""
    content = [asdict(each) | {"ratios": each.ratios, "ratio": each.ratio} for each in comparisons]
    return save(name, {"benchmark": name, "command": f"python -m bench {name}", "comparisons": content}, results)


def load_comparisons(path: Path) -> tuple[list[Comparison], dict[str, Any]]:
    """The comparisons in a result's file, and the machine."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return [_parse_comparison(each) for each in content["comparisons"]], content["machine"]


def _parse_comparison(content: dict[str, Any]) -> Comparison:
    fields = {key: value for key, value in content.items() if key not in ("ratios", "ratio")}
    limit = Limit(**fields["limit"]) if fields["limit"] else None
    thrown = [(ours, peer) for ours, peer in fields["thrown"]]
    return Comparison(**fields | {"goal": Goal(**fields["goal"]), "limit": limit, "thrown": thrown})


def format_comparison(c: Comparison) -> str:
    """A comparison as lines for the terminal."""
    lines = [
        f"{c.title}  {c.work}",
        f"  ours  {c.seconds:8.3f} s  {c.ours}",
        f"  peer  {statistics.median(c.seconds_peer):8.3f} s  {c.peer}",
        f"  {format_result(c)}; n = {len(c.ratios)}, {len(c.thrown)} discarded; {goal_status(c)}",
        f"  equal work: {c.equal}",
    ]
    if c.limit:
        lines.append(f"  limit {c.limit.seconds:8.3f} s, of which {c.fraction:.2f} is reached: {c.limit.words}")
    return "\n".join([*lines, f"  {c.remark}"] if c.remark else lines)


def format_result(c: Comparison) -> str:
    """The ratio with its range over the rounds, and the other values that can have a goal."""
    ratios = sorted(c.ratios)
    spread = f"{format_number(ratios[0])} to {format_number(ratios[-1])}" if len(ratios) > 1 else "one round"
    words = [f"{format_number(c.ratio)}x ({spread})"]
    if c.goal.seconds is not None:
        words.append(f"{c.seconds:.2f} s")
    if c.rate is not None:
        words.append(f"{format_number(c.rate)} images/s")
    if c.memory is not None:
        words.append(f"{c.memory / MIB:,.0f} MiB")
    if c.growth is not None:
        words.append(f"{c.growth / 1000:.1f} kB more per image")
    return ", ".join(words)


def format_number(value: float) -> str:
    """A number with three significant digits, or all digits before the decimal point."""
    places = next((places for bound, places in ((1, 3), (10, 2), (100, 1)) if value < bound), 0)
    return f"{value:,.{places}f}"


def goal_status(c: Comparison) -> str:
    """The goal and whether it is reached."""
    return f"{c.goal}" if c.reached is None else f"{c.goal}: {'reached' if c.reached else 'NOT reached'}"
