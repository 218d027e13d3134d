"""evaluate: measures the model on test images that neither its training nor its threshold has used.

Reads the prepared data and the fine-tuned model. Writes a folder with `evaluation.html`, `decision.json`,
`predictions.parquet`, every curve as CSV, every chart as SVG and PNG, `explanations.json` (Grad-CAM maps) and the drift
reference (see `twofold/evaluation/drift_reference.py`), and `metrics.json`: every metric with its confidence interval,
also by slice and under perturbations. The file `metrics` has the headline metrics alone, for DVC and Kubeflow. The
outputs depend on data, model and parameters only, not on MLflow or a champion.

The validation images determine the calibration (Platt scaling) first and then the threshold. All written probabilities
are calibrated, except those that are named uncalibrated.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field

from twofold.core.params import Integer, Section
from twofold.metrics.decision_threshold import Rule

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from twofold.data.prepared import PreparedDataset
    from twofold.evaluation.predictions import Predictions


KIND, SCHEMA_VERSION = "evaluation", 5
SPLITS = ("validation", "test")
VIEWS = (1, 2, 4, 8)


def _check_views(views: int) -> int:
    if views not in VIEWS:
        raise ValueError(f"allowed are {', '.join(map(str, VIEWS))}")
    return views


class Evaluate(Section):
    """How the model is tested, and how its decision threshold is chosen."""

    threshold: Rule = Field(
        description="Rule for the decision threshold: on calibrated probabilities {policy: max_accuracy} (1/2) "
        "or {policy: min_cost, missed: 10, false_alarm: 1} (false_alarm / (false_alarm + missed); costs above 0 to "
        "1e9); with 95 % confidence on validation {policy: recall_at_least, recall: 0.95} (and the highest precision) "
        "or {policy: precision_at_least, precision: 0.9} (and the highest recall); best on the validation images, but "
        "less steady: {policy: max_f1}, {policy: max_validation_accuracy}, {policy: min_validation_cost, …}"
    )
    views: Annotated[Integer, AfterValidator(_check_views)] = Field(
        description="Test-time augmentation: views of an image whose probabilities are averaged, in the test and when "
        "serving: 1 (as it is), 2 (mirrored too), 4 (rotations by right angles) or 8 (mirrored rotations too); 4 and 8 "
        "only where orientation does not matter"
    )
    precision: Literal["float32", "bfloat16"] = Field(
        description="Number format of the network, in the test and when serving: float32, or bfloat16 (faster on "
        "processors that support it; single probabilities change)"
    )
    batch_size: Integer = Field(
        description="Images predicted at once, 1 to 1024; affects speed and memory", ge=1, le=1024
    )
    robustness: Integer = Field(
        description="Test images, evenly spaced, that are predicted again, at one view, under six mild perturbations "
        "(JPEG, blur, brighter, darker, less contrast, shifted), 0 (off) to 1000000; each costs six forward passes",
        ge=0,
        le=1_000_000,
    )
    pictures: bool = Field(
        description="Whether evaluation.html and decision.html show images (the most confident errors and some correct "
        "answers, with Grad-CAM maps), and 16 test images are sealed with the model as golden samples for a rollback; "
        "false where images must not leave the data"
    )


def evaluate(params: Evaluate, data: Path, model: Path, *, evaluation: Path, metrics: Path) -> None:
    """Predict validation and test, fit calibration and threshold on validation, report on the test split.

    Raises:
        ArtifactError: data or model cannot be read, or the model was made for other classes or another image size.
        DataError: a split lacks a class, the model predicts something that is no probability, or no threshold fulfils
            the rule with confidence.
    """
    import torch

    from twofold.core import artifacts
    from twofold.core.progress import track
    from twofold.data.prepared import PreparedDataset
    from twofold.evaluation import drift_reference, explanations, predictions
    from twofold.evaluation.gradcam import explain_answers
    from twofold.evaluation.operating_point import fit_operating_point
    from twofold.metrics import decision_threshold
    from twofold.metrics.classification import HEADLINE, METRICS_FILE
    from twofold.metrics.platt_scaling import recorded_scaling
    from twofold.model import device
    from twofold.model.classifier import load_classifier
    from twofold.model.fused_classifier import FusedClassifier
    from twofold.model.inference import classify_features, predict_views
    from twofold.reporting import evaluation_report, plots

    prepared = PreparedDataset.open(data)
    classifier, meta = load_classifier(model)
    _check_inputs(prepared, meta, data, model)
    device.make_deterministic()
    target_device = device.device()
    device.warn_if_emulated(params.precision, target_device)
    network = FusedClassifier(classifier.to(target_device), params.precision)

    def predict(
        batches: Iterable[Any], label: str, n: int, views: int = 1, features: "list[Tensor] | None" = None
    ) -> "NDArray[np.float64]":
        progress = track(batches, label, n, per_item=params.batch_size)
        return predict_views(network, progress, mean=meta["mean"], std=meta["std"], views=views, features=features)

    uncalibrated: dict[str, NDArray[np.float64]] = {}
    pooled: list[Tensor] = []
    for split in SPLITS:
        rows = prepared.rows(split)
        starts = range(0, len(rows), params.batch_size)
        batches = (prepared.pixels(rows[start : start + params.batch_size]) for start in starts)
        kept = pooled if split == "test" else None
        uncalibrated[split] = predict(batches, f"predicting {split}", len(rows), params.views, kept)
    features = torch.cat(pooled)
    digest = artifacts.digest(model)
    computed = {"views": params.views, "precision": params.precision}
    decision = fit_operating_point(params.threshold, prepared, uncalibrated["validation"], digest, computed)
    scaling = recorded_scaling(decision)
    probability = {split: scaling.calibrate(uncalibrated[split]) for split in SPLITS}
    table = _prediction_table(prepared, probability, decision["threshold"])
    test = table.of("test")
    results = _compute_metrics(test, uncalibrated["test"], decision)
    if params.robustness:
        one_view = replace(test, probability=scaling.calibrate(classify_features(network, features).cpu().numpy()))
        results["robustness"] = _measure_robustness(params, prepared, predict, one_view, decision)
    row_of = {sha256: row for row, sha256 in enumerate(prepared.sha256)}
    pixels = (lambda sha256: prepared.pixels([row_of[sha256]])[0]) if params.pictures else None
    negative, positive = prepared.meta["labels"]
    explained = explain_answers(network, meta, test, (negative, positive), pixels)
    charts = plots.draw_plots(test, uncalibrated["test"], results, decision["labels"])
    with artifacts.publish(evaluation) as draft:
        predictions.write(draft / predictions.PREDICTIONS, table)
        artifacts.write_json(draft / decision_threshold.DECISION, decision)
        artifacts.write_json(draft / METRICS_FILE, results)
        plots.write_tables(draft, test, uncalibrated["test"], results, decision["labels"])
        explanations.write(draft / explanations.EXPLANATIONS, explained)
        drift_reference.write(draft / drift_reference.REFERENCE, drift_reference.reference_of_test(test, features))
        for name, picture in charts.items():
            (draft / f"{name}.svg").write_bytes(picture.svg)
            (draft / f"{name}.png").write_bytes(picture.png)
        page = evaluation_report.render(results, decision, prepared.meta, meta, charts, explained)
        (draft / "evaluation.html").write_text(page, encoding="utf-8", newline="\n")
        artifacts.write_meta(
            draft,
            KIND,
            SCHEMA_VERSION,
            params=params.model_dump(mode="json"),
            model_digest=digest,
            **{key: decision[key] for key in ("fingerprint", "labels", "positive")},
            n={split: int((table.split == split).sum()) for split in SPLITS},
        )
    artifacts.write_json(metrics, {name: results[name] for name in HEADLINE if name in results}, sort_keys=False)


def _check_inputs(prepared: "PreparedDataset", meta: Mapping[str, Any], data: Path, model: Path) -> None:
    from twofold.core.artifacts import digest
    from twofold.core.errors import ArtifactError, DataError

    for key in ("labels", "positive", "image_size"):
        if meta[key] != prepared.meta[key]:
            raise ArtifactError(
                f"{model}: made for {key} {meta[key]!r}, the data has {prepared.meta[key]!r}; train on this data again"
            )
    if meta.get("data_digest") != digest(data):
        # Its training images may include test images of this data.
        raise ArtifactError(f"{model}: trained on other data than {data}, or on other splits; run finetune_all again")
    for split in SPLITS:
        targets = prepared.target[prepared.rows(split)]
        for value, label in enumerate(prepared.meta["labels"]):
            if not (targets == value).any():
                raise DataError(f"split '{split}': no image of class '{label}'; enlarge the split in preprocess")


def _prediction_table(prepared: "PreparedDataset", probability: Mapping[str, Any], threshold: float) -> "Predictions":
    import numpy as np

    from twofold.evaluation import predictions, slices

    rows = np.concatenate([prepared.rows(split) for split in SPLITS])
    joined = np.concatenate([probability[split] for split in SPLITS])
    columns = {name: prepared.column(name)[rows] for name in ("sha256", "split", "label", "group", "unit")}
    columns |= {"target": prepared.target[rows], "probability": joined, "predicted": joined >= threshold}
    return predictions.build_predictions(columns, slices.slice_columns(prepared, rows))


def _compute_metrics(test: "Predictions", uncalibrated: Any, decision: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of metrics.json, without robustness."""
    from twofold.evaluation.slices import slice_metrics
    from twofold.metrics import calibration
    from twofold.metrics.classification import metrics_summary
    from twofold.metrics.influence import ModelOutputs
    from twofold.metrics.metric_intervals import effective_images, metric_intervals

    answers, unit = (test.target, test.probability, decision["threshold"]), test.unit.tolist()
    before = metric_intervals(test.target, uncalibrated, decision["threshold"], unit).get("ece")
    units, effective = effective_images(test.target, ModelOutputs(*answers[1:]), unit)
    return {
        **metrics_summary(*answers),
        "n_units": units,
        "n_effective": effective,
        "ece_uncalibrated": calibration.expected_calibration_error(test.target, uncalibrated),
        **{key: decision[key] for key in ("platt_slope", "platt_intercept", "threshold")},
        "intervals": metric_intervals(*answers, unit) | ({"ece_uncalibrated": before} if before else {}),
        "slices": slice_metrics(*answers, test.slices, unit),
    }


def _measure_robustness(
    params: Evaluate,
    prepared: "PreparedDataset",
    predict: "Callable[[Iterable[Any], str, int], NDArray[np.float64]]",
    test: "Predictions",
    decision: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the metrics under every perturbation of the images, at the one view of `test` and of `predict`."""
    from twofold.evaluation import robustness
    from twofold.metrics.platt_scaling import recorded_scaling

    sample = robustness.evenly_spaced(len(test), params.robustness)
    rows, scaling = prepared.rows("test")[sample], recorded_scaling(decision)

    def predict_perturbed(name: str, batches: Iterable[Any]) -> "NDArray[np.float64]":
        return scaling.calibrate(predict(batches, f"predicting test, {name}", len(rows)))

    return robustness.measure_robustness(
        lambda numbers: prepared.pixels(rows[numbers]),
        test.target[sample],
        test.probability[sample],
        decision["threshold"],
        test.unit[sample].tolist(),
        predict_perturbed,
        params.batch_size,
    )


if __name__ == "__main__":
    from twofold.orchestration.step_cli import main

    main(evaluate)
