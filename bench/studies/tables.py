"""Tables of the statistical studies: Markdown, printed and kept under `bench/results/studies`."""

from collections.abc import Iterable, Sequence
from pathlib import Path

RESULTS = Path(__file__).parent.parent / "results" / "studies"


def markdown(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The rows as a table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def save(name: str, text: str) -> None:
    """Write a study's table, from which the documentation is made."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text + "\n", encoding="utf-8")
