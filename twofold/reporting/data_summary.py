"""What a model was made from, as far as the data themselves tell: in come raw and prepared folders, out go counts.

What was refused, left out or kept once, by reason, and how the rest lies in the splits. The pages of the audits say
more, with pictures; they lie beside the data. The section is `data_summary.html`.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from twofold.core.artifacts import read_csv
from twofold.data.prepared import LEFT_OUT
from twofold.data.raw import DUPLICATES, QUARANTINE

MOST = 8  # reasons of a kind that are shown


def summarize_data(
    raw: Path, prepared: Path, counts: Mapping[str, Mapping[str, int]], labels: Iterable[str]
) -> dict[str, Any]:
    """The values of `data_summary.html`.

    Args:
        raw, prepared: the folders.
        counts: images by split and class, as in the meta.json of the prepared data.
        labels: in the order of the columns.
    """
    order = list(labels)
    refused = [row for row in read_csv(raw / QUARANTINE) if row["kind"] != "ignored"]
    copies = read_csv(raw / DUPLICATES)
    left_out = read_csv(prepared / LEFT_OUT)
    return {
        "labels": order,
        "splits": [
            (split, [counts[split].get(label, 0) for label in order]) for split in ("train", "validation", "test")
        ],
        "removed": [
            ("Files that were refused or held back", len(refused), _common(row["reason"] for row in refused)),
            (
                "Files that repeat another one, and were taken once",
                len(copies),
                _common({"bytes": "the same file", "pixels": "the same picture"}[row["kind"]] for row in copies),
            ),
            (
                "Images left out of a split, so that nothing is tested or validated on what was learned from",
                len(left_out),
                _common(f"{row['split']}, {row['reason']}" for row in left_out),
            ),
        ],
    }


def _common(reasons: Iterable[str]) -> list[tuple[str, int]]:
    """Reasons by how often they were given; the rarest, and what names a single file, together."""
    found = Counter(reasons)
    ordered = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    if len(ordered) <= MOST:
        return ordered
    return [*ordered[: MOST - 1], ("other reasons", sum(times for _, times in ordered[MOST - 1 :]))]
