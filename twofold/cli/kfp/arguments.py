"""A parser of the command line whose complaints repeat no value: the one that it cannot place may be a token.

In: argparse's settings and the words. Out: options, or a message of names and exit status 2.
"""

import argparse
from collections.abc import Sequence
from typing import Any


class Parser(argparse.ArgumentParser):
    """argparse's, without abbreviations, for it and for the commands below it."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(allow_abbrev=False, **settings)

    def parse_args(self, args: Sequence[str] | None = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """As argparse's, which would print the words that it does not know, `--tokn SECRET` for one, whole."""
        options, rest = self.parse_known_args(args, namespace)
        if rest:
            names = [word.partition("=")[0] if word.startswith("--") else word[:2] for word in rest if word[:1] == "-"]
            values = "a value that belongs to nothing" if len(names) < len(rest) else ""
            self.error(f"unrecognized: {', '.join([*names, *filter(None, [values])])} (values are not shown)")
        return options

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        # `--token SECRET submit`: here, the secret is taken for the command.
        if isinstance(action, argparse._SubParsersAction) and value not in action.choices:
            raise argparse.ArgumentError(action, f"no such command (choose from {', '.join(action.choices)})")
        super()._check_value(action, value)
