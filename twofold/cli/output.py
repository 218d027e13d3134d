"""What a command prints: tables and colour on a terminal, plain text elsewhere, or JSON."""

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

# On a terminal, the colour of a word says how things stand.
_COLOURS = {
    "green": r"\b(passed|Promoted|as recorded|up to date|ok)\b|^champion$",
    "red": r"\b(FAILED|WRONG|failed|failure|Refused|differs|error)\b",
    "yellow": r"\b(stale|version \d+ waits|warning|not checked)\b|^challenger$",
    "bold": r"(?m)^\w[^\n]*:$|^finds .*$",
    "dim": r"(?m)^ +\$ .*$",
}


class Result(NamedTuple):
    """What a command has to say: a text, or the rows of a table with its head; the same for `--json`; a status."""

    text: str | Sequence[Sequence[str]]
    values: Any = None
    status: int = 0


def add_json(*parsers: argparse.ArgumentParser) -> None:
    """Add `--json` to commands whose result has values."""
    for parser in parsers:
        parser.add_argument("--json", action="store_true", help="print JSON instead of text")


def add_params(parser: argparse.ArgumentParser, use: str) -> None:
    """Add `--params`, without which a command reads the params.yaml of the project around the current folder."""
    parser.add_argument("--params", type=Path, help=f"{use} (params.yaml of the project)")


def add_root(parser: argparse.ArgumentParser) -> None:
    """Add `--root`, without which a command takes the project around the current folder."""
    parser.add_argument("--root", type=Path, help="the project's folder (the nearest one with params.yaml, upwards)")


def in_project(run: Callable[[argparse.Namespace], Any]) -> Callable[[argparse.Namespace], Any]:
    """Return a command with `--params` and `--root` of the project where they are not given."""

    def located(options: argparse.Namespace) -> Any:
        from twofold.orchestration.params_file import PARAMS, project_path

        for name, file in (("params", PARAMS), ("root", "")):
            if getattr(options, name, "") is None:
                setattr(options, name, project_path(file))
        return run(options)

    return located


def print_result(result: Result, *, as_json: bool) -> None:
    """Print a result on standard output."""
    if as_json:
        print(json.dumps(result.values, indent=2, ensure_ascii=False))
    elif isinstance(result.text, str):
        echo(result.text)
    elif sys.stdout.isatty() and "NO_COLOR" not in os.environ:
        from rich.console import Console
        from rich.table import Column, Table

        head = [Column(name, overflow="fold") for name in result.text[0]]
        table = Table(*head, box=None, padding=(0, 1, 0, 0), header_style="bold")
        for row in result.text[1:]:
            table.add_row(*map(_coloured, row))
        Console().print(table)
    elif result.text:
        from twofold.registry.version_text import format_table

        print(format_table(result.text))


def echo(text: str, file: Any = None) -> None:
    """Print a text; on a terminal in colour, unless NO_COLOR is set."""
    stream = file or sys.stdout
    if not stream.isatty() or "NO_COLOR" in os.environ:
        print(text, file=stream)
        return
    from rich.console import Console

    Console(file=stream, soft_wrap=True).print(_coloured(text))


def _coloured(text: str) -> Any:
    from rich.text import Text

    coloured = Text(text)
    for style, pattern in _COLOURS.items():
        coloured.highlight_regex(pattern, style)
    return coloured
