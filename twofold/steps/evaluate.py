"""evaluate: how good the model is, on images that neither it nor its threshold has seen, and how sure that is.

In: the prepared data and the fine-tuned model. Out: a folder with `evaluation.html`, `decision.json`,
`predictions.parquet`, the points of every curve as CSV, every chart as SVG and PNG, and `explanations.json`, what the
model looked at where it was surely wrong, and what it saw in the test images (see `twofold/evaluation/drift_reference.py`); beside
it the figures as JSON. A pure function of the two and the parameters: it knows neither MLflow nor a champion.

The validation images fix first the temperature and then the threshold. Every probability that leaves this step is
calibrated by that temperature, but for what is called uncalibrated.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field

from twofold.core.params import Integer, Section
from twofold.metrics.decision_threshold import Rule

if TYPE_CHECKING:
    import numpy as np

    from twofold.data.prepared import PreparedDataset
    from twofold.evaluation.explanations import Explanations
    from twofold.evaluation.predictions import Predictions
    from twofold.model.classifier import Classifier
    from twofold.model.fused_classifier import FusedClassifier
    from twofold.reporting.html_page import Picture

KIND, SCHEMA_VERSION = "evaluation", 3
SPLITS = ("validation", "test")
VIEWS = (1, 2, 4, 8)


def _known(views: int) -> int:
    if views not in VIEWS:
        raise ValueError(f"allowed are {', '.join(map(str, VIEWS))}")
    return views


class Evaluate(Section):
    """How the trained model is tested, and where the line between the classes is drawn."""

    threshold: Rule = Field(
        description="the rule that draws the line between the classes on the validation split, with its own numbers: "
        "{policy: max_accuracy}; {policy: max_f1}; {policy: recall_at_least, recall: 0.95} (the highest precision, "
        "where at least that share of the positive class is found); {policy: precision_at_least, precision: 0.9} (the "
        "highest recall, where at least that share of the positive answers is right); {policy: min_cost, missed: 10, "
        "false_alarm: 1} (what either error costs, in any unit, above 0 to 1e9)"
    )
    views: Annotated[Integer, AfterValidator(_known)] = Field(
        description="ways to lay an image down over which its probability is averaged, in the test and when serving: "
        "1 as it is, 2 mirrored too, 4 its rotations by right angles, 8 their mirror images too (4 and 8 only where "
        "orientation means nothing)"
    )
    precision: Literal["float32", "bfloat16"] = Field(
        description="in which the network computes, in the test and ever after: float32; bfloat16 (faster where the "
        "processor has it, and another model: single probabilities move)"
    )
    batch_size: Integer = Field(description="images predicted at once, 1 to 1024; speed and memory", ge=1, le=1024)
    robustness: Integer = Field(
        description="test images that are predicted again under mild JPEG, blur, two changes of brightness, less "
        "contrast and a shift, to see how the figures change; 0 (leaves it out) to 1000000, spread evenly over the "
        "test; each costs six predictions more",
        ge=0,
        le=1_000_000,
    )
    pictures: bool = Field(
        description="whether evaluation.html and decision.html show images (the most confident errors and some right "
        "answers, with maps of what the model looked at) and 16 test images are sealed with the model, for a rollback "
        "to try it on; false where images must not leave the data"
    )


def evaluate(params: Evaluate, data: Path, model: Path, *, evaluation: Path, metrics: Path) -> None:
    """Predict validation and test, fit temperature and threshold on validation, report the test.

    Raises:
        ArtifactError: data or model cannot be read, or the model was made for other classes or another image size.
        DataError: a split lacks a class, the model predicts what is no probability, or no threshold reaches what the
            rule asks for.
    """
    from twofold.core import artifacts
    from twofold.data.prepared import PreparedDataset
    from twofold.evaluation import drift_reference, explanations, predictions
    from twofold.evaluation.operating_point import fit_operating_point
    from twofold.metrics import decision_threshold
    from twofold.metrics.temperature_scaling import apply_temperature
    from twofold.model.classifier import load_classifier
    from twofold.reporting import plots

    prepared = PreparedDataset.open(data)
    classifier, about = load_classifier(model)
    _check(prepared, about, data, model)
    network = _network(params, classifier)
    raw = _predict(params, prepared, network, about)
    digest = artifacts.digest(model)
    computed = {"views": params.views, "precision": params.precision}
    decided = fit_operating_point(params.threshold, prepared, raw["validation"], digest, computed)
    probability = {split: apply_temperature(raw[split], decided["temperature"]) for split in SPLITS}
    table = _table(prepared, probability, decided["threshold"])
    test = table.of("test")
    figures = _score(test, raw["test"], decided)
    if params.robustness:
        figures["robustness"] = _alter(params, prepared, network, about, test, decided)
    explained = _explain(params, prepared, network, about, test)
    charts = plots.draw_plots(test, raw["test"], figures, decided["labels"])
    with artifacts.publish(evaluation) as draft:
        predictions.write(draft / predictions.PREDICTIONS, table)
        artifacts.write_json(draft / decision_threshold.DECISION, decided)
        plots.write_tables(draft, test, raw["test"], figures, decided["labels"])
        explanations.write(draft / explanations.EXPLANATIONS, explained)
        reference = drift_reference.reference_of_test(prepared, network, about, test)
        drift_reference.write(draft / drift_reference.REFERENCE, reference)
        for name, picture in charts.items():
            (draft / f"{name}.svg").write_bytes(picture.svg)
            (draft / f"{name}.png").write_bytes(picture.png)
        page = _report(prepared, about, figures, decided, test, charts, explained)
        (draft / "evaluation.html").write_text(page, encoding="utf-8", newline="\n")
        artifacts.write_meta(
            draft,
            KIND,
            SCHEMA_VERSION,
            params=params.model_dump(mode="json"),
            model_digest=digest,
            fingerprint=decided["fingerprint"],
            labels=decided["labels"],
            positive=decided["positive"],
            n={split: int((table.split == split).sum()) for split in SPLITS},
        )
    artifacts.write_json(metrics, figures)


def _check(prepared: "PreparedDataset", about: Mapping[str, Any], data: Path, model: Path) -> None:
    from twofold.core.artifacts import digest
    from twofold.core.errors import ArtifactError, DataError

    for key in ("labels", "positive", "image_size"):
        if about[key] != prepared.meta[key]:
            raise ArtifactError(
                f"{model}: made for {key} {about[key]!r}, the data has {prepared.meta[key]!r}; train on this data again"
            )
    if about.get("data_digest") != digest(data):
        # It may have learned from what is a test image here.
        raise ArtifactError(f"{model}: trained on other data than {data}, or on other splits; run finetune_all again")
    for split in SPLITS:
        targets = prepared.target[prepared.rows(split)]
        for value, label in enumerate(prepared.meta["labels"]):
            if not (targets == value).any():
                raise DataError(f"split '{split}': no image of class '{label}'; enlarge the split in preprocess")


def _network(params: Evaluate, classifier: "Classifier") -> "FusedClassifier":
    """What answers here, on this machine's device."""
    from twofold.model import device
    from twofold.model.device import warn_if_emulated
    from twofold.model.fused_classifier import FusedClassifier

    device.make_deterministic()
    where = device.device()
    warn_if_emulated(params.precision, where)
    return FusedClassifier(classifier.to(where), params.precision)


