"""What `twofold models` prints: the values of `twofold.registry.version_catalog` and `twofold.registry.verification`, in words and columns."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from twofold.metrics.classification import METRICS

NOTHING = "-"
FEW = 8  # names that are listed


def listing(versions: Sequence[Mapping[str, Any]], name: str) -> str:
    """A line a version."""
    if not versions:
        return f"'{name}' has no version yet"
    head = ("version", "standing", *versions[0]["figures"], "images", "made (UTC)", "commit", "data")
    rows = [
        (
            str(each["version"]),
            each["standing"] or NOTHING,
            *(f"{value:.3f}" for value in each["figures"].values()),
            str(each["n"] or NOTHING),
            _day(each["made"]),
            (each["commit"] or NOTHING)[:10],
            (each["data_fingerprint"] or NOTHING)[:10],
        )
        for each in versions
    ]
    return columns([head, *rows])


def about(found: Mapping[str, Any]) -> str:
    """One version, in paragraphs."""
    standing = found["standing"] or "neither champion nor challenger"
    against = found["judged_against"]
    held = f"held against version {against}" if against else "there was no champion to hold it against"
    parts = [f"version {found['version']} of '{found['name']}': {standing}"]
    parts.append(f"gates ({held})\n{_indent(gates(found['gates']))}")
    figures = [(key, f"{value:.4f}" if key != "n" else f"{value:.0f}") for key, value in found["figures"].items()]
    parts.append("figures on its test images\n" + _indent(columns(figures)))
    parts.append("decisions\n" + _indent("\n".join(map(_decision, found["decisions"])) or "none"))
    parts.append("lineage\n" + _indent(columns(lineage(found["lineage"])) or "not recorded"))
    parts.append("where to look\n" + _indent(columns(list(found["links"].items()))))
    return "\n\n".join(parts)


def gates(results: Sequence[Mapping[str, Any]]) -> str:
    """A line a gate."""
    lines = []
    for gate in results:
        word = ("passed" if gate["passed"] else "FAILED") if gate["applies"] else "does not apply"
        lines.append(f"{word:<15} {gate['name']}: {gate['detail']}")
    return "\n".join(lines) or "none recorded"


def lineage(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Everything but the parameters, which `twofold models reproduce` prints."""
    rows = []
    for key, value in values.items():
        if key == "params":
            continue
        if key == "git":
            rows += [("git commit", value["commit"]), ("git changed", shortened(value["changed"]))]
        elif isinstance(value, Mapping):
            rows.append((key, ", ".join(f"{name} {each}" for name, each in value.items()) or NOTHING))
        else:
            rows.append((key, str(value)))
    return rows


def shortened(names: str) -> str:
    """The first of many names."""
    found = names.split(", ")
    return names if len(found) <= FEW else f"{', '.join(found[:FEW])} and {len(found) - FEW} more"


def beside(found: Mapping[str, Any]) -> str:
    """Two versions side by side."""
    one, other = (
        f"version {number}" + (f" ({standing})" if standing else "")
        for number, standing in zip(found["versions"], found["standings"], strict=True)
    )
    whose = "the test images of both" if found["same_test"] else "the test images that both have answered"
    parts = [same(found["same_images"], whose, one, other)]
    if not found["same_test"]:
        rows = [
            (
                "figure",
                *(f"{name}, {own['n']} images" for name, own in zip((one, other), found["own_tests"], strict=True)),
            )
        ]
        for key in METRICS:
            pair = [own["figures"].get(key) for own in found["own_tests"]]
            if None not in pair:
                rows.append((key, *(f"{value:.4f}" for value in pair)))
        parts.append(f"each on its own test images (not to be compared)\n{_indent(columns(rows))}")
    rows = [
        (key, *(str(NOTHING if value is None else value) for value in pair))
        for key, pair in found["made_differently"].items()
    ]
    parts.append(
        "made differently\n" + _indent(columns([("", one, other), *rows]) if rows else "in nothing that is recorded")
    )
    return "\n\n".join(parts)


def same(found: Mapping[str, Any] | None, whose: str, one: str, other: str) -> str:
    """Two versions on the same images, which are `whose`."""
    if found is None:
        return "no test image was answered by both: run register again to judge them on the same ones"
    if found["problem"]:
        return f"they cannot be compared: {found['problem']}"
    rows: list[tuple[str, ...]] = [("figure", one, other, "difference", "95 % interval")]
    for key, pair in found["figures"].items():
        ends = f"{pair['low']:+.4f} to {pair['high']:+.4f}" if "low" in pair else "too few images"
        apart = pair["candidate"] - pair["champion"]
        rows.append((key, f"{pair['candidate']:.4f}", f"{pair['champion']:.4f}", f"{apart:+.4f}", ends))
    only = found["mcnemar"]
    words = (
        f"only {one} is right on {only['candidate_only']} of them, only {other} on {only['champion_only']} "
        f"(McNemar: p = {only['p_value']:.3f})"
    )
    left = sum(found["left_out"].values())
    lines = [f"on {found['n']} images, {whose}", _indent(columns(rows)), f"  {words}"]
    return "\n".join([*lines, *([f"  {_left_out(found['left_out'], one, other)}"] if left else [])])


def _left_out(counts: Mapping[str, int], one: str, other: str) -> str:
    names = {"candidate": one, "champion": other}
    told = [
        f"{count} in {split} of {names[whose]}"
        for (whose, split), count in ((key.split("_"), count) for key, count in counts.items())
        if count
    ]
    return f"left out, for one of them has learned from it: {', '.join(told)}"


def history(found: Mapping[str, Any]) -> str:
    """An entry a line, then what is wrong."""
    lines = [_entry(entry) for entry in found["entries"]] or [f"'{found['name']}' has no ledger yet"]
    lines += [f"void, written under a lock that had been taken over: {_entry(entry)}" for entry in found["void"]]
    lines += [f"acknowledged: {problem}" for problem in found["acknowledged"]]
    if found["unfinished"]:
        lines.append(
            "the last entry has not reached the aliases: someone is at it, or was killed; --repair finishes it"
        )
    return "\n".join([*lines, *(f"WRONG: {problem}" for problem in found["problems"])])


def verification(checks: Sequence[Mapping[str, Any]]) -> str:
    """A line a check, and one for each thing that differs."""
    lines = []
    for check in checks:
        lines.append(f"{check['verdict']:<12} {check['name']}: {check['detail']}")
        lines += [f"{'':<12}   {line}" for line in check["differences"]]
    return "\n".join(lines)


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Rows of texts, each column as wide as its widest."""
    if not rows:
        return ""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return "\n".join(
        "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _entry(entry: Mapping[str, Any]) -> str:
    return f"{entry['number']:>4}  {_decision(entry)}"


def _decision(entry: Mapping[str, Any]) -> str:
    version = "no model" if entry["version"] is None else f"version {entry['version']}"
    before = (
        f", champion before: {entry['champion'] or 'none'}"
        if entry["action"] in ("adopt", "promote", "rollback")
        else ""
    )
    note = f" [{entry['note']}]" if entry["note"] else ""
    words = f"{entry['time']}  {entry['action']:<11} {version}{before}, by {entry['actor']}: {entry['reason']}{note}"
    # What someone wrote must not look like another entry, nor steer the terminal.
    return "".join(letter if letter.isprintable() else " " for letter in words)


def _indent(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


def _day(milliseconds: int | None) -> str:
    if milliseconds is None:
        return NOTHING
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M")
