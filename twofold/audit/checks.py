"""The data types of an audit: policies, checks and issues; and the error of the policy `fail`.

| policy | what happens to the images that a check finds |
|---|---|
| ignore | nothing; the check does not run |
| warn | they are listed in the step's audit |
| quarantine | they are listed and left out |
| fail | they are listed, and the step ends with an error |
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from twofold.core.errors import DataError, listed

Policy = Literal["ignore", "warn", "quarantine", "fail"]
# For checks of the data as a whole, which have no single image to leave out.
PolicyOfAll = Literal["ignore", "warn", "fail"]
SHOWN = 10  # issues of a check in an error
# What was done about the issues of a check, for people.
DONE: dict[Policy, str] = {
    "ignore": "nothing",
    "warn": "listed, nothing else was done",
    "quarantine": "left out",
    "fail": "ends the step",
}

KIND, VERSION = "audit", 2
PAGE, FINDINGS, SUMMARY = "audit.html", "findings.csv", "audit.json"
NAMES = "names.csv"  # of preprocess's audit: the path of every image in the source, by SHA-256
# The checks with a PolicyOfAll, which leave no image out.
OF_ALL = ("exact_duplicates", "imbalance", "label_issues", "narrow_range", "readable_label")


class Issue(NamedTuple):
    """One issue; a row of `findings.csv`."""

    check: str  # name of the check, which is also that of its policy
    sha256: str  # of the image's file; empty if the issue concerns the data as a whole
    key: str  # the image's path in the source
    label: str
    split: str  # train, validation or test; empty before splits are assigned
    detail: str  # what was found, for people
    of: str = ""  # SHA-256 of the image that it repeats or contradicts, if any
    value: float | None = None  # the value that decided, in the check's unit
    command: str = ""  # that corrects it, for a shell in the folder of the source


class Check(NamedTuple):
    """One check and the issues that it found."""

    name: str  # as in the parameters, such as `near_duplicates`
    policy: Policy
    title: str  # a heading for people
    meaning: str  # what an issue is, how it is found, how it would affect a model
    found: Sequence[Issue]  # in the order in which they are shown; empty for `ignore`
    parameter: str = ""  # the parameter that controls the check, if it has no policy in params.yaml
    impossible: str = ""  # why the check could not run on these data, a sentence; empty if it ran

    def set_by(self, step: str) -> str:
        """The key in params.yaml that controls what is done about the issues."""
        return self.parameter or f"{step}.audit.{self.name}"

    @property
    def same_label(self) -> str:
        """As "All 13 under-exposed images are defective"; empty for several labels, and for fewer than 5 images."""
        labels = [issue.label for issue in self.found if issue.sha256]
        if len(labels) < 5 or len(set(labels)) > 1:
            return ""
        subject = self.title[0].lower() + self.title[1:] if self.title.endswith("images") else "findings"
        return f"All {len(labels)} {subject} are {labels[0]}"


def next_step(name: str, policy: Policy, set_by: str) -> tuple[str, str]:
    """What to do about the issues of a check: in words, and as a command."""
    if not set_by.endswith(name):
        return "After repairing or removing these files", "twofold run"
    leaves_out = name not in OF_ALL and policy != "quarantine"
    other = "quarantine" if leaves_out else "warn" if policy == "fail" else "fail"
    words = {"quarantine": "To leave these images out", "fail": "To stop at such a finding", "warn": "To go on with it"}
    return words[other], f"twofold params set {set_by}={other}"


def describe_findings(checks: Sequence[Check]) -> str:
    """The numbers of issues in one line, `leaks (6), near duplicates (2)`, or `nothing`."""
    found = [f"{check.name.replace('_', ' ')} ({len(check.found)})" for check in checks if check.found]
    return ", ".join(found) or "nothing"


def enforce_policies(step: str, checks: Sequence[Check], page: Path) -> None:
    """Raise an error if a check with the policy `fail` found issues.

    Args:
        page: of the audit, which is already written.

    Raises:
        DataError: lists the first issues of each such check.
    """
    lines = []
    for check in checks:
        if check.policy == "fail" and check.found:
            title = f"{check.title}: {len(check.found)} found, and {check.set_by(step)} is fail"
            issues = [f"{issue.key or 'all images'}: {issue.detail}" for issue in check.found]
            lines += listed(title, issues, SHOWN).split("\n")
    if lines:
        raise DataError("\n  ".join([f"the audit of {step} found issues whose policy is fail; see {page}:", *lines]))
