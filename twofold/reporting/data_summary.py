"""Counts of the data behind a model: images by split and class, and the files and images left out, by reason.

Reads the raw and the prepared folder; the section of the page is `data_summary.html`. The audit pages, which lie with
the data, show more, with pictures.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from twofold.core.artifacts import read_csv
from twofold.data.prepared import LEFT_OUT
from twofold.data.raw import DUPLICATES, QUARANTINE

MOST = 8  # reasons that are listed of each kind


def summarize_data(
    raw: Path, prepared: Path, counts: Mapping[str, Mapping[str, int]], labels: Iterable[str]
) -> dict[str, Any]:
    """The values of `data_summary.html`.

    Args:
        raw, prepared: the folders.
        counts: images by split and class, as in the meta.json of the prepared data.
        labels: in the order of the columns.
    """
    labels = list(labels)
    refused = [row["reason"] for row in read_csv(raw / QUARANTINE) if row["kind"] != "ignored"]
    kinds = {"bytes": "identical file", "pixels": "identical pixels"}
    duplicates = [kinds[row["kind"]] for row in read_csv(raw / DUPLICATES)]
    left_out = [f"{row['split']}, {row['reason']}" for row in read_csv(prepared / LEFT_OUT)]
    return {
        "labels": labels,
        "splits": [
            (split, [counts[split].get(label, 0) for label in labels]) for split in ("train", "validation", "test")
        ],
        "removed": [
            (title, len(reasons), _most_common(reasons))
            for title, reasons in (
                ("Files refused or quarantined", refused),
                ("Exact duplicates, of which one copy is kept", duplicates),
                ("Images left out of a split to prevent leakage between the splits", left_out),
            )
        ],
    }


def _most_common(reasons: Iterable[str]) -> list[tuple[str, int]]:
    """Reasons with their counts, the most frequent first; from the MOST-th on, they are counted together."""
    ordered = sorted(Counter(reasons).items(), key=lambda item: (-item[1], item[0]))
    if len(ordered) <= MOST:
        return ordered
    return [*ordered[: MOST - 1], ("other reasons", sum(times for _, times in ordered[MOST - 1 :]))]
