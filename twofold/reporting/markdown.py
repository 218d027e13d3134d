"""Markdown of what others have written (classes, columns, file names): text stays text, whatever is in it.

In: values. Out: lines for GitHub's and MLflow's Markdown; nothing of a value becomes a cell, a picture, a link under
another name, or HTML.
"""

import re
from collections.abc import Iterable, Sequence

_MEANS_SOMETHING = re.compile(r"([\\`*\[\]|~$])")
_AT_A_WORDS_EDGE = re.compile(r"(?<!\w)_|_(?!\w)")  # within a word it stays one


def text(value: object) -> str:
    """A value within a line or a cell; not at the beginning of a line, where `#` would make a heading of it."""
    line = " ".join(str(value).split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _AT_A_WORDS_EDGE.sub(r"\\_", _MEANS_SOMETHING.sub(r"\\\1", line))


def code(value: object) -> str:
    """A value as it stands, in the letters of code."""
    line = " ".join(str(value).split()) or " "
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", line)), default=0))
    return f"{fence} {line} {fence}" if "`" in line else f"{fence}{line}{fence}"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """The lines of a table and an empty one; the cells are Markdown already."""
    return [*(f"| {' | '.join(map(str, row))} |" for row in (head, ["---"] * len(head), *rows)), ""]


def bullets(items: Iterable[str]) -> list[str]:
    """The lines of a list and an empty one; the items are Markdown already."""
    return [*(f"- {item}" for item in items), ""]
