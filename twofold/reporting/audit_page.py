"""The audit of a step, `reports/audit/<step>`: a folder for people and for programs.

Takes checks with their findings, statistics of the data, and pictures. Writes

- `audit.html`: the findings with pictures, the checks without findings, and the statistics;
- `audit.json`: every check with its policy, its number of findings, what it means and its findings about the data as a
  whole, and the statistics; `twofold.audit.summary` reads it for the model card;
- `findings.csv`: one row per finding; `names.csv`, if names are given;
- `meta.json`: the step and the fingerprint of the data.

Keys and labels are untrusted text, which the page escapes.
"""

import base64
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from twofold.audit.checks import DONE, FINDINGS, KIND, NAMES, PAGE, SUMMARY, VERSION, Check, Issue, next_step
from twofold.core.artifacts import publish, write_bytes, write_csv, write_json, write_meta
from twofold.data.resizing import FILTER, Pixels
from twofold.reporting.html_page import render

PICTURES = 12  # per check
SUSPECTS = 2000  # pictures of label issues, which people review one by one
SIDE = 160  # pixels, the longer side of a picture
QUALITY = 80  # JPEG quality of a picture
WORDS = 24  # characters; a longer cell is aligned as text


def write_audit(
    directory: Path,
    step: str,
    checks: Sequence[Check],
    *,
    fingerprint: str,
    statistics: Mapping[str, Any],
    pixels: Callable[[str], Pixels | None],
    names: Mapping[str, str] | None = None,
) -> None:
    """Write the audit of a step atomically.

    Args:
        directory: the folder to write; an existing one is replaced.
        step: the step that made the audit.
        checks: in the order in which the page shows them.
        fingerprint: of the data (`twofold.data.raw.fingerprint`), as ingest leaves them.
        statistics: statistics by name: a number, a text, or a table as {row: {column: value}}.
        pixels: returns an image's (H, W, C) uint8, C 1 or 3, by its file's SHA-256; None if it cannot be shown.
        names: the path of every image in the source, by SHA-256.
    """
    page = render(f"Data audit: {step}", "audit.html", _context(step, checks, statistics, pixels))
    with publish(directory) as draft:
        findings = (finding for check in checks for finding in check.found)
        rows = ([f"{cell:.6g}" if isinstance(cell, float) else cell for cell in finding] for finding in findings)
        write_csv(draft / FINDINGS, Issue._fields, rows)
        if names is not None:
            write_csv(draft / NAMES, ("sha256", "key"), sorted(names.items()))
        summary = {check.name: _summary(step, check) for check in checks}
        write_json(draft / SUMMARY, {"step": step, "checks": summary, "figures": dict(statistics)})
        write_bytes(draft / PAGE, page.encode())
        write_meta(draft, KIND, VERSION, step=step, fingerprint=fingerprint)


def _summary(step: str, check: Check) -> dict[str, Any]:
    of_data = [found.detail for found in check.found if not found.sha256 and not found.key]
    return {
        "policy": check.policy,
        "found": len(check.found),
        "title": check.title,
        "meaning": check.meaning,
        "set_by": check.set_by(step),
        "impossible": check.impossible,
        # Findings about single images stay in findings.csv: the name of an image must not leave the data.
        "told": [text for text in (check.same_label, *of_data[:PICTURES]) if text],
    }


def _context(
    step: str, checks: Sequence[Check], statistics: Mapping[str, Any], pixels: Callable[[str], Pixels | None]
) -> dict[str, Any]:
    return {
        "step": step,
        "total": sum(len(check.found) for check in checks),
        "raised": [_section(step, check, pixels) for check in checks if check.found],
        "quiet": [check for check in checks if not check.found and check.policy != "ignore" and not check.impossible],
        "impossible": [check for check in checks if check.impossible],
        "ignored": [check for check in checks if check.policy == "ignore"],
        "numbers": {name: value for name, value in statistics.items() if not isinstance(value, Mapping)},
        "tables": {name: _table(value) for name, value in statistics.items() if isinstance(value, Mapping) and value},
        "findings": FINDINGS,
    }


def _section(step: str, check: Check, pixels: Callable[[str], Pixels | None]) -> dict[str, Any]:
    of_data = [found for found in check.found if not found.sha256]
    of_images = [found for found in check.found if found.sha256]
    most = SUSPECTS if check.name == "label_issues" else PICTURES
    return {
        "check": check,
        "done": DONE[check.policy],
        "of_data": of_data[:PICTURES],
        "of_images": [
            {"found": found, "pictures": [_thumbnail(pixels(name)) for name in (found.sha256, found.of) if name]}
            for found in of_images[:most]
        ],
        "next_step": next_step(check.name, check.policy, check.set_by(step)),
        "paired": any(found.of for found in of_images),
        "more": max(0, len(of_images) - most) + max(0, len(of_data) - PICTURES),
    }


def _table(rows: Mapping[str, Any]) -> dict[str, Any]:
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    # Long cells are hard to read when they are aligned right and do not wrap.
    words = [column for column in columns if any(len(str(row.get(column, ""))) > WORDS for row in rows.values())]
    cells = {name: [row.get(column) for column in columns] for name, row in rows.items()}
    return {"columns": columns, "words": words, "rows": cells}


def _thumbnail(pixels: Pixels | None) -> str | None:
    """A small picture as a data URL, so that the page contains it."""
    if pixels is None:
        return None
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    image.thumbnail((SIDE, SIDE), FILTER, reducing_gap=3.0)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode()
