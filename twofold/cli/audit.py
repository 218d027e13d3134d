"""`twofold audit SOURCE`: run the audits of ingest and preprocess on any source, before there is a pipeline.

Reads an address and params.yaml, outside of a project that of a new one. Writes the two audit pages into a folder, and
returns a table of the issues. The images go to a temporary folder.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twofold.audit.checks import PAGE, SUMMARY
from twofold.cli.output import Result
from twofold.core.artifacts import read_json
from twofold.core.code_digest import ROOT
from twofold.core.drafts import scratch_folder
from twofold.core.errors import DataError, ParameterError
from twofold.core.params import check_section
from twofold.core.progress import say
from twofold.orchestration.params_file import PARAMS, load_yaml, project_root
from twofold.registry.version_text import format_table
from twofold.sources.factory import open_source
from twofold.steps.ingest import Ingest, ingest
from twofold.steps.preprocess import Preprocess, preprocess


def audit(source: str, params: Path | None, to: Path) -> Result:
    """Run both audits; an issue whose policy is `fail` is reported and stops neither of them.

    Refused files are listed, whatever their number. If `ingest.positive` is no class of the source, the last class in
    alphabetical order replaces it: no check depends on it.

    Args:
        params: the file with policies and limits; None for that of the project, or outside of one that of the package.

    Returns:
        The table to print, and the status 1 if an issue was found whose policy is `fail`.

    Raises:
        TwofoldError: the source or params.yaml cannot be used, or too few images are left to draw splits from.
    """
    values = load_yaml(params or _default_params())
    section = values.get("ingest")
    if isinstance(section, Mapping):
        section = {**section, "source": source, "max_refused_fraction": 1.0, "min_per_class": 2}
        labels = {entry.label for entry in open_source(source).listing().entries}
        if labels and section.get("positive") not in labels:
            section["positive"] = max(labels)
    reading = check_section(Ingest, "ingest", section)
    preparing = check_section(Preprocess, "preprocess", values.get("preprocess"))
    pages = {step: to / step for step in ("ingest", "preprocess")}
    with scratch_folder() as root:
        raw = {"raw": root / "raw", "metrics": root / "ingest.json"}
        try:
            ingest(reading, **raw, audit=pages["ingest"])
        except DataError:
            if not _failing(pages["ingest"]):
                raise
            # The page is written; preprocess needs images, if possible without those that the policy forbids.
            ingest(_warn_instead_of_fail(reading), **raw, audit=root / "audit")
        try:
            preprocess(preparing, root / "raw", data=root / "data", metrics=root / "p.json", audit=pages["preprocess"])
        except DataError:
            if not _failing(pages["preprocess"]):
                raise
    failing = [f"{step}.audit.{name}" for step, page in pages.items() for name in _failing(page)]
    text = f"\n\nissues whose policy is fail: {', '.join(failing)}" if failing else ""
    values = {step: _checks(page) for step, page in pages.items()}
    return Result(_table(pages) + text, values, int(bool(failing)))


def _default_params() -> Path:
    try:
        return project_root() / PARAMS
    except ParameterError:
        say("twofold audit: no project here; the policies and limits are those of a new one")
        packaged = ROOT / "twofold" / "skeleton" / PARAMS
        return packaged if packaged.is_file() else ROOT / PARAMS  # of a checkout


def _warn_instead_of_fail(section: Ingest) -> Ingest:
    policies = section.audit.model_dump()
    softer = {name: "warn" if policy == "fail" else policy for name, policy in policies.items()}
    softer["both_labels"] = "quarantine"
    return check_section(Ingest, "ingest", section.model_dump() | {"audit": softer})


def _checks(page: Path) -> dict[str, Any]:
    return dict(read_json(page / SUMMARY)["checks"])


def _failing(page: Path) -> list[str]:
    """The checks of an audit that found an issue and whose policy is `fail`; none if the audit was not written."""
    if not (page / SUMMARY).exists():
        return []
    return [name for name, check in _checks(page).items() if check["policy"] == "fail" and check["found"]]


def _table(pages: Mapping[str, Path]) -> str:
    rows = [("step", "check", "policy", "found")]
    for step, page in pages.items():
        for name, check in _checks(page).items():
            found = "-" if check["policy"] == "ignore" else str(check["found"])
            rows.append((step, name.replace("_", " "), str(check["policy"]), found))
    return "\n".join([format_table(rows), "", *(str(page / PAGE) for page in pages.values())])
