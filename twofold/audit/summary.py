"""What the audits said of the data that a model was made from, for the people who decide on it.

In: the audits of ingest, preprocess and train_head. Out: one line a check, with what was found, what was done about it
and what it means. No image is named: the audits' own pages, which lie beside the data, show them.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from twofold.audit.checks import DONE, KIND, PAGE, SUMMARY, VERSION, Policy
from twofold.core.artifacts import read_json, read_meta
from twofold.core.errors import ArtifactError


class AuditSummary(NamedTuple):
    """What one check of an audit came to.

    Attributes:
        step: whose audit it is; `check`: its name there.
        title: a heading for people; `meaning`: a sentence or two.
        policy: by which something was done about it.
        found: how many findings.
        set_by: the address of the policy in params.yaml.
        told: what was found, where it is said of the data as a whole.
        impossible: why it could not be looked for, if so.
    """

    step: str
    check: str
    title: str
    meaning: str
    policy: Policy
    found: int
    set_by: str
    told: tuple[str, ...]
    impossible: str

    @property
    def done(self) -> str:
        """What was done about it, in words."""
        return DONE[self.policy]


class ChecksByOutcome(NamedTuple):
    """Checks by what came of them, each in the order of the steps; attributes for `audit_summary.html`."""

    raised: list[AuditSummary]
    quiet: list[AuditSummary]
    impossible: list[AuditSummary]
    ignored: list[AuditSummary]


def read_audits(audits: Mapping[str, Path], fingerprint: str) -> tuple[AuditSummary, ...]:
    """Every check of the audits, in the order of the steps and of the checks' names.

    Args:
        audits: their folders by the step's name.
        fingerprint: of the data that they must be of.

    Raises:
        ArtifactError: one is missing, of another step or other data, or found what its policy forbids.
    """
    return tuple(one for step, folder in audits.items() for one in _read(step, folder, fingerprint))


def _read(step: str, folder: Path, fingerprint: str) -> list[AuditSummary]:
    about = read_meta(folder, KIND, VERSION)
    for what, expected in (("step", step), ("fingerprint", fingerprint)):
        if about.get(what) != expected:
            raise ArtifactError(
                f"{folder}: it is an audit of the {what} {about.get(what)}, expected {expected}; run {step} again"
            )
    try:
        checks = [
            AuditSummary(
                step,
                name,
                title=one["title"],
                meaning=one["meaning"],
                policy=one["policy"],
                found=int(one["found"]),
                set_by=one["set_by"],
                told=tuple(one["told"]),
                impossible=one["impossible"],
            )
            for name, one in read_json(folder / SUMMARY)["checks"].items()
        ]
        forbidden = [check.set_by for check in checks if check.policy == "fail" and check.found]
        unknown = {check.policy for check in checks} - set(DONE)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(f"{folder / SUMMARY}: not what an audit writes ({error!r}); run {step} again") from None
    if unknown:
        raise ArtifactError(f"{folder / SUMMARY}: policies are {', '.join(DONE)}, found {sorted(map(str, unknown))}")
    if forbidden:
        raise ArtifactError(
            f"{folder / PAGE}: it found what may not be ({', '.join(forbidden)}), so {step} did not end well; look at "
            f"the page, mend the data or the policy, and run {step} again"
        )
    return checks


def group_by_outcome(checks: Iterable[AuditSummary]) -> ChecksByOutcome:
    """The checks that found something, found nothing, could not look, and were not to look."""
    found = ChecksByOutcome([], [], [], [])
    for check in checks:
        if check.policy == "ignore" and not check.found:
            found.ignored.append(check)
        elif check.impossible:
            found.impossible.append(check)
        else:
            (found.raised if check.found else found.quiet).append(check)
    return found
