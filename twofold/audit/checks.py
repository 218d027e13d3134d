"""What an audit of the data found, and what is done about it.

In: checks, each with its policy and the images it found. Out: `Check` and `Found`, which a step's audit is made of, and
an error where a policy says `fail`.

| policy | what is done about a finding |
|---|---|
| ignore | nothing; it is not looked for |
| warn | it is listed in the step's audit |
| quarantine | it is listed, and the image is left out |
| fail | it is listed, and the step ends with an error |
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from twofold.core.errors import DataError

Policy = Literal["ignore", "warn", "quarantine", "fail"]
# For what is said of the data as a whole: there is no image to leave out.
PolicyOfAll = Literal["ignore", "warn", "fail"]
SHOWN = 10  # findings of a check in an error
# What is done about a finding, in words.
DONE: dict[Policy, str] = {
    "ignore": "nothing",
    "warn": "listed, nothing else was done",
    "quarantine": "left out",
    "fail": "ends the step",
}

KIND, VERSION = "audit", 2
PAGE, FINDINGS, SUMMARY = "audit.html", "findings.csv", "audit.json"


class Issue(NamedTuple):
    """One finding; a row of `findings.csv`.

    Attributes:
        check: name of the check, which is its policy's name too.
        sha256: of the image's file; empty where the finding is about the data as a whole.
        key: the image's path in the source.
        label: its class.
        split: train, validation or test; empty before there are splits.
        detail: what was found, in words and figures.
        of: SHA-256 of the image that it repeats or contradicts, if so.
        value: the figure that decided, in the check's unit.
    """

    check: str
    sha256: str
    key: str
    label: str
    split: str
    detail: str
    of: str = ""
    value: float | None = None


class Check(NamedTuple):
    """One thing that was looked for.

    Attributes:
        name: as in the parameters, such as `near_duplicates`.
        policy: what is done about it.
        title: a heading for people.
        meaning: a sentence or two: what it is, how it is found, what it would do to a model.
        found: the findings, in the order in which they are shown; empty for `ignore`.
        parameter: what sets it, if it has no policy of its own in params.yaml.
        impossible: why it could not be looked for in these data, a sentence; empty if it was.
    """

    name: str
    policy: Policy
    title: str
    meaning: str
    found: Sequence[Issue]
    parameter: str = ""
    impossible: str = ""

    def set_by(self, step: str) -> str:
        """The address in params.yaml of what says what is done about it."""
        return self.parameter or f"{step}.audit.{self.name}"


def describe_findings(checks: Sequence[Check]) -> str:
    """What was found, in a few words: `leaks (6), near duplicates (2)`, or `nothing`."""
    found = [f"{check.name.replace('_', ' ')} ({len(check.found)})" for check in checks if check.found]
    return ", ".join(found) or "nothing"


def enforce_policies(step: str, checks: Sequence[Check], page: Path) -> None:
    """End the step where a policy asks for it.

    Args:
        step: whose audit it is; the first part of each policy's name in params.yaml.
        checks: of that audit, written already.
        page: where it can be read.

    Raises:
        DataError: a check with the policy `fail` found something; the first findings are listed.
    """
    failed = [check for check in checks if check.policy == "fail" and check.found]
    if not failed:
        return
    lines = []
    for check in failed:
        lines.append(f"{check.title}: {len(check.found)} found, and {check.set_by(step)} is fail")
        lines += [f"  {found.key or 'all images'}: {found.detail}" for found in check.found[:SHOWN]]
        if len(check.found) > SHOWN:
            lines.append(f"  … and {len(check.found) - SHOWN} more")
    raise DataError("\n  ".join([f"the audit of {step} found what may not be; see {page}:", *lines]))
