"""Tables of the statistical studies: Markdown, printed and kept under `bench/results/studies`."""

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

SEED = 23  # of every statistical study
RESULTS = Path(__file__).parent.parent / "results" / "studies"


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The rows as a table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def show(name: str, *tables: str, seeds: str = f"seed {SEED}", folder: Path = RESULTS) -> None:
    """Print a study's tables below its command, and write them where the documentation takes them from."""
    text = "\n\n".join([f"`{' '.join(['python -m bench.studies.' + name, *sys.argv[1:]])}`, {seeds}:", *tables])
    print(text)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.md").write_text(text + "\n", encoding="utf-8")
