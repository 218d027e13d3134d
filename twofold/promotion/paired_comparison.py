"""Compare two models on the same images: the candidate and a registered model, on images neither was trained on.

Reads the candidate's test predictions, the other model's outputs, and the images that each model was made from. Returns
the metrics of both, paired differences with intervals, and the images that only one of the two classifies correctly.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twofold.evaluation.predictions import Predictions, fingerprint
from twofold.metrics.classification import METRICS, classification_metrics
from twofold.metrics.confidence_intervals import LEVEL, Difference, mcnemar
from twofold.metrics.influence import ModelOutputs
from twofold.metrics.metric_intervals import METHODS, metric_difference, metric_interval, why_no_interval

Splits = Mapping[str, frozenset[str]]  # the SHA-256 of a model's images, by split
LEARNED_FROM = ("train", "validation")
# The remedy for a champion that cannot be compared. Moving its alias by hand would stop every promotion.
ANOTHER = (
    "make another version champion with `twofold models rollback VERSION --reason WHY` (`none` for no model), then run "
    "register again"
)


@dataclass(frozen=True)
class Opponent:
    """A registered model: its version, its outputs on the candidate's test images, in their order, and its own images.

    A `problem` says why it could not be scored, with the remedy; the other fields are then empty.
    """

    version: str
    answers: ModelOutputs
    splits: Splits
    problem: str = ""


NO_ANSWERS = ModelOutputs(np.empty(0), 0.5)


@dataclass(frozen=True)
class PairedComparison:
    """The candidate compared with an opponent.

    Attributes:
        version: of the opponent.
        test: the candidate's predictions on the compared images.
        one, other: the candidate's and the opponent's outputs on them.
        left_out: number of test images left out, by model and split that contained them.
        vanished: the SHA-256 of the opponent's test images that are not in the candidate's test, sorted.
        problem: why there is no comparison; the other fields are then empty.
        fresh: rows of the images that were not among the opponent's when it was made: no choice of it used them.
    """

    version: str
    test: Predictions
    one: ModelOutputs
    other: ModelOutputs
    left_out: Mapping[str, int]
    vanished: tuple[str, ...]
    problem: str = ""
    fresh: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the sorted (sha256, label) of the compared images."""
        return fingerprint(self.test.sha256, self.test.label)

    @cached_property
    def own(self) -> dict[str, float]:
        """The candidate's metrics on these images."""
        return classification_metrics(self.test.target, *self.one) if len(self.test) else {}

    @cached_property
    def metrics(self) -> dict[str, float]:
        """The opponent's metrics on these images, at its own threshold, which is among them."""
        if not len(self.test):
            return {}
        return {**classification_metrics(self.test.target, *self.other), "threshold": self.other.threshold}

    def difference(self, metric: str, level: float = LEVEL, rows: NDArray[np.int64] | None = None) -> Difference | None:
        """Return the candidate's metric minus the opponent's, with its interval, on all images or some rows of them."""
        chosen = np.arange(len(self.test)) if rows is None else rows
        one, other = (
            ModelOutputs(np.asarray(model.probability)[chosen], model.threshold) for model in (self.one, self.other)
        )
        if not len(chosen):
            return None
        return metric_difference(metric, self.test.target[chosen], one, other, level, self.test.unit[chosen].tolist())

    def why_no_difference(self, metric: str, rows: NDArray[np.int64]) -> str:
        """Return why the difference on these rows has no interval; "" if it has one."""
        units = self.test.unit[rows].tolist()
        reasons = (
            why_no_interval(metric, self.test.target[rows], model._replace(probability=found), units, paired=True)
            for model in (self.one, self.other)
            for found in [np.asarray(model.probability)[rows]]
        )
        return next(filter(None, reasons), "")

    @cached_property
    def differences(self) -> dict[str, Difference]:
        """The paired difference of each metric that has one, with its 95 % interval."""
        found = {metric: self.difference(metric) for metric in self._common_metrics}
        return {metric: difference for metric, difference in found.items() if difference is not None}

    @property
    def _common_metrics(self) -> list[str]:
        return [metric for metric in METRICS if metric in self.own and metric in self.metrics]

    @cached_property
    def fresh_metrics(self) -> dict[str, dict[str, float]]:
        """On the fresh images: `candidate` and `champion`, and `low` and `high` of the champion's 95 % interval."""
        rows, target = self.fresh, self.test.target[self.fresh]
        models = [ModelOutputs(np.asarray(each.probability)[rows], each.threshold) for each in (self.one, self.other)]
        own, other = (classification_metrics(target, *each) if len(rows) else {} for each in models)
        found = {}
        for metric in (each for each in METRICS if each in own and each in other):
            interval = metric_interval(metric, target, models[1])
            bounds = {} if interval is None else {"low": interval.low, "high": interval.high}
            found[metric] = {"candidate": own[metric], "champion": other[metric], **bounds}
        return found

    def only_right(self, candidate: bool) -> NDArray[np.int64]:
        """Return the rows that only the candidate, or only the opponent, gets right, by falling confidence."""
        first, second = (self.one, self.other) if candidate else (self.other, self.one)
        target = self.test.target == 1
        right, wrong = (np.asarray(model.probability) >= model.threshold for model in (first, second))
        rows = np.flatnonzero((right == target) & (wrong != target))
        probability = np.asarray(first.probability)[rows]
        confidence = np.where(target[rows], probability, 1 - probability)
        return rows[np.lexsort((self.test.sha256[rows].astype(str), -confidence))]

    def as_json(self) -> dict[str, Any]:
        """Return the comparison as a JSON object with counts of images."""
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
            "fresh": {"n": len(self.fresh), "figures": self.fresh_metrics},
            "figures": {metric: self._metric_json(metric) for metric in self._common_metrics},
            "mcnemar": {"candidate_only": only[0], "champion_only": only[1], "p_value": mcnemar(*only)},
        }

    def _metric_json(self, metric: str) -> dict[str, Any]:
        found: dict[str, Any] = {"candidate": self.own[metric], "champion": self.metrics[metric]}
        if difference := self.differences.get(metric):
            found |= {"difference": difference.estimate, "low": difference.low, "high": difference.high}
        else:
            found["no_interval"] = self.why_no_difference(metric, np.arange(len(self.test)))
        return found | {"method": METHODS[metric].paired}


