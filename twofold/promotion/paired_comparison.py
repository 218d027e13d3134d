"""Two models on the same images: the candidate beside a model of the registry, on what neither was trained on.

In: the candidate's test, both models' answers, and the images that each was made from. Out: figures side by side,
paired differences with their intervals, and the images that only one of the two gets right.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twofold.evaluation.predictions import Predictions, fingerprint
from twofold.metrics.bootstrap import ModelOutputs
from twofold.metrics.classification import METRICS, classification_metrics
from twofold.metrics.confidence_intervals import LEVEL, Difference, mcnemar
from twofold.metrics.metric_intervals import METHODS, metric_difference

Splits = Mapping[str, frozenset[str]]  # the SHA-256 of a model's images, by split
LEARNED_FROM = ("train", "validation")
# What can be done about a champion that no model can be held against. An alias moved by hand would stop everything.
ANOTHER = (
    "make another version champion with `twofold models rollback VERSION --reason WHY` (`none` for no model), then run "
    "register again"
)


@dataclass(frozen=True)
class Opponent:
    """A model of the registry and what it says of the candidate's test images.

    Attributes:
        version: in the registry.
        answers: of each of the candidate's test images, in their order.
        splits: the images that it was trained, validated and tested on.
        problem: why it could not be scored, with the remedy; the rest is then empty.
    """

    version: str
    answers: ModelOutputs
    splits: Splits
    problem: str = ""


NO_ANSWERS = ModelOutputs(np.empty(0), 0.5)


@dataclass(frozen=True)
class PairedComparison:
    """The candidate beside a rival.

    Attributes:
        version: of the rival.
        test: the images on which the two are compared, with the candidate's answers.
        one: the candidate's answers on them; `other`: the rival's.
        left_out: test images that are not among them, by what the rival or the candidate was trained or tuned on them.
        vanished: the SHA-256 of the rival's own test images that the candidate's test lacks, sorted.
        problem: why there is no comparison; the rest is then empty.
    """

    version: str
    test: Predictions
    one: ModelOutputs
    other: ModelOutputs
    left_out: Mapping[str, int]
    vanished: tuple[str, ...]
    problem: str = ""

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the sorted (sha256, label) of the images that both were judged on."""
        return fingerprint(self.test.sha256, self.test.label)

    @cached_property
    def own(self) -> dict[str, float]:
        """The candidate's figures on these images."""
        return classification_metrics(self.test.target, *self.one) if len(self.test) else {}

    @cached_property
    def figures(self) -> dict[str, float]:
        """The rival's figures on these images, at its own threshold, which is among them."""
        if not len(self.test):
            return {}
        return {**classification_metrics(self.test.target, *self.other), "threshold": self.other.threshold}

    def difference(self, figure: str, level: float = LEVEL, rows: NDArray[np.int64] | None = None) -> Difference | None:
        """By how much the candidate's figure exceeds the rival's, on all of the images or on some rows of them."""
        chosen = np.arange(len(self.test)) if rows is None else rows
        one, other = (
            ModelOutputs(np.asarray(who.probability)[chosen], who.threshold) for who in (self.one, self.other)
        )
        return metric_difference(figure, self.test.target[chosen], one, other, level) if len(chosen) else None

    @cached_property
    def differences(self) -> dict[str, Difference]:
        """The paired difference of every figure that has one, with its 95 % interval."""
        found = {figure: self.difference(figure) for figure in METRICS if figure in self.own and figure in self.figures}
        return {figure: ends for figure, ends in found.items() if ends is not None}

    def only_right(self, candidate: bool) -> NDArray[np.int64]:
        """The rows that the candidate alone gets right, or the rival alone; those it was surest of come first."""
        ours, theirs = (np.asarray(who.probability) >= who.threshold for who in (self.one, self.other))
        target = self.test.target == 1
        right, wrong = (ours, theirs) if candidate else (theirs, ours)
        rows = np.flatnonzero((right == target) & (wrong != target))
        probability = np.asarray((self.one if candidate else self.other).probability)[rows]
        sure = np.where(self.test.target[rows] == 1, probability, 1 - probability)
        return rows[np.lexsort((self.test.sha256[rows].astype(str), -sure))]

    def as_json(self) -> dict[str, Any]:
        """The comparison as a JSON object, its images counted and not named."""
        found: dict[str, Any] = {"version": int(self.version), "problem": self.problem or None}
        if self.problem:
            return found
        only = [len(self.only_right(candidate)) for candidate in (True, False)]
        return found | {
            "n": len(self.test),
            "n_positive": int(self.test.target.sum()),
            "left_out": dict(self.left_out),
            "test_fingerprint": self.fingerprint,
            "vanished_test_images": len(self.vanished),
            "threshold": self.other.threshold,
            "figures": {
                figure: {
                    "candidate": self.own[figure],
                    "champion": self.figures[figure],
                    **({} if ends is None else {"difference": ends.estimate, "low": ends.low, "high": ends.high}),
                    "method": METHODS[figure].paired,
                }
                for figure, ends in ((figure, self.differences.get(figure)) for figure in METRICS)
                if figure in self.own and figure in self.figures
            },
            "mcnemar": {"candidate_only": only[0], "champion_only": only[1], "p_value": mcnemar(*only)},
        }


def compare(test: Predictions, threshold: float, splits: Splits, rival: Opponent) -> PairedComparison:
    """Set the candidate beside a rival on the test images that neither learned from.

    Args:
        test: the candidate's predictions on its test images.
        threshold: the candidate's.
        splits: of the candidate's own images.
        rival: its answers are of the same images in the same order.
    """
    nothing = PairedComparison(rival.version, test.take(np.empty(0, np.int64)), NO_ANSWERS, NO_ANSWERS, {}, ())
    if rival.problem:
        return _broken(nothing, rival.problem)
    here = test.sha256.tolist()
    learned = {
        f"{whose}_{split}": np.isin(test.sha256.astype(str), np.array(sorted(found.get(split, ())), dtype=str))
        for whose, found in (("candidate", splits), ("champion", rival.splits))
        for split in LEARNED_FROM
    }
    kept = np.flatnonzero(~np.logical_or.reduce(list(learned.values())))
    left_out = {name: int(rows.sum()) for name, rows in learned.items()}
    vanished = tuple(sorted(rival.splits.get("test", frozenset()) - set(here)))
    probability = np.asarray(rival.answers.probability)[kept]
    found = PairedComparison(
        version=rival.version,
        test=test.take(kept),
        one=ModelOutputs(test.probability[kept], threshold),
        other=ModelOutputs(probability, rival.answers.threshold),
        left_out=left_out,
        vanished=vanished,
    )
    if len(kept):
        return found
    return _broken(
        found,
        f"all {len(test)} test images are among those that one of the two learned from; split the data as it was "
        f"split for that version, or {ANOTHER}",
    )


def _broken(found: PairedComparison, problem: str) -> PairedComparison:
    return PairedComparison(
        found.version, found.test, found.one, found.other, found.left_out, found.vanished, problem=problem
    )