def _predict(
    params: Evaluate, prepared: "PreparedDataset", network: "FusedClassifier", about: Mapping[str, Any]
) -> dict[str, "np.ndarray[Any, np.dtype[np.float64]]"]:
    """Probability of the positive class for every image of each split, in the order of its rows."""
    found = {}
    for split in SPLITS:
        rows = prepared.rows(split)
        starts = range(0, len(rows), params.batch_size)
        batches = (prepared.pixels(rows[start : start + params.batch_size]) for start in starts)
        found[split] = _answer(params, network, about, batches, f"predicting {split}", len(rows))
    return found


def _answer(
    params: Evaluate, network: "FusedClassifier", about: Mapping[str, Any], batches: Iterable[Any], words: str, n: int
) -> "np.ndarray[Any, np.dtype[np.float64]]":
    from twofold.core.progress import track
    from twofold.model.inference import predict_views

    shown = track(batches, words, n, per_item=params.batch_size)
    return predict_views(network, shown, mean=about["mean"], std=about["std"], views=params.views)


def _table(prepared: "PreparedDataset", probability: Mapping[str, Any], threshold: float) -> "Predictions":
    import numpy as np

    from twofold.evaluation import predictions, slices

    rows = np.concatenate([prepared.rows(split) for split in SPLITS])
    together = np.concatenate([probability[split] for split in SPLITS])
    columns = {name: prepared.column(name)[rows] for name in ("sha256", "split", "label", "group")}
    columns |= {"target": prepared.target[rows], "probability": together, "predicted": together >= threshold}
    return predictions.build_predictions(columns, slices.slice_columns(prepared, rows))


