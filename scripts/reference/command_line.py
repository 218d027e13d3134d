"""The command line as Markdown, read from the parsers themselves: every command with its arguments and its status."""

import argparse
from collections.abc import Iterator

from scripts.reference.tables import table
from twofold.cli import main
from twofold.cli.kfp.command import COMMANDS

STATUS = (
    ("0", "done; also for a run whose model was refused"),
    ("1", "an error, gates that are not passed, or a difference that was asked for"),
    ("2", "wrong usage: an unknown command, option or value"),
    ("3", "`twofold drift`: drift was found"),
    ("4", "`twofold predict`: the model did not accept a file; its row says why"),
    ("130", "interrupted"),
)


def commands() -> str:
    """All commands in the order of the help, and the exit codes."""
    parts = [*_sections(main._parser([*COMMANDS])), f"## Exit codes\n\n{table(('status', 'meaning'), STATUS)}"]
    return "\n\n".join(parts)


def _sections(parser: argparse.ArgumentParser, help_: str = "") -> Iterator[str]:
    children = next((each for each in parser._actions if isinstance(each, argparse._SubParsersAction)), None)
    rows = [row for action in parser._actions if (row := _row(action))]
    text = [_sentence(parser.description or help_), *([table(("argument", "meaning"), rows)] if rows else [])]
    if parser.epilog:
        text.append(_escape(_sentence(parser.epilog)))
    level = "##" if parser.prog.count(" ") < 2 else "###"
    if rows or children is None or level == "##":
        yield "\n\n".join([f"{level} {parser.prog}", *filter(None, text)])
    if children is not None:
        hints = {action.dest: action.help or "" for action in children._choices_actions}
        for name, child in children.choices.items():
            yield from _sections(child, hints.get(name, ""))


def _row(action: argparse.Action) -> tuple[str, str] | None:
    """The name of an argument with its value, and its meaning; None for commands and what all of them know."""
    if isinstance(action, argparse._HelpAction | argparse._SubParsersAction) or action.dest == "quiet":
        return None
    value = action.metavar or (f"{{{','.join(map(str, action.choices))}}}" if action.choices else action.dest.upper())
    value = value if isinstance(value, str) else " ".join(value)
    if action.nargs in ("+", "*"):
        value += " …"
    names = ", ".join(action.option_strings)
    if not names:
        shown = f"[{value}]" if action.nargs in ("?", "*") else value
    else:
        shown = names if action.nargs == 0 else f"{names} {value}"
    meaning = " ".join(((action.help or "") % {**vars(action), "prog": "twofold"}).split())
    return f"`{shown}`", _escape(meaning + (" (required)" if names and action.required else ""))


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    return text and text[0].upper() + text[1:] + ("" if text[-1] in ".)…" else ".")


def _escape(text: str) -> str:
    """Angle brackets and stars are text, not HTML and emphasis."""
    return text.replace("<", "\\<").replace("*", "\\*")
