"""What a check found: one line a check, the same from a laptop and from inside a cluster.

In: a check's name, how it stands, what was seen, and what to do. Out: lines to read, a Markdown table, and lines of
a log from which the findings are read back (`in_log`, `from_log`). A finding never holds a secret's value.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Literal, get_args

Level = Literal["ok", "warning", "failure", "not checked from here"]
MARK = "twofold-finding: "  # what a pod's log line with a finding begins with


@dataclass(frozen=True)
class Finding:
    """One check's result.

    Attributes:
        check: what was looked at, a few words.
        level: "not checked from here" is neither good nor bad: nobody has looked.
        seen: what was found.
        remedy: what to do about it; empty for ok.
    """

    check: str
    level: Level
    seen: str
    remedy: str = ""


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
    """A line a finding, its remedy below it, and a sum at the end."""
    wide = max((len(finding.check) for finding in findings), default=0)
    shown = []
    for finding in findings:
        shown.append(f"{finding.level:<21}  {finding.check:<{wide}}  {finding.seen}")
        if finding.remedy:
            shown.append(f"{'':<21}  {'':<{wide}}  -> {finding.remedy}")
    counts = {level: sum(finding.level == level for finding in findings) for level in get_args(Level)}
    return [*shown, ", ".join(f"{count} {level}" for level, count in counts.items() if count)]


def markdown(findings: Sequence[Finding]) -> str:
    rows = ["| | check | seen | what to do |", "|---|---|---|---|"]
    for finding in findings:
        cells = (finding.level, finding.check, finding.seen, finding.remedy)
        rows.append("| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def in_log(finding: Finding) -> str:
    """A line of a pod's log."""
    return MARK + json.dumps(asdict(finding), ensure_ascii=True)


def from_log(text: str) -> list[Finding]:
    """The findings that a log holds, in order; a line that is not whole is left out."""
    found = []
    for line in text.splitlines():
        # A log's line may carry a time or a logger's name before the text.
        _, mark, rest = line.partition(MARK)
        if not mark:
            continue
        try:
            values = json.loads(rest)
        except ValueError:
            continue
        if (
            isinstance(values, dict)
            and set(values) == {field.name for field in fields(Finding)}
            and values["level"] in get_args(Level)
        ):
            found.append(Finding(**{key: str(value) for key, value in values.items()}))  # type: ignore[arg-type]
    return found
