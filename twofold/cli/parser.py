"""The parser of every command: no abbreviations, "did you mean", and no unexpected value in a message.

An unexpected word may be a token: a message suggests commands and options that exist, and does not repeat the word.
"""

import argparse
import difflib
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from twofold.cli.output import echo
from twofold.core.errors import ParameterError


class Parser(argparse.ArgumentParser):
    """An argparse parser; `overview`, if it has one, replaces its help."""

    overview = ""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)
        help_ = "print the result and errors, but no progress, notes and warnings"
        self.add_argument("--quiet", action="store_true", default=argparse.SUPPRESS, help=help_)

    def format_help(self) -> str:
        return self.overview or super().format_help()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Like argparse's, but unknown words are an error of the command that got them."""
        options, rest = super().parse_known_args(args, namespace)
        if rest:
            names = [word.partition("=")[0] if word.startswith("--") else word[:2] for word in rest if word[:1] == "-"]
            hint = did_you_mean(names, self._option_string_actions)
            names += ["a value without an option"] if len(names) < len(rest) else []
            self.error(f"unrecognized: {', '.join(names)} (values are not shown){hint}")
        return options, rest

    def _get_value(self, action: argparse.Action, arg_string: str) -> Any:
        # Report an option's ParameterError as wrong usage.
        try:
            return super()._get_value(action, arg_string)
        except ParameterError as error:
            raise argparse.ArgumentError(action, str(error)) from None

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        # In `--token SECRET submit`, argparse takes the secret for the command.
        if action.choices is not None and value not in action.choices:
            choices = [str(choice) for choice in action.choices]
            kind = "command" if isinstance(action, argparse._SubParsersAction) else "choice"
            hint = did_you_mean([str(value)], choices)
            raise argparse.ArgumentError(action, f"no such {kind}{hint} (choose from {', '.join(choices)})")

    def _print_message(self, message: str, file: Any = None) -> None:
        echo(message.rstrip("\n"), file or sys.stderr)


def did_you_mean(words: Sequence[str], known: Iterable[str]) -> str:
    """Return "; did you mean NAME?" with the known names that are like the words; empty if there is none."""
    names = list(known)
    found = dict.fromkeys(name for word in words for name in difflib.get_close_matches(word, names, 1))
    return f"; did you mean {' or '.join(found)}?" if found else ""
