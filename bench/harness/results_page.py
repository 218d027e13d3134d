"""`python -m bench.harness.results_page`: bench/README.md, made from the results in the tree and bench/notes.md; README's table.

In: bench/results/<hardware>/B*.json. Out: a table with a column for each hardware, what each figure rests on, and the
notes on what stands in the way of goals that are not reached.
"""

import statistics
from pathlib import Path
from typing import Any

from bench.harness.benchmarks import BENCHMARKS, Goal
from bench.harness.results import RESULTS, figure, load, shown, verdict
from bench.harness.timing import Comparison

PAGE, NOTES = RESULTS.parent / "README.md", RESULTS.parent / "notes.md"
README = RESULTS.parent.parent / "README.md"
BEGIN, END = "<!-- speed: made by `python -m bench.harness.results_page` -->", "<!-- speed: end -->"
INTRODUCTION = """\
# Speed, beside peers

Made by `python -m bench.harness.results_page` from the files in `bench/results/`; do not edit it by hand, edit `bench/notes.md`.

    make bench              the short ones, five rounds each
    make bench-long         the long ones, one to three rounds each
    make bench B="B3 B5"    some of them
    python -m bench --try   one round of little work each, to see that they run; nothing is written
    python -m bench.studies.training_profile    where a step of B3 and a batch of B6 spend their time, by kernel or operator
    python -m bench.studies.preprocessing_profile    what B1's files and B7's batches take on one core, part by part of the work
    python -m bench.harness.results_page    this page

Each benchmark runs ours and a peer's way of doing the same work in turn (A B A B) in one run on one machine, the peer
in a process of its own. A figure is the median, over the rounds, of the peer's seconds over ours; smallest and largest
ratio in brackets. Rounds in which the peer was more than 10 % off its own median are thrown away, counted, and run
again. It is checked that both come to the same result: *equal work* below. The fraction of the limit is what the
machine's rate allows, measured in the same run, over what ours took.

The peers are torch's and torchvision's defaults, as most people write them, and a strong one: timm's `train.py` with
`--amp --amp-dtype bfloat16 --channels-last`, as a short loop of ours with timm's model, optimizer and settings, because
its wheel has no script.
"""
Results = dict[str, dict[str, tuple[list[Comparison], dict[str, Any]]]]  # hardware -> benchmark -> what was found


def read(results: Path = RESULTS) -> Results:
    """Every result in the tree, the CPU's first.

    Raises:
        SystemExit: a file is of no benchmark, lies in another hardware's folder, or has other parts than the catalogue;
            one that no goal is set for may be missing.
    """
    found: Results = {}
    for path in sorted(results.glob("*/B*.json"), key=lambda path: (path.parent.name != "cpu", str(path))):
        comparisons, machine = load(path)
        parts = [each.part for each in comparisons]
        known = BENCHMARKS[path.stem].parts if path.stem in BENCHMARKS else {}
        hardware = path.parent.name
        if not parts or parts != [each for each, one in known.items() if each in parts or one.goal(hardware) != Goal()]:
            raise SystemExit(
                f"bench: {path}: parts {parts} are not those of {path.stem} in bench/harness/benchmarks.py"
            )
        if machine["hardware"] != hardware:
            raise SystemExit(f"bench: {path}: was measured on {machine['hardware']}")
        found.setdefault(hardware, {})[path.stem] = comparisons, machine
    return found


def page(results: Results, notes: str) -> str:
    """The page, as Markdown."""
    parts = [INTRODUCTION, table(results, whole=True)]
    parts += [f"## On {hardware}\n\n" + "\n".join(details(found)) for hardware, found in results.items()]
    return "\n\n".join(part.strip("\n") for part in [*parts, notes]) + "\n"


def table(results: Results, *, whole: bool) -> str:
    """One line a comparison, one column for each hardware; the goal stands beside the figure.

    Args:
        whole: with those that have been measured nowhere yet.
    """
    columns = list(results) or ["cpu"]
    lines = [
        "| | work | beside | " + " | ".join(f"{hardware}: figure; goal" for hardware in columns) + " |",
        "|---" * (3 + len(columns)) + "|",
    ]
    for name, benchmark in BENCHMARKS.items():
        if not whole and not any(name in found for found in results.values()):
            continue
        for part, described in benchmark.parts.items():
            cells = []
            for hardware in columns:
                comparisons, _ = results.get(hardware, {}).get(name, ([], {}))
                measured = [cell(each) for each in comparisons if each.part == part]
                cells.append(measured[0] if measured else f"not measured; goal {described.goal(hardware)}")
            title = f"{name} {part}".strip()
            lines.append(f"| {title} | {benchmark.work} | {described.peer} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def with_table(readme: str, results: Results) -> str:
    """README with the table between its two marks.

    Raises:
        SystemExit: the marks are not there.
    """
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise SystemExit(f"bench: README.md has no {BEGIN} followed by {END}")
    return f"{before}{BEGIN}\n\n{table(results, whole=False)}\n\n{END}{after}"


def cell(c: Comparison) -> str:
    """What one hardware came to."""
    reach = f", {c.fraction:.0%} of the limit" if c.fraction is not None else ""
    asked = "reported" if c.reached is None else f"goal {c.goal}: {verdict(c)}"
    return f"**{figure(c)}**{reach}; {asked}"


def details(found: dict[str, tuple[list[Comparison], dict[str, Any]]]) -> list[str]:
    """What every figure of one hardware rests on."""
    lines = []
    for name, (comparisons, machine) in sorted(found.items(), key=lambda item: list(BENCHMARKS).index(item[0])):
        versions = ", ".join(f"{package} {version}" for package, version in machine["versions"].items())
        where = " beside ".join(
            filter(None, [machine["gpu"], f"{machine['threads']} threads of {machine['processor']}"])
        )
        changed = " with changes" if machine["changed"] else ""
        lines.append(f"**{name}** on {where}; commit {(machine['commit'] or 'unknown')[:7]}{changed}; {versions}.\n")
        lines += ["\n".join(detail(c)) + "\n" for c in comparisons]
    return lines


def detail(c: Comparison) -> list[str]:
    """One comparison in full."""
    lines = [
        f"- {c.name} {c.part}".rstrip() + f": {c.work}.",
        f"    - ours, {shown(c.seconds)} s: {c.ours}",
        f"    - peer, {shown(statistics.median(c.seconds_peer))} s: {c.peer}",
        f"    - n = {len(c.ratios)}, {len(c.thrown)} thrown away; equal work: {c.equal}",
    ]
    if c.limit:
        lines.append(f"    - limit, {shown(c.limit.seconds)} s: {c.limit.words}")
    return [*lines, f"    - {c.remark}"] if c.remark else lines


def main() -> None:
    """Write the page, and the table in README.md."""
    results = read()
    PAGE.write_text(page(results, NOTES.read_text(encoding="utf-8")), encoding="utf-8")
    README.write_text(with_table(README.read_text(encoding="utf-8"), results), encoding="utf-8")
    print(PAGE)


if __name__ == "__main__":
    main()
