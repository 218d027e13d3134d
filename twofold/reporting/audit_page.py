"""The artifact `reports/audit/<step>`: what an audit found, for people and for programs.

In: checks with their findings, figures, and the pictures. Out: a folder with

- `audit.html`: what was found, with pictures; what was looked for and not found; the figures;
- `audit.json`: every check with its policy, its count, what it means and what it says of the data as a whole, and the
  figures; `twofold.audit.summary` reads it for the model card;
- `findings.csv`: one row a finding;
- `meta.json`: which step's audit it is, and of which data.

Keys and labels are other people's text: the page escapes them, and in the CSV a cell that a spreadsheet would take for
a formula begins with an apostrophe (OWASP, "CSV Injection").
"""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from twofold.audit.checks import DONE, FINDINGS, KIND, PAGE, SUMMARY, VERSION, Check, Issue
from twofold.core.artifacts import publish, write_bytes, write_csv, write_json, write_meta
from twofold.data.resizing import FILTER, Pixels
from twofold.reporting.html_page import render

PICTURES = 12  # of a check
SIDE = 160  # pixels of a picture's longer side
QUALITY = 80  # of its JPEG
WORDS = 24  # characters, above which a cell is text and no figure
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def write_audit(
    directory: Path,
    step: str,
    checks: Sequence[Check],
    *,
    fingerprint: str,
    figures: Mapping[str, Any],
    pixels: Callable[[str], Pixels | None],
) -> None:
    """Write an audit, whole or not at all.

    Args:
        directory: to write; what was there goes.
        step: whose audit it is.
        checks: in the order in which the page shows them.
        fingerprint: of the data (`twofold.data.raw.fingerprint`), as ingest leaves them.
        figures: {name: number, text, or a table as {row: {column: value}}}; the page shows them under their names.
        pixels: an image's (H, W, C) uint8, C 1 or 3, by its file's SHA-256; None where there is none to show.
    """
    found = [finding for check in checks for finding in check.found]
    with publish(directory) as draft:
        write_csv(draft / FINDINGS, Issue._fields, [[_plain(cell) for cell in finding] for finding in found])
        summary = {check.name: _summary(step, check) for check in checks}
        write_json(draft / SUMMARY, {"step": step, "checks": summary, "figures": dict(figures)})
        write_bytes(
            draft / PAGE, render(f"Audit of {step}", "audit.html", _context(step, checks, figures, pixels)).encode()
        )
        write_meta(draft, KIND, VERSION, step=step, fingerprint=fingerprint)


def _summary(step: str, check: Check) -> dict[str, Any]:
    return {
        "policy": check.policy,
        "found": len(check.found),
        "title": check.title,
        "meaning": check.meaning,
        "set_by": check.set_by(step),
        "impossible": check.impossible,
        # What is said of one image is in findings.csv; its name is nobody's business but the owner's of the data.
        "told": [found.detail for found in check.found if not found.sha256 and not found.key][:PICTURES],
    }


def _context(
    step: str, checks: Sequence[Check], figures: Mapping[str, Any], pixels: Callable[[str], Pixels | None]
) -> dict[str, Any]:
    return {
        "step": step,
        "total": sum(len(check.found) for check in checks),
        "raised": [_section(check, pixels) for check in checks if check.found],
        "quiet": [check for check in checks if not check.found and check.policy != "ignore" and not check.impossible],
        "impossible": [check for check in checks if check.impossible],
        "ignored": [check for check in checks if check.policy == "ignore"],
        "numbers": {name: value for name, value in figures.items() if not isinstance(value, Mapping)},
        "tables": {name: _table(value) for name, value in figures.items() if isinstance(value, Mapping) and value},
        "findings": FINDINGS,
    }


def _section(check: Check, pixels: Callable[[str], Pixels | None]) -> dict[str, Any]:
    whole = [found for found in check.found if not found.sha256]
    of_images = [found for found in check.found if found.sha256]
    return {
        "check": check,
        "done": DONE[check.policy],
        "whole": whole[:PICTURES],
        "shown": [
            {"found": found, "pictures": [_address(pixels(name)) for name in (found.sha256, found.of) if name]}
            for found in of_images[:PICTURES]
        ],
        "paired": any(found.of for found in of_images),
        "more": max(0, len(of_images) - PICTURES) + max(0, len(whole) - PICTURES),
    }


def _table(rows: Mapping[str, Any]) -> dict[str, Any]:
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    # What is long reads badly at the right of a cell that may not break.
    words = [column for column in columns if any(len(str(row.get(column, ""))) > WORDS for row in rows.values())]
    cells = {name: [row.get(column) for column in columns] for name, row in rows.items()}
    return {"columns": columns, "words": words, "rows": cells}


def _address(pixels: Pixels | None) -> str | None:
    """A small picture as a data address, so that the page holds it within itself."""
    if pixels is None:
        return None
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    image.thumbnail((SIDE, SIDE), FILTER, reducing_gap=3.0)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()


def _plain(cell: Any) -> Any:
    if isinstance(cell, float):
        return f"{cell:.6g}"
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(_FORMULA) else cell
