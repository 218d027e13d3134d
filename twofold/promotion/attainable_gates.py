"""Gates that even a perfect model fails on a test: what it would reach there, and how many images the gate needs.

Reads gates and the labels, groups and slices of test images; needs no model. A perfect model's probabilities go through
`evaluate_gates`, so its bounds are those of a verdict, by the same methods and at the same levels.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from twofold.core.errors import ArtifactError
from twofold.data.prepared import PreparedDataset
from twofold.evaluation.predictions import Predictions, build_predictions
from twofold.evaluation.slices import slice_columns
from twofold.metrics.classification import classification_metrics
from twofold.metrics.influence import ModelOutputs
from twofold.metrics.metric_intervals import METHODS
from twofold.promotion.gate_evaluation import evaluate_gates
from twofold.promotion.gate_slices import test_subsets
from twofold.promotion.gates import LESS_IS_BETTER, Better, Gate, Maximum, Minimum
from twofold.promotion.paired_comparison import PairedComparison
from twofold.promotion.test_reuse import ERROR_RATE
from twofold.promotion.verdict import GateInputs, GateResult, Verdict

MOST = 10_000  # test images up to which enough ones are looked for
_THRESHOLD = 0.5


class UnattainableGate(NamedTuple):
    """A gate that even a perfect model fails: its name in words, what was found, and what to do."""

    gate: str
    seen: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.gate}: {self.seen}; {self.remedy}"


def find_in_prepared(data: Path | str, sections: Mapping[str, Any]) -> list[UnattainableGate]:
    """Return the gates of `register` that a perfect model fails on the test images of `data/prepared`.

    None if `data` is missing, cannot be read, or was made with other parameters than those of `preprocess`.
    """
    try:
        prepared = PreparedDataset.open(Path(data))
    except ArtifactError:
        return []
    if prepared.meta["params"] != sections["preprocess"].model_dump(mode="json", exclude={"audit"}):
        return []
    rows = prepared.rows("test")
    columns = {name: prepared.column(name)[rows] for name in ("sha256", "split", "label", "target", "group", "unit")}
    columns |= dict.fromkeys(("probability", "predicted"), np.zeros(len(rows)))
    test = build_predictions(columns, slice_columns(prepared, rows))
    return find_unattainable_gates(sections["register"].gates, test)


def find_unattainable_gates(
    gates: Iterable[Gate],
    test: Predictions,
    champion: PairedComparison | None = None,
    error_rate: float = ERROR_RATE,
) -> list[UnattainableGate]:
    """Return the gates, by slice, that a perfect model fails; of absolute ones only conditions on a bound.

    Args:
        test: its probabilities are not used.
        champion: the comparison with it. Without one, `non_inferior_by` is judged beside a perfect champion, and
            `better_by` is left out.
        error_rate: one-sided, of the gates against another model.
    """
    found = []
    for gate in (each for each in gates if each.figure in METHODS):
        if isinstance(gate, Minimum | Maximum):
            if gate.bound and isinstance(gate, Maximum) == (gate.figure in LESS_IS_BETTER):
                found += _explain(gate, test, None, "", error_rate)
        elif champion and not champion.problem:
            found += _explain(gate, champion.test, champion, " beside that champion", error_rate)
        elif champion is None and not isinstance(gate, Better):
            other = ModelOutputs(_enlarge(test, len(test))[0].probability, _THRESHOLD)
            perfect = PairedComparison("0", test, other, other, {}, ())
            found += _explain(gate, test, perfect, " beside a perfect champion", error_rate)
    return found


def explain_refusal(
    verdict: Verdict, gates: Iterable[Gate], test: Predictions, champion: PairedComparison | None, error_rate: float
) -> Verdict:
    """Return the verdict; the details of failed gates say if even a perfect model would fail, and what to do."""
    if verdict.passed or not error_rate:
        return verdict
    found = {
        each.gate: f"; {each.seen}; {each.remedy}"
        for each in find_unattainable_gates(gates, test, champion, error_rate)
    }
    notes = {f"{each.name}: {each.detail}": found.get(each.name, "") for each in verdict.gates if not each.passed}
    told = (replace(each, detail=each.detail + notes.get(f"{each.name}: {each.detail}", "")) for each in verdict.gates)
    return Verdict(tuple(told), tuple(reason + notes.get(reason, "") for reason in verdict.reasons))


def _explain(
    gate: Gate, test: Predictions, champion: PairedComparison | None, beside: str, error_rate: float
) -> list[UnattainableGate]:
    def judge(n: int) -> dict[str, GateResult]:
        """The results of a perfect model on n images, by their names."""
        larger, rows = _enlarge(test, n)
        inputs = GateInputs(classification_metrics(larger.target, larger.probability, _THRESHOLD), larger, _THRESHOLD)
        if champion:
            one = ModelOutputs(larger.probability, _THRESHOLD)
            other = champion.other._replace(probability=np.asarray(champion.other.probability)[rows])
        comparison = champion and replace(champion, test=larger, one=one, other=other)
        return {
            result.name: result for result in evaluate_gates([gate], inputs, comparison, error_rate=error_rate).gates
        }

    def images(result: GateResult, n: int) -> str:
        """The images of its slice, in a test of n: "38 test images (19 good, 19 bad)"."""
        larger = _enlarge(test, n)[0]
        labels = larger.label[test_subsets(result.slice, larger)[0][0].rows].tolist()
        names = dict.fromkeys(test.label[np.argsort(test.target, kind="stable")])
        return f"{len(labels)} test images ({', '.join(f'{labels.count(name)} {name}' for name in names)})"

    most = max(len(test), MOST)
    found = []
    for name, result in judge(len(test)).items():
        if result.passed:
            continue
        sizes = np.unique(np.geomspace(len(test), most, 500).astype(int)).tolist()  # to within 1 % or so
        place = 0 if result.value is None else bisect_left(sizes, True, key=lambda n: judge(n)[name].passed)
        if result.value is None:  # a class or a slice is missing
            remedy = "correct the gate, or add such images"
        elif place == len(sizes):
            remedy = f"relax the limit: {most} test images would not be enough"
        else:
            enough = images(result, sizes[place])
            remedy = f"{enough} would be enough: add images, raise preprocess.test_fraction, or relax the limit"
        seen = f"even a perfect model{beside} fails this on {images(result, len(test))}: {result.detail}"
        found.append(UnattainableGate(name, seen, remedy))
    return found


def _enlarge(test: Predictions, n: int) -> tuple[Predictions, NDArray[np.int64]]:
    """A perfectly answered test of n images, at least, in the same ratio of the classes; and the rows it repeats."""
    own = [np.flatnonzero(test.target == value) for value in (0, 1)]
    places = [np.linspace(0, len(each), -(-len(each) * n // len(test)), endpoint=False).astype(int) for each in own]
    rows = np.sort(np.concatenate([each[place] for each, place in zip(own, places, strict=True)]))
    copies = np.arange(len(rows)) - np.searchsorted(rows, rows)  # each in groups of its own
    larger = test.take(rows)
    unit = [name and f"{name}, copy {copy}" for name, copy in zip(larger.unit, copies, strict=True)]
    error = 1e-4 * (1 + np.random.default_rng(0).random(len(rows)))  # as of a real model, not the same in a class
    probability = np.where(larger.target == 1, 1 - error, error)
    return replace(larger, probability=probability, predicted=larger.target, unit=np.array(unit, object)), rows