def _score(test: "Predictions", uncalibrated: Any, decided: Mapping[str, Any]) -> dict[str, Any]:
    """The content of metrics.json."""
    from twofold.evaluation.slices import slice_metrics
    from twofold.metrics import calibration
    from twofold.metrics.classification import metrics_summary
    from twofold.metrics.metric_intervals import metric_intervals

    answers = (test.target, test.probability, decided["threshold"])
    before = {**calibration.ece_interval(test.target, uncalibrated)._asdict(), "method": calibration.METHOD}
    return {
        **metrics_summary(*answers),
        "ece_uncalibrated": calibration.expected_calibration_error(test.target, uncalibrated),
        "temperature": decided["temperature"],
        "threshold": decided["threshold"],
        "intervals": {**metric_intervals(*answers), "ece_uncalibrated": before},
        "slices": slice_metrics(*answers, test.slices),
    }


def _alter(
    params: Evaluate,
    prepared: "PreparedDataset",
    network: "FusedClassifier",
    about: Mapping[str, Any],
    test: "Predictions",
    decided: Mapping[str, Any],
) -> dict[str, Any]:
    """How the figures change when the images change a little; `robustness` in metrics.json."""
    from twofold.evaluation import robustness
    from twofold.metrics.temperature_scaling import apply_temperature

    chosen = robustness.evenly_spaced(len(test), params.robustness)
    rows = prepared.rows("test")[chosen]

    def predict(name: str, batches: Iterable[Any]) -> Any:
        raw = _answer(params, network, about, batches, f"predicting test, {name}", len(rows))
        return apply_temperature(raw, decided["temperature"])

    return robustness.measure_robustness(
        lambda numbers: prepared.pixels(rows[numbers]),
        test.target[chosen],
        test.probability[chosen],
        decided["threshold"],
        predict,
        params.batch_size,
    )


def _explain(
    params: Evaluate,
    prepared: "PreparedDataset",
    network: "FusedClassifier",
    about: Mapping[str, Any],
    test: "Predictions",
) -> "Explanations":
    import numpy as np

    from twofold.evaluation.gradcam import explain_answers

    place = {sha256: row for row, sha256 in enumerate(prepared.sha256)}

    def pixels(sha256: str) -> Any:
        return prepared.pixels(np.array([place[sha256]]))[0]

    negative, positive = prepared.meta["labels"]
    return explain_answers(network, about, test, (negative, positive), pixels if params.pictures else None)


def _report(
    prepared: "PreparedDataset",
    about: Mapping[str, Any],
    figures: Mapping[str, Any],
    decided: Mapping[str, Any],
    test: "Predictions",
    charts: Mapping[str, "Picture"],
    explained: "Explanations",
) -> str:
    import numpy as np

    from twofold.reporting import evaluation_report

    counted = {split: np.bincount(prepared.target[prepared.rows(split)], minlength=2) for split in ("train", *SPLITS)}
    findings = evaluation_report.Findings(
        metrics=figures,
        decision=decided,
        data=prepared.meta,
        model=about,
        test=test,
        splits={split: (int(pair[0]), int(pair[1])) for split, pair in counted.items()},
        charts=charts,
        explained=explained,
    )
    return evaluation_report.render(findings)


if __name__ == "__main__":
    from twofold.orchestration.step_cli import main

    main(evaluate)