def unscored(version: str, problem: str) -> Opponent:
    """Return a champion that could not be scored, with the reason."""
    return Opponent(version, NO_ANSWERS, {}, problem)


def compare(test: Predictions, threshold: float, splits: Splits, opponent: Opponent) -> PairedComparison:
    """Compare the candidate with an opponent on the test images that neither learned from.

    Args:
        test, threshold, splits: the candidate's test predictions, decision threshold and own images.
        opponent: its answers are for the same images in the same order.
    """
    if opponent.problem:
        empty = test.take(np.empty(0, np.int64))
        return PairedComparison(opponent.version, empty, NO_ANSWERS, NO_ANSWERS, {}, (), opponent.problem)
    sha256 = test.sha256.astype(str)
    learned = {
        f"{model}_{split}": np.isin(sha256, np.array(sorted(images.get(split, ())), dtype=str))
        for model, images in (("candidate", splits), ("champion", opponent.splits))
        for split in LEARNED_FROM
    }
    kept = np.flatnonzero(~np.logical_or.reduce(list(learned.values())))
    known = np.array(sorted(frozenset().union(*opponent.splits.values())), dtype=str)
    comparison = PairedComparison(
        version=opponent.version,
        test=test.take(kept),
        one=ModelOutputs(test.probability[kept], threshold),
        other=ModelOutputs(np.asarray(opponent.answers.probability)[kept], opponent.answers.threshold),
        left_out={name: int(rows.sum()) for name, rows in learned.items()},
        vanished=tuple(sorted(opponent.splits.get("test", frozenset()) - set(test.sha256.tolist()))),
        fresh=np.flatnonzero(~np.isin(sha256[kept], known)),
    )
    if len(kept):
        return comparison
    problem = (
        f"all {len(test)} test images are among those that one of the two learned from; split the data as it was "
        f"split for that version, or {ANOTHER}"
    )
    return replace(comparison, problem=problem)
