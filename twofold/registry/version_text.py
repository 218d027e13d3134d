"""Format the values of `version_catalog` and `verification` as the text of `twofold models`, 80 columns wide."""

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from textwrap import fill
from typing import Any

from twofold.metrics.number_format import NOTHING, number
from twofold.registry.ledger import SETS_CHAMPION
from twofold.registry.version_catalog import HEADLINE

FEW = 8  # names listed in full
WIDTH = 78  # columns of a text that is indented by two
LONGEST_CELL = 24
_DIGEST = re.compile(r"\b([0-9a-f]{12})[0-9a-f]{20,}\b")  # of which a reader needs twelve digits; `--json` has all


def list_rows(versions: Sequence[Mapping[str, Any]]) -> list[tuple[str, ...]]:
    """The rows of a table of versions, of which the first one is its head."""
    head = ("version", "status", *HEADLINE, "images", "created", "commit", "data")
    rows = [
        (
            str(version["version"]),
            _status(version) or NOTHING,
            *(number(version["figures"].get(key)) for key in HEADLINE),
            str(version["n"] or NOTHING),
            NOTHING if made is None else f"{datetime.fromtimestamp(made / 1000, UTC):%Y-%m-%d}",
            (version["commit"] or NOTHING)[:7],
            (version["data_fingerprint"] or NOTHING)[:7],
        )
        for version in versions
        for made in [version["made"]]
    ]
    return [head, *rows]


def _status(version: Mapping[str, Any]) -> str:
    return ", ".join(filter(None, (version["standing"], "not by Twofold" if version["foreign"] else "")))


def format_version(version: Mapping[str, Any]) -> str:
    """One version, in paragraphs."""
    against = version["judged_against"]
    compared = f"compared with version {against}" if against else "there was no champion to compare with"
    metrics = [(key, f"{value:.4f}" if key != "n" else f"{value:.0f}") for key, value in version["figures"].items()]
    rows = lineage_rows(version["lineage"])
    width = max((len(key) for key, _ in rows), default=0)
    lineage = [_wrapped(f"{key:<{width}}  ", _DIGEST.sub(r"\1", value)) for key, value in rows]
    status = _status(version) or "neither champion nor challenger"
    parts = [
        f"version {version['version']} of '{version['name']}': {status}",
        f"gates ({compared})\n{_indent(version['test_reuse'] or '', format_gates(version['gates']))}",
        f"metrics on its test images\n{_indent(format_table(metrics))}",
        f"decisions\n{_indent(*map(_entry, version['decisions'])) or '  none'}",
        f"lineage\n{_indent(*lineage) or '  not recorded'}",
        f"links\n{_indent(format_table(list(version['links'].items())))}",
    ]
    return "\n\n".join(parts)


def format_gates(gates: Sequence[Mapping[str, Any]]) -> str:
    """One line per gate."""
    lines = []
    for gate in gates:
        result = ("passed" if gate["passed"] else "FAILED") if gate["applies"] else "does not apply"
        lines.append(_wrapped(f"{result:<15} ", f"{gate['name']}: {gate['detail']}"))
    return "\n".join(lines) or "none recorded"


def lineage_rows(lineage: Mapping[str, Any]) -> list[tuple[str, str]]:
    """A lineage as rows of key and value, without the parameters, which `twofold models reproduce` prints."""
    rows = []
    for key, value in lineage.items():
        if key == "git":
            rows += [("git commit", value["commit"]), ("git changed", shorten_names(value["changed"]))]
        elif isinstance(value, Mapping) and key != "params":
            rows.append((key, ", ".join(f"{name} {each}" for name, each in value.items()) or NOTHING))
        elif key != "params":
            rows.append((key, str(value)))
    return rows


def shorten_names(text: str) -> str:
    """The first names of a long list."""
    names = text.split(", ")
    return text if len(names) <= FEW else f"{', '.join(names[:FEW])} and {len(names) - FEW} more"


def format_comparison(comparison: Mapping[str, Any]) -> str:
    """Two versions, compared."""
    from twofold.metrics.classification import METRICS

    one, other = names = [f"version {number}" for number in comparison["versions"]]
    pair = zip(names, comparison["standings"], strict=True)
    images = "the test images of both" if comparison["same_test"] else "the test images that both have answered"
    parts = [" and ".join(name + (f" ({status})" if status else "") for name, status in pair)]
    parts.append(format_paired(comparison["same_images"], images, one, other))
    if not comparison["same_test"]:
        first, second = comparison["own_tests"]
        rows = [("metric", f"{one}, {first['n']} images", f"{other}, {second['n']} images")]
        shared = [key for key in METRICS if key in first["figures"] and key in second["figures"]]
        rows += [(key, f"{first['figures'][key]:.4f}", f"{second['figures'][key]:.4f}") for key in shared]
        parts.append(f"each on its own test images (not comparable)\n{_indent(format_table(rows))}")
    rows = [("", one, other)]
    for key, values in comparison["made_differently"].items():
        rows.append((key, *(NOTHING if value is None else _DIGEST.sub(r"\1", str(value)) for value in values)))
    parts.append("differences in lineage\n" + (_cells_and_texts(rows) if len(rows) > 1 else "  none recorded"))
    return "\n\n".join(parts)


