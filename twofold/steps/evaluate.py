"""evaluate: how good the model is, on images that neither it nor its threshold has seen, and how sure that is.

In: the prepared data and the fine-tuned model. Out: a folder with `evaluation.html`, `decision.json`,
`predictions.parquet`, the points of every curve as CSV and every chart as SVG and PNG; beside it the figures as JSON.
A pure function of the two and the parameters: it knows neither MLflow nor a champion.

The validation images fix first the temperature and then the threshold. Every probability that leaves this step is
calibrated by that temperature, but for what is called uncalibrated.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, Field

from twofold.decision import Rule
from twofold.params import Integer, Section

if TYPE_CHECKING:
    import numpy as np

    from twofold.model import Classifier
    from twofold.picture import Picture
    from twofold.predictions import Predictions
    from twofold.prepared import Prepared

KIND, SCHEMA_VERSION = "evaluation", 2
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
    batch_size: Integer = Field(description="images predicted at once, 1 to 1024; speed and memory", ge=1, le=1024)
    pictures: bool = Field(
        description="whether evaluation.html shows the most confident errors as pictures; false where images must "
        "not leave the data"
    )


def evaluate(params: Evaluate, data: Path, model: Path, *, evaluation: Path, metrics: Path) -> None:
    """Predict validation and test in float32, fit temperature and threshold on validation, report the test.

    Raises:
        ArtifactError: data or model cannot be read, or the model was made for other classes or another image size.
        DataError: a split lacks a class, the model predicts what is no probability, or no threshold reaches what the
            rule asks for.
    """
    from twofold import artifacts, decision, exhibits, predictions
    from twofold.model import load
    from twofold.prepared import Prepared
    from twofold.temperature import calibrated

    prepared = Prepared.open(data)
    classifier, about = load(model)
    _check(prepared, about, data, model)
    raw = _predict(params, prepared, classifier, about)
    digest = artifacts.digest(model)
    decided = _decide(params, prepared, raw, digest)
    probability = {split: calibrated(raw[split], decided["temperature"]) for split in SPLITS}
    table = _table(prepared, probability, decided["threshold"])
    test = table.of("test")
    figures = _score(test, raw["test"], decided)
    charts = exhibits.draw(test, raw["test"], figures, decided["labels"])
    with artifacts.publish(evaluation) as draft:
        predictions.write(draft / predictions.PREDICTIONS, table)
        artifacts.write_json(draft / decision.DECISION, decided)
        exhibits.write(draft, test, raw["test"], figures, decided["labels"])
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


def _decide(params: Evaluate, prepared: "Prepared", raw: Mapping[str, Any], model_digest: str) -> dict[str, Any]:
    """What is sealed with the model: the content of decision.json."""
    from twofold import decision, temperature
    from twofold.calibration import ece
    from twofold.metrics import confusion, figures, rates
    from twofold.progress import say

    target = prepared.target[prepared.rows("validation")]
    fitted = temperature.fit(target, raw["validation"])
    probability = temperature.calibrated(raw["validation"], fitted)
    threshold = decision.choose(params.threshold, target, probability)
    counts = confusion(target, probability, threshold)
    at_bound = fitted in (temperature.LEAST, temperature.MOST)
    if at_bound:
        say(f"evaluate: the temperature is at its bound, {fitted:g}: {temperature.WHY[fitted]}")
    numbers = params.threshold.model_dump(mode="json")
    return {
        "schema_version": decision.SCHEMA_VERSION,
        "temperature": fitted,
        "threshold": threshold,
        "policy": numbers.pop("policy"),
        "rule": numbers,
        "positive": prepared.meta["positive"],
        "labels": list(prepared.meta["labels"]),
        "views": params.views,
        "model_digest": model_digest,
        "fingerprint": prepared.meta["fingerprint"],
        "chosen_on": {"split": "validation", "n": counts.n, "n_positive": counts.positive, **rates(counts)},
        "calibrated_on": {
            "split": "validation",
            "n": counts.n,
            "bounds": [temperature.LEAST, temperature.MOST],
            "at_bound": at_bound,
            "log_loss_uncalibrated": figures(target, raw["validation"], threshold)["log_loss"],
            "log_loss": figures(target, probability, threshold)["log_loss"],
            "ece_uncalibrated": ece(target, raw["validation"]),
            "ece": ece(target, probability),
        },
    }


def _table(prepared: "Prepared", probability: Mapping[str, Any], threshold: float) -> "Predictions":
    import numpy as np

    from twofold import predictions, slices

    rows = np.concatenate([prepared.rows(split) for split in SPLITS])
    together = np.concatenate([probability[split] for split in SPLITS])
    columns = {name: prepared.column(name)[rows] for name in ("sha256", "split", "label", "group")}
    columns |= {"target": prepared.target[rows], "probability": together, "predicted": together >= threshold}
    return predictions.gather(columns, slices.columns(prepared, rows))


def _score(test: "Predictions", uncalibrated: Any, decided: Mapping[str, Any]) -> dict[str, Any]:
    """The content of metrics.json."""
    from twofold import calibration
    from twofold.metrics import summary
    from twofold.slices import by_value
    from twofold.uncertainty import intervals

    answers = (test.target, test.probability, decided["threshold"])
    before = {**calibration.interval(test.target, uncalibrated)._asdict(), "method": calibration.METHOD}
    return {
        **summary(*answers),
        "ece_uncalibrated": calibration.ece(test.target, uncalibrated),
        "temperature": decided["temperature"],
        "threshold": decided["threshold"],
        "intervals": {**intervals(*answers), "ece_uncalibrated": before},
        "slices": by_value(*answers, test.slices),
    }


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
