"""evaluate: how good the model is, on images that neither it nor its threshold has seen.

In: the prepared data and the fine-tuned model. Out: a folder with `evaluation.html`, `decision.json`,
`predictions.parquet`, what the model saw in the test images (see `twofold/drift_reference.py`), the points of every curve as
CSV and every chart as SVG and PNG; beside it the figures as JSON.
A pure function of the two and the parameters: it knows neither MLflow nor a champion.
"""

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, Field

from twofold.params import Fraction, Integer, Section

if TYPE_CHECKING:
    import numpy as np

    from twofold.model import Classifier
    from twofold.picture import Picture
    from twofold.predictions import Predictions
    from twofold.prepared import Prepared

KIND, SCHEMA_VERSION = "evaluation", 1
SPLITS = ("validation", "test")
VIEWS = (1, 2, 4, 8)


def _known(views: int) -> int:
    if views not in VIEWS:
        raise ValueError(f"allowed are {', '.join(map(str, VIEWS))}")
    return views


class Evaluate(Section):
    """How the trained model is tested, and where the line between the classes is drawn."""

    policy: Literal["max_accuracy", "max_f1", "precision_at_recall"] = Field(
        description="what the threshold makes best on the validation split: max_accuracy, max_f1, or "
        "precision_at_recall (highest precision with recall >= recall_at_least)"
    )
    recall_at_least: Fraction = Field(
        description="smallest share of the positive class that must be found, 0 to 1; only for precision_at_recall"
    )
    views: Annotated[Integer, AfterValidator(_known)] = Field(
        description="ways to lay an image down over which its probability is averaged, in the test and when serving: "
        "1 as it is, 2 mirrored too, 4 its rotations by right angles, 8 their mirror images too (4 and 8 only where "
        "orientation means nothing)"
    )
    batch_size: Integer = Field(description="images predicted at once, 1 to 1024; speed and memory", ge=1, le=1024)
    pictures: bool = Field(
        description="whether evaluation.html shows the most confident errors as pictures; false where images must "
        "not leave the data"
    )


def evaluate(params: Evaluate, data: Path, model: Path, *, evaluation: Path, metrics: Path) -> None:
    """Predict validation and test in float32, choose the threshold on validation, report the test.

    Raises:
        ArtifactError: data or model cannot be read, or the model was made for other classes or another image size.
        DataError: a split lacks a class, or the model predicts what is no probability.
    """
    from twofold import artifacts, decision, drift_reference, predictions
    from twofold.model import load
    from twofold.prepared import Prepared

    prepared = Prepared.open(data)
    classifier, about = load(model)
    _check(prepared, about, data, model)
    probability = _predict(params, prepared, classifier, about)
    digest = artifacts.digest(model)
    decided = _decide(params, prepared, probability, digest)
    table = _table(prepared, probability, decided["threshold"])
    test = table.of("test")
    figures = _score(test, decided)
    charts = _draw(test, figures, decided["labels"])
    with artifacts.publish(evaluation) as draft:
        predictions.write(draft / predictions.PREDICTIONS, table)
        artifacts.write_json(draft / decision.DECISION, decided)
        drift_reference.write(draft / drift_reference.REFERENCE, drift_reference.of_test(prepared, classifier, about, test))
        _write_curves(draft, test, figures, decided["labels"])
        for name, picture in charts.items():
            (draft / f"{name}.svg").write_bytes(picture.svg)
            (draft / f"{name}.png").write_bytes(picture.png)
        page = _report(params, prepared, about, figures, decided, test, charts)
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


def _check(prepared: "Prepared", about: Mapping[str, Any], data: Path, model: Path) -> None:
    from twofold.artifacts import digest
    from twofold.errors import ArtifactError, DataError

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


def _predict(
    params: Evaluate, prepared: "Prepared", classifier: "Classifier", about: Mapping[str, Any]
) -> dict[str, "np.ndarray[Any, np.dtype[np.float64]]"]:
    """Probability of the positive class for every image of each split, in the order of its rows."""
    import torch

    from twofold import numerics
    from twofold.predicting import probabilities
    from twofold.progress import track

    numerics.settle()
    classifier.to(numerics.device())
    found = {}
    for split in SPLITS:
        rows = prepared.rows(split)
        starts = range(0, len(rows), params.batch_size)
        batches = (prepared.pixels(rows[start : start + params.batch_size]) for start in starts)
        shown = track(batches, f"predicting {split}", len(rows), per_item=params.batch_size)
        # A GPU would otherwise round the inputs of a convolution to 10 bits and call it float32.
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            found[split] = probabilities(classifier, shown, mean=about["mean"], std=about["std"], views=params.views)
    return found


def _decide(
    params: Evaluate, prepared: "Prepared", probability: Mapping[str, Any], model_digest: str
) -> dict[str, Any]:
    """What is sealed with the model: the content of decision.json."""
    from twofold import decision
    from twofold.metrics import confusion, rates

    target = prepared.target[prepared.rows("validation")]
    threshold = decision.choose(params.policy, target, probability["validation"], params.recall_at_least)
    counts = confusion(target, probability["validation"], threshold)
    # A parameter that was not used must not make the decision another one.
    used = params.policy == "precision_at_recall"
    return {
        "schema_version": decision.SCHEMA_VERSION,
        "threshold": threshold,
        "policy": params.policy,
        "recall_at_least": params.recall_at_least if used else None,
        "positive": prepared.meta["positive"],
        "labels": list(prepared.meta["labels"]),
        "views": params.views,
        "model_digest": model_digest,
        "fingerprint": prepared.meta["fingerprint"],
        "chosen_on": {"split": "validation", "n": counts.n, "n_positive": counts.positive, **rates(counts)},
    }