def format_paired(paired: Mapping[str, Any] | None, images: str, one: str, other: str) -> str:
    """Two versions, with their names, on the same images; `paired` is None if they share no test image."""
    if paired is None:
        return "the versions have no test image in common: run register again to judge them on the same ones"
    if paired["problem"]:
        return f"they cannot be compared: {paired['problem']}"
    rows = [("metric", one, other, "difference", "95 % interval")]
    for key, pair in paired["figures"].items():
        interval = f"{pair['low']:+.4f} to {pair['high']:+.4f}" if "low" in pair else pair["no_interval"]
        difference = pair["candidate"] - pair["champion"]
        rows.append((key, f"{pair['candidate']:.4f}", f"{pair['champion']:.4f}", f"{difference:+.4f}", interval))
    only = paired["mcnemar"]
    lines = [
        f"on {paired['n']} images, {images}",
        _cells_and_texts(rows),
        f"  only {one} is right on {only['candidate_only']} of them, only {other} on {only['champion_only']} "
        f"(McNemar: p = {only['p_value']:.3f})",
    ]
    names = {"candidate": one, "champion": other}
    learned = ((count, *key.split("_")) for key, count in paired["left_out"].items() if count)
    if left_out := ", ".join(f"{count} in {split} of {names[model]}" for count, model, split in learned):
        lines.append(_indent(_wrapped("left out because a model has learned from them: ", left_out, 2)))
    return "\n".join(lines)


def format_history(history: Mapping[str, Any]) -> str:
    """One line per entry, then the problems."""
    lines = [_entry(entry) for entry in history["entries"]] or [f"'{history['name']}' has no ledger yet"]
    lines += [f"void, written under a lock that had been taken over:\n{_entry(entry)}" for entry in history["void"]]
    lines += [f"acknowledged: {problem}" for problem in history["acknowledged"]]
    if history["unfinished"]:
        lines.append(
            "the aliases are not set for the last entry: another process is setting them, or was killed; --repair "
            "sets them"
        )
    return "\n".join([*lines, *(f"WRONG: {problem}" for problem in history["problems"])])


def format_checks(checks: Sequence[Mapping[str, Any]]) -> str:
    """One line per check, and one per difference."""
    lines = []
    for check in checks:
        lines.append(f"{check['verdict']:<12} {check['name']}: {check['detail']}")
        lines += [f"{'':<12}   {line}" for line in check["differences"]]
    return "\n".join(lines)


def _cells_and_texts(rows: Sequence[Sequence[str]]) -> str:
    """An indented table with its head, and below it what is too long for a cell, as `row, column: text`."""
    shown, texts = [], []
    for key, *cells in rows:
        long = {name: cell for name, cell in zip(rows[0][1:], cells, strict=True) if len(cell) > LONGEST_CELL}
        shown.append((key, *("see below" if cell in long.values() else cell for cell in cells)))
        texts += [_wrapped(f"{key}, {name}: ", cell, 2) for name, cell in long.items()]
    return _indent(format_table(shown), *texts)


def _wrapped(start: str, text: str, hang: int | None = None) -> str:
    """A text after a start; further lines hang below the text, or by some columns."""
    indent = " " * (len(start) if hang is None else hang)
    whole = {"break_long_words": False, "break_on_hyphens": False}
    return fill(text, WIDTH, initial_indent=start, subsequent_indent=indent, **whole) or start.rstrip()  # type: ignore


def format_table(rows: Sequence[Sequence[str]]) -> str:
    """Rows of texts with aligned columns, closer together if that makes them fit; empty if there are no rows."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    narrow = sum(widths) + len(widths) - 1
    gap = " " if narrow <= WIDTH + 2 < narrow + len(widths) - 1 else "  "
    return "\n".join(
        gap.join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def _entry(entry: Mapping[str, Any]) -> str:
    version = "no model" if entry["version"] is None else f"version {entry['version']}"
    sets_champion = entry["action"] in SETS_CHAMPION
    before = f", champion before: {entry['champion'] or 'none'}" if sets_champion else ""
    note = f" [{entry['note']}]" if entry["note"] else ""
    text = f"{entry['time']}  {entry['action']:<11} {version}{before}, by {entry['actor']}: {entry['reason']}{note}"
    # A person's text must not look like another entry, nor control the terminal.
    text = "".join(letter if letter.isprintable() else " " for letter in text)
    return _wrapped(f"{entry['number']:>4}  ", text)


def _indent(*texts: str) -> str:
    return "\n".join(f"  {line}" for text in texts for line in text.splitlines())
