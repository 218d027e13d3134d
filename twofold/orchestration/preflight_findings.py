"""The findings of preflight checks, one per check, in one form for a laptop and for a pod.

Renders findings as lines for a terminal, as a Markdown table, and as log lines from which they can be read back
(`in_log`, `from_log`). A finding never holds the value of a secret.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal, get_args

from twofold.core.markdown import table, text
from twofold.core.redaction import redact

Level = Literal["ok", "warning", "failure", "not checked from here"]
MARK = "twofold-finding: "  # precedes a finding in a pod's log


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        check: what was checked, a few words.
        level: "not checked from here" says neither good nor bad.
        seen: what was found.
        remedy: what to do about it; empty for ok.
    """

    check: str
    level: Level
    seen: str
    remedy: str = ""

    def __post_init__(self) -> None:
        for name in ("check", "seen", "remedy"):
            object.__setattr__(self, name, redact(getattr(self, name)))


def ok(check: str, seen: str) -> Finding:
    return Finding(check, "ok", seen)


def warning(check: str, seen: str, remedy: str) -> Finding:
    return Finding(check, "warning", seen, remedy)


def failure(check: str, seen: str, remedy: str) -> Finding:
    return Finding(check, "failure", seen, remedy)


def not_checked(check: str, why: str, remedy: str) -> Finding:
    return Finding(check, "not checked from here", why, remedy)


def failed(findings: Iterable[Finding]) -> bool:
    return any(finding.level == "failure" for finding in findings)


def lines(findings: Sequence[Finding]) -> list[str]:
    """Return one line per finding, each with its remedy below it, and a line with the counts at the end."""
    width = max((len(finding.check) for finding in findings), default=0)
    rows = []
    for finding in findings:
        rows.append(f"{finding.level:<21}  {finding.check:<{width}}  {finding.seen}")
        if finding.remedy:
            rows.append(f"{'':<21}  {'':<{width}}  -> {finding.remedy}")
    counts = {level: sum(finding.level == level for finding in findings) for level in get_args(Level)}
    return [*rows, ", ".join(f"{count} {level}" for level, count in counts.items() if count)]


def markdown(findings: Sequence[Finding]) -> str:
    rows = [[text(each.level), text(each.check), text(each.seen), text(each.remedy)] for each in findings]
    return "\n".join(table(["", "check", "found", "what to do"], rows))


def in_log(finding: Finding) -> str:
    """Return the finding as a line for a pod's log."""
    return MARK + json.dumps(asdict(finding), ensure_ascii=True)


def from_log(text: str) -> list[Finding]:
    """Return the findings in a log, in order; incomplete lines are left out."""
    found = []
    for line in text.splitlines():
        # Kubernetes or a logger may put a time or a name before the mark. Without the mark, the rest is empty: no JSON.
        try:
            values = json.loads(line.partition(MARK)[2])
        except ValueError:
            continue
        if not isinstance(values, dict) or values.keys() != Finding.__dataclass_fields__.keys():
            continue
        if values["level"] in get_args(Level):
            found.append(Finding(**{key: str(value) for key, value in values.items()}))  # type: ignore[arg-type]
    return found
