"""The comparison of candidate and champion on decision.html: from a judgement to the values of `comparison.html`."""

from typing import Any

import numpy as np

from twofold.evaluation.error_analysis import Pixels
from twofold.metrics import number_format
from twofold.metrics.classification import METRICS
from twofold.metrics.confidence_intervals import mcnemar
from twofold.promotion import disagreements
from twofold.promotion.candidate import Candidate
from twofold.promotion.gates import LESS_IS_BETTER
from twofold.promotion.judgement import Judgement
from twofold.promotion.paired_comparison import PairedComparison
from twofold.reporting.sections import signed
from twofold.reporting.wording import TITLES, count_images

MOST_VANISHED = 20  # test images that the page lists; vanished.csv has all


def context(judgement: Judgement) -> dict[str, Any]:
    """The values of `comparison.html`."""
    return {
        "comparison": None if judgement.champion is None else _comparison(judgement, judgement.champion),
        "vanished": list(judgement.vanished.items()),
        "most_vanished": MOST_VANISHED,
    }


def _comparison(judgement: Judgement, champion: PairedComparison) -> dict[str, Any]:
    values: dict[str, Any] = {"version": champion.version, "problem": champion.problem}
    if champion.problem:
        return values
    rows = disagreements.find_disagreements(champion)
    shown = disagreements.add_pictures(rows, _pixel_reader(judgement.candidate))
    titles = {
        disagreements.CANDIDATE: "Only this model is correct",
        disagreements.CHAMPION: "Only the champion is correct",
    }
    only = [sum(row.right == right for row in rows) for right in titles]
    galleries = [(title, [row for row in shown if row.right == right]) for right, title in titles.items()]
    return values | {
        "n": len(champion.test),
        "n_positive": int(champion.test.target.sum()),
        "left_out": _left_out(champion),
        "fingerprint": champion.fingerprint,
        "fresh": {TITLES[metric][0]: values for metric, values in champion.fresh_metrics.items()},
        "n_fresh": len(champion.fresh),
        "rows": [_row(champion, metric) for metric in METRICS],
        "mcnemar": (
            f"Only this model is correct on {count_images(only[0])}, only the champion on {count_images(only[1])}. If "
            "both were equally good, a split at least as uneven would occur with a probability of "
            f"{mcnemar(*only):.3f} (McNemar's exact test)."
        ),
        "best": ", ".join(f"version {best.version} ({metric})" for metric, best in judgement.best.items()),
        "galleries": [(title, cases) for title, cases in galleries if cases],
    }


def _pixel_reader(candidate: Candidate) -> Pixels | None:
    """Reads a test image by its SHA-256; None where images must not leave the data (`evaluate.pictures`)."""
    if not candidate.params["evaluate"]["pictures"]:
        return None
    prepared = candidate.prepared
    row_of = dict(zip(prepared.sha256[candidate.rows], candidate.rows, strict=True))
    return lambda sha256: prepared.pixels(np.array([row_of[sha256]]))[0]


def _row(champion: PairedComparison, metric: str) -> dict[str, Any]:
    own, other = champion.own.get(metric), champion.metrics.get(metric)
    interval, tone = champion.differences.get(metric), ""
    if interval is not None and not interval.low <= 0 <= interval.high:
        tone = "good" if (interval.estimate < 0) == (metric in LESS_IS_BETTER) else "bad"
    return {
        "title": TITLES[metric][0],
        "own": own,
        "other": other,
        "difference": number_format.NOTHING if own is None or other is None else signed(own - other),
        "interval": None if interval is None else f"{signed(interval.low)} to {signed(interval.high)}",
        "tone": tone,
    }


def _left_out(champion: PairedComparison) -> str:
    n = sum(champion.left_out.values())
    if not n:
        return "Neither model has learned from any of them."
    words = [f"{count} from {name.replace('_', ' ')}" for name, count in champion.left_out.items() if count]
    return f"Left out: {count_images(n)} that one of the two models has learned from ({', '.join(words)})."
