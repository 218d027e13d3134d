"""Records the project's git commit with what is created on a server, and compares it with the checkout later."""

import re

from twofold.orchestration.params_file import project_root
from twofold.registry.provenance import git_state


def checkout_commit() -> str | None:
    """The project's commit, with `-dirty` if tracked files differ from it; None outside a git repository."""
    state = git_state(project_root())
    return state["git.commit"] + ("" if state["git.changed"] == "none" else "-dirty") if state else None


def describe(verb: str, mark: str) -> str:
    """The description of a run or schedule: its origin, and at the end the mark by which it is found again."""
    return f"{verb} by twofold kfp, commit {checkout_commit() or 'unknown'}, {mark}"


def compare(description: str | None) -> tuple[str, bool | None]:
    """The commit in a description, and whether the checkout differs from it: in words, and None if that is unknown."""
    found = re.search(r", commit (([0-9a-f]{12})[0-9a-f]*(-dirty)?), ", description or "")
    if found is None:
        return "unknown", None
    checkout, changed = checkout_commit(), found[3] or ""  # uncommitted changes may differ from other ones
    differs = None if checkout is None or (changed and found[1] == checkout) else found[1] != checkout
    return found[2] + changed + (" (the checkout differs)" if differs else ""), differs