def _table(prepared: "Prepared", probability: Mapping[str, Any], threshold: float) -> "Predictions":
    import numpy as np

    from twofold import predictions

    rows = np.concatenate([prepared.rows(split) for split in SPLITS])
    together = np.concatenate([probability[split] for split in SPLITS])
    columns = {name: prepared.column(name)[rows] for name in ("sha256", "split", "label", "group")}
    columns |= {"target": prepared.target[rows], "probability": together, "predicted": together >= threshold}
    slices = {name: prepared.column(predictions.PREFIX + name)[rows] for name in prepared.meta["slices"]}
    return predictions.gather(columns, slices)


def _score(test: "Predictions", decided: Mapping[str, Any]) -> dict[str, Any]:
    """The content of metrics.json."""
    from twofold.metrics import by_slice, summary

    answers = (test.target, test.probability, decided["threshold"])
    return {
        **summary(*answers),
        "threshold": decided["threshold"],
        "slices": by_slice(*answers, test.slices),
    }


def _draw(test: "Predictions", figures: Mapping[str, Any], labels: Sequence[str]) -> dict[str, "Picture"]:
    from twofold import charts, curves
    from twofold.metrics import Counts

    names = (labels[0], labels[1])
    counts = Counts(*(figures[field] for field in Counts._fields))
    threshold = figures["threshold"]
    points = (test.target, test.probability)
    alarms = charts.Point(1 - figures["specificity"], figures["recall"], threshold)
    # Nothing called positive: there is no precision, and no place on that curve.
    trust = charts.Point(figures["recall"], figures["precision"], threshold) if counts.called else None
    return {
        "confusion": charts.confusion(counts, names),
        "roc": charts.roc(curves.roc(*points), figures["roc_auc"], alarms, names),
        "precision_recall": charts.precision_recall(
            curves.precision_recall(*points), figures["average_precision"], counts.positive / counts.n, trust, names
        ),
        "scores": charts.scores(curves.histogram(*points), counts, threshold, names),
    }


def _write_curves(folder: Path, test: "Predictions", figures: Mapping[str, Any], labels: Sequence[str]) -> None:
    """Every curve and table as CSV, for `dvc plots` and for spreadsheets."""
    from twofold import curves
    from twofold.metrics import FIGURES, Counts, by_class

    points = (test.target, test.probability)
    roc, trade, bars = curves.roc(*points), curves.precision_recall(*points), curves.histogram(*points)
    _csv(folder / "roc.csv", ("fpr", "tpr", "threshold"), _columns(roc.x, roc.y, roc.threshold))
    _csv(
        folder / "precision_recall.csv",
        ("recall", "precision", "threshold"),
        _columns(trade.x, trade.y, trade.threshold),
    )
    _csv(folder / "scores.csv", ("low", "high", "negative", "positive"), _columns(*bars))
    answers = ((label, labels[answer]) for label, answer in zip(test.label, test.predicted, strict=True))
    _csv(folder / "confusion.csv", ("actual", "predicted"), answers)
    classes = by_class(Counts(*(figures[field] for field in Counts._fields)), labels)
    shares = ("n", "called", "correct", "precision", "recall", "f1")
    rows = ((label, *(own.get(field) for field in shares)) for label, own in classes.items())
    _csv(folder / "classes.csv", ("class", *shares), rows)
    counted = ("n", "n_positive", "true_positive", "false_positive", "true_negative", "false_negative")
    values_of = (
        (name, value, *(own.get(field) for field in (*counted, *FIGURES)))
        for name, values in figures["slices"].items()
        for value, own in values.items()
    )
    _csv(folder / "slices.csv", ("slice", "value", *counted, *FIGURES), values_of)


def _columns(*arrays: Any) -> Iterator[tuple[Any, ...]]:
    return zip(*(array.tolist() for array in arrays), strict=True)


def _csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)


def _report(
    params: Evaluate,
    prepared: "Prepared",
    about: Mapping[str, Any],
    figures: Mapping[str, Any],
    decided: Mapping[str, Any],
    test: "Predictions",
    charts: Mapping[str, "Picture"],
) -> str:
    import numpy as np

    from twofold import report

    place = {sha256: row for row, sha256 in enumerate(prepared.sha256)}
    counted = {split: np.bincount(prepared.target[prepared.rows(split)], minlength=2) for split in ("train", *SPLITS)}
    findings = report.Findings(
        metrics=figures,
        decision=decided,
        data=prepared.meta,
        model=about,
        test=test,
        splits={split: (int(pair[0]), int(pair[1])) for split, pair in counted.items()},
        charts=charts,
        pixels=(lambda sha256: prepared.pixels(np.array([place[sha256]]))[0]) if params.pictures else None,
    )
    return report.render(findings)


if __name__ == "__main__":
    from twofold.runner import main

    main(evaluate)
