"""What a command prints: tables and colour on a terminal, plain text elsewhere, or JSON."""

import argparse
import json
import re
import sys
from collections.abc import Sequence
from typing import Any

# On a terminal, the colour of a word says how things stand.
_COLOURS = {
    "green": r"\b(passed|champion|promoted|as recorded|unchanged|ok)\b|✓",
    "red": r"\b(FAILED|WRONG|failed|failure|refused|differs|error)\b|✗",
    "yellow": r"\b(challenger|stale|waits? for review|warning|not checked)\b",
    "bold": r"(?m)^\w[^\n]*:$|^twofold [\w ]+|^version  .*$|^finds .*$",
    "dim": r"(?m)^ +\$ .*$",
}


def echo(text: str, file: Any = None) -> None:
    """Print a text; on a terminal in colour, unless NO_COLOR is set."""
    stream = file or sys.stdout
    if not stream.isatty():
        print(text, file=stream)
        return
    from rich.console import Console
    from rich.text import Text

    coloured = Text(text)
    for style, pattern in _COLOURS.items():
        coloured.highlight_regex(re.compile(pattern), style)
    Console(file=stream, soft_wrap=True).print(coloured)


def add_json(parser: argparse.ArgumentParser) -> None:
    """Add `--json`, for `print_result`."""
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def print_result(options: argparse.Namespace, values: Any, text: str | Sequence[Sequence[str]]) -> None:
    """Print the values of a command as JSON if `--json` is given, and otherwise as text or as a table.

    Args:
        text: a text, or a table's rows, of which the first one is its head.
    """
    if options.json:
        print(json.dumps(values, indent=2, ensure_ascii=False))
    elif isinstance(text, str):
        echo(text)
    elif not sys.stdout.isatty():
        widths = [max(map(len, column)) for column in zip(*text, strict=True)]
        for row in text:
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    else:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(*text[0], box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
        for row in text[1:]:
            cells = [Text(cell) for cell in row]
            for style, pattern in _COLOURS.items():
                for cell in cells:
                    cell.highlight_regex(re.compile(pattern), style)
            table.add_row(*cells)
        Console().print(table)
