"""What decision.html says of the candidate beside the champion: in comes a judgement, out go the values of `comparison.html`."""

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

MOST_VANISHED = 20
TITLES = {
    "accuracy": "Accuracy",
    "precision": "Precision",
    "recall": "Recall",
    "f1": "F1",
    "specificity": "Specificity",
    "roc_auc": "ROC-AUC",
    "average_precision": "Average precision",
    "log_loss": "Log loss",
    "brier": "Brier score",
    "ece": "Calibration error (ECE)",
}


def context(judgement: Judgement) -> dict[str, Any]:
    """The values of `comparison.html`."""
    return {
        "beside": None if judgement.champion is None else _beside(judgement, judgement.champion),
        "vanished": list(judgement.vanished.items()),
        "most_vanished": MOST_VANISHED,
    }


def _beside(judgement: Judgement, champion: PairedComparison) -> dict[str, Any]:
    found: dict[str, Any] = {"version": champion.version, "problem": champion.problem}
    if champion.problem:
        return found
    rows = disagreements.find_disagreements(champion)
    only = [sum(row.right == right for row in rows) for right in (disagreements.CANDIDATE, disagreements.CHAMPION)]
    shown = disagreements.add_pictures(rows, pixels(judgement.candidate))
    before = [f"version {beside.version} ({figure})" for figure, beside in judgement.best.items()]
    return found | {
        "n": len(champion.test),
        "n_positive": int(champion.test.target.sum()),
        "left_out": _left_out(champion),
        "fingerprint": champion.fingerprint,
        "rows": [_row(champion, figure) for figure in METRICS],
        "mcnemar": (
            f"This model alone is right on {_images(only[0])}, the champion alone on {_images(only[1])}. Were they "
            f"equally good, so uneven a split or a more uneven one would come about with a probability of "
            f"{mcnemar(*only):.3f} (McNemar, exact)."
        ),
        "before": ", ".join(before),
        "galleries": [
            (title, own)
            for title, right in (
                ("Only this model is right", disagreements.CANDIDATE),
                ("Only the champion is right", disagreements.CHAMPION),
            )
            if (own := [row for row in shown if row.right == right])
        ],
    }


def pixels(candidate: Candidate) -> Pixels | None:
    """How to look at a test image; None where images must not leave the data (`evaluate.pictures`)."""
    if not candidate.params["evaluate"]["pictures"]:
        return None
    prepared = candidate.prepared
    place = dict(zip(prepared.sha256[candidate.rows], candidate.rows, strict=True))
    return lambda sha256: prepared.pixels(np.array([place[sha256]]))[0]


def _row(champion: PairedComparison, figure: str) -> dict[str, Any]:
    own, other, ends = champion.own.get(figure), champion.figures.get(figure), champion.differences.get(figure)
    better = None
    if ends is not None and not ends.low <= 0 <= ends.high:
        better = (ends.estimate < 0) == (figure in LESS_IS_BETTER)
    return {
        "title": TITLES[figure],
        "own": own,
        "other": other,
        "difference": number_format.NOTHING if own is None or other is None else _signed(own - other),
        "interval": number_format.NOTHING if ends is None else f"{_signed(ends.low)} to {_signed(ends.high)}",
        "tone": "" if better is None else "good" if better else "bad",
    }


def _left_out(champion: PairedComparison) -> str:
    n = sum(champion.left_out.values())
    if not n:
        return "Neither has learned from any of them."
    words = [f"{count} from {name.replace('_', ' ')}" for name, count in champion.left_out.items() if count]
    return f"Left out are {_images(n)} that one of them has learned from ({', '.join(words)})."


def _images(n: int) -> str:
    return f"{n:,} image" + ("" if n == 1 else "s")


def _signed(value: float) -> str:
    text = f"{value:+.3f}"
    return text[1:] if float(text) == 0 else text
