"""Untrusted values (classes, columns, file names) as Markdown lines for GitHub and MLflow.

No part of a value becomes a table cell, a picture, a link under another name, or HTML.
"""

import re
from collections.abc import Iterable, Sequence

_SYNTAX = re.compile(r"([\\`*\[\]|~$])")
_EMPHASIS = re.compile(r"(?<!\w)_|_(?!\w)")  # an underscore within a word has no meaning


def text(value: object) -> str:
    """A value within a line or a cell; not for the beginning of a line, where `#` starts a heading."""
    line = " ".join(str(value).split())
    line = line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _EMPHASIS.sub(r"\\_", _SYNTAX.sub(r"\\\1", line))


def code(value: object) -> str:
    """A value as inline code."""
    line = " ".join(str(value).split()) or " "
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", line)), default=0))
    return f"{fence} {line} {fence}" if "`" in line else f"{fence}{line}{fence}"


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """The lines of a table, then an empty one; the cells are Markdown already."""
    return [*(f"| {' | '.join(map(str, row))} |" for row in (head, ["---"] * len(head), *rows)), ""]
