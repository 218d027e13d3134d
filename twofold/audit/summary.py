"""Summarises the data audits of a model for the people who approve it.

Takes the audits of ingest, preprocess and train_head; returns for each check what was found, what was done about it and
what it means. It names no image: the pages of the audits, which are stored beside the data, show them.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from twofold.audit.checks import DONE, KIND, NAMES, PAGE, SUMMARY, VERSION, Policy, next_step
from twofold.core.artifacts import read_csv, read_json, read_meta
from twofold.core.errors import ArtifactError


class AuditSummary(NamedTuple):
    """The result of one check of an audit."""

    step: str
    check: str  # its name
    title: str  # a heading for people
    meaning: str
    policy: Policy
    found: int  # number of issues
    set_by: str  # key of the policy in params.yaml
    told: tuple[str, ...]  # details of the issues that concern the data as a whole
    impossible: str  # why the check could not run, if so

    @property
    def done(self) -> str:
        """What was done about the issues, for people."""
        return DONE[self.policy]

    @property
    def next_step(self) -> tuple[str, str]:
        """What to do about the issues: in words, and as a command."""
        return next_step(self.check, self.policy, self.set_by)


class ChecksByOutcome(NamedTuple):
    """Checks with issues, without issues, that could not run, and that were ignored; in the order of the steps."""

    raised: list[AuditSummary]
    quiet: list[AuditSummary]
    impossible: list[AuditSummary]
    ignored: list[AuditSummary]

    @property
    def found(self) -> list[str]:
        """The checks with issues and their numbers: "Under-exposed images (13)"."""
        return [f"{check.title} ({check.found:,})" for check in self.raised]


def read_audits(audits: Mapping[str, Path], fingerprint: str) -> tuple[AuditSummary, ...]:
    """Every check of the audits, in the order of the steps and of the checks' names.

    Args:
        audits: the folder of each audit, by the name of the step.
        fingerprint: of the data that they must have audited.

    Raises:
        ArtifactError: an audit is missing, of another step or other data, or found issues whose policy is `fail`.
    """
    return tuple(check for step, folder in audits.items() for check in _read_audit(step, folder, fingerprint))


def read_names(preprocess_audit: Path, fingerprint: str) -> dict[str, str]:
    """The path of every image in the source, by SHA-256, and ArtifactError as for `read_audits`."""
    read_audits({"preprocess": preprocess_audit}, fingerprint)
    return {row["sha256"]: row["key"] for row in read_csv(preprocess_audit / NAMES)}


def _read_audit(step: str, folder: Path, fingerprint: str) -> list[AuditSummary]:
    meta = read_meta(folder, KIND, VERSION)
    for key, expected in (("step", step), ("fingerprint", fingerprint)):
        if meta.get(key) != expected:
            raise ArtifactError(
                f"{folder}: it is an audit of the {key} {meta.get(key)}, expected {expected}; run {step} again"
            )
    try:
        checks = [
            AuditSummary(step, name, *(values[field] for field in AuditSummary._fields[2:]))._replace(
                found=int(values["found"]), told=tuple(values["told"])
            )
            for name, values in read_json(folder / SUMMARY)["checks"].items()
        ]
        forbidden = [check.set_by for check in checks if check.policy == "fail" and check.found]
        unknown = {check.policy for check in checks} - set(DONE)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(f"{folder / SUMMARY}: not written by an audit ({error!r}); run {step} again") from None
    if unknown:
        raise ArtifactError(f"{folder / SUMMARY}: policies are {', '.join(DONE)}, found {sorted(map(str, unknown))}")
    if forbidden:
        raise ArtifactError(
            f"{folder / PAGE}: found issues whose policy is fail ({', '.join(forbidden)}), so {step} failed; read the "
            f"page, fix the data or change the policy, and run {step} again"
        )
    return checks


def group_by_outcome(checks: Iterable[AuditSummary]) -> ChecksByOutcome:
    """Sort checks by their outcome; a title that several checks have gets the step."""
    groups, checks = ChecksByOutcome([], [], [], []), list(checks)
    titles = Counter(check.title for check in checks)
    for check in checks:
        if titles[check.title] > 1:
            check = check._replace(title=f"{check.title} (by {check.step})")
        if check.policy == "ignore" and not check.found:
            groups.ignored.append(check)
        elif check.impossible:
            groups.impossible.append(check)
        else:
            (groups.raised if check.found else groups.quiet).append(check)
    return groups
