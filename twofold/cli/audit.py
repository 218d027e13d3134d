"""`twofold audit SOURCE`: the audits of ingest and preprocess on any source, before there is a pipeline.

In: an address and params.yaml. Out: the two pages in a folder, and a table of what they found. The images themselves
go to a temporary folder.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from twofold.audit.checks import PAGE, SUMMARY
from twofold.core.artifacts import read_json
from twofold.core.errors import DataError
from twofold.core.params import check_section
from twofold.orchestration.params_file import load_yaml
from twofold.sources.factory import open_source
from twofold.steps.ingest import Ingest, ingest
from twofold.steps.preprocess import Preprocess, preprocess


class Verdict(NamedTuple):
    """What to print, and whether a policy says `fail` of something that was found."""

    text: str
    fails: bool


def audit(source: str, params: Path, to: Path) -> Verdict:
    """Run both audits; a policy `fail` is reported and ends nothing.

    Files that are refused are listed, however many there are. Where `ingest.positive` is no class of the source, the
    last class in the order of the alphabet stands in for it: no check depends on which one it is.

    Raises:
        TwofoldError: the source or params.yaml cannot be used, or too few images are left to draw splits of.
    """
    values = load_yaml(params)
    taken = dict(_section(values, "ingest")) | {"source": source, "max_refused_fraction": 1.0, "min_per_class": 2}
    labels = {entry.label for entry in open_source(source).listing().entries}
    if labels and taken.get("positive") not in labels:
        taken["positive"] = max(labels)
    taking, making = (
        check_section(Ingest, "ingest", taken),
        check_section(Preprocess, "preprocess", _section(values, "preprocess")),
    )
    pages = {step: to / step for step in ("ingest", "preprocess")}
    with tempfile.TemporaryDirectory(prefix="twofold-audit-") as place:
        root = Path(place)
        try:
            ingest(taking, raw=root / "raw", metrics=root / "ingest.json", audit=pages["ingest"])
        except DataError:
            if not _failing(pages["ingest"]):
                raise
            # It is written; what follows needs images, without what the policy forbids where that is possible.
            ingest(_lenient(taking), raw=root / "raw", metrics=root / "ingest.json", audit=root / "audit")
        try:
            preprocess(making, root / "raw", data=root / "data", metrics=root / "p.json", audit=pages["preprocess"])
        except DataError:
            if not _failing(pages["preprocess"]):
                raise
    failing = [f"{step}.audit.{name}" for step, page in pages.items() for name in _failing(page)]
    told = f"\n\nfound, and the policy is fail: {', '.join(failing)}" if failing else ""
    return Verdict(_table(pages) + told, bool(failing))


def _section(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = values.get(name)
    if not isinstance(section, Mapping):
        check_section(Ingest if name == "ingest" else Preprocess, name, section)  # raises, and says what is wrong
    return section  # type: ignore[return-value]


def _lenient(section: Ingest) -> Ingest:
    policies = section.audit.model_dump()
    softer = {name: "warn" if policy == "fail" else policy for name, policy in policies.items()}
    softer["both_labels"] = "quarantine"
    return check_section(Ingest, "ingest", section.model_dump() | {"audit": softer})


def _checks(directory: Path) -> dict[str, Any]:
    return dict(read_json(directory / SUMMARY)["checks"])


def _failing(directory: Path) -> list[str]:
    """The checks of an audit that found what their policy forbids; none if it was not written."""
    if not (directory / SUMMARY).exists():
        return []
    return [name for name, one in _checks(directory).items() if one["policy"] == "fail" and one["found"]]


def _table(pages: Mapping[str, Path]) -> str:
    rows = [
        (step, name.replace("_", " "), str(one["policy"]), "-" if one["policy"] == "ignore" else str(one["found"]))
        for step, page in pages.items()
        for name, one in _checks(page).items()
    ]
    header = ("step", "check", "policy", "found")
    widths = [max(len(row[place]) for row in [header, *rows]) for place in range(3)]
    lines = [
        "  ".join([*(cell.ljust(width) for cell, width in zip(row[:3], widths, strict=True)), row[3].rjust(5)])
        for row in [header, *rows]
    ]
    return "\n".join([*lines, "", *(str(page / PAGE) for page in pages.values())])
