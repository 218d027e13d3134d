import json
import math

import pytest

from twofold.orchestration import kfp_display
from twofold.orchestration.kfp_display import MAX_POINTS, read_confusion_matrix, read_metrics, read_roc_curve


@pytest.fixture
def evaluation(tmp_path):
    """The files of an evaluation folder that are read here."""
    (tmp_path / "decision.json").write_text(json.dumps({"labels": ["good", "bad"]}))
    (tmp_path / "confusion.csv").write_text("actual,predicted\ngood,good\nbad,good\nbad,bad\nbad,bad\n")
    return tmp_path


def curve(folder, points, header="fpr,tpr,threshold"):
    lines = [header, *(",".join(map(str, point)) for point in points)]
    (folder / "roc.csv").write_text("\n".join(lines) + "\n")
    return str(folder)


def test_a_long_curve_is_thinned_and_keeps_its_first_and_last_point(evaluation):
    points = [(i / 999, i / 999, 1 - i / 999) for i in range(1000)]
    found = read_roc_curve(curve(evaluation, points))
    assert len(found.fpr) == len(found.tpr) == len(found.threshold) == MAX_POINTS
    assert (found.fpr[0], found.fpr[-1], found.threshold[0], found.threshold[-1]) == (0, 1, 1, 0)
    assert found.fpr == sorted(found.fpr)
    assert len(set(found.fpr)) == MAX_POINTS


def test_a_short_curve_stays_as_it_is(evaluation):
    points = [(0.0, 0.0, 0.9), (0.0, 1.0, 0.5), (1.0, 1.0, 0.1)]
    assert list(zip(*read_roc_curve(curve(evaluation, points)), strict=True)) == points


def test_thresholds_are_clipped_to_0_and_1(evaluation):
    points = [(0, 0, "inf"), (0, 0.5, 1.0000000000000002), (1, 1, "-inf")]
    found = read_roc_curve(curve(evaluation, points))
    assert found.threshold == [1.0, 1.0, 0.0]
    assert all(math.isfinite(value) for column in found for value in column)


@pytest.mark.parametrize(
    "point", [("nan", 0, 0.5), (0, "inf", 0.5), (0, 0, "nan"), (1.5, 0, 0.5), (0, -0.1, 0.5), ("x", 0, 0), (0, 0, "")]
)
def test_an_invalid_rate_or_threshold_fails_the_task(evaluation, point, capsys):
    with pytest.raises(SystemExit) as failed:
        read_roc_curve(curve(evaluation, [point, (1, 1, 0)]))
    assert failed.value.code == 1
    assert "roc.csv: " in capsys.readouterr().err


def test_a_missing_or_incomplete_curve_fails_the_task(evaluation, capsys):
    with pytest.raises(SystemExit):
        read_roc_curve(str(evaluation))
    with pytest.raises(SystemExit):
        read_roc_curve(curve(evaluation, [(0, 0, 1)]))
    with pytest.raises(SystemExit):
        read_roc_curve(curve(evaluation, [(0, 0), (1, 1)], header="fpr,tpr"))
    errors = capsys.readouterr().err
    assert "roc.csv: No such file" in errors
    assert "needs at least 2 points, found 1" in errors
    assert "needs the numbers fpr, tpr, threshold" in errors


def test_the_confusion_matrix_has_true_classes_as_rows(evaluation):
    assert read_confusion_matrix(str(evaluation)) == (["good", "bad"], [[1, 0], [1, 2]])


def test_an_unknown_class_fails_the_task(evaluation, capsys):
    (evaluation / "confusion.csv").write_text("actual,predicted\ngood,ugly\n")
    with pytest.raises(SystemExit):
        read_confusion_matrix(str(evaluation))
    assert "ugly" in capsys.readouterr().err


def test_metrics_are_flat_numbers_without_texts(tmp_path):
    path = tmp_path / "metrics"
    path.write_text(json.dumps({"n": 3, "winner": "head", "ok": True, "validation": {"head_only": {"f1": 0.5}}}))
    assert read_metrics(str(path)) == {"n": 3.0, "validation.head_only.f1": 0.5}


@pytest.mark.parametrize("text", ['{"f1": NaN}', '{"a": {"f1": Infinity}}', '{"f1": -Infinity}', '{"word": "a"}', "{"])
def test_a_metric_that_is_not_finite_fails_the_task(tmp_path, text, capsys):
    path = tmp_path / "metrics"
    path.write_text(text)
    with pytest.raises(SystemExit) as failed:
        read_metrics(str(path))
    assert failed.value.code == 1
    assert f"{path}: " in capsys.readouterr().err


VERDICT = {
    "headline": "Refused",
    "name": "twofold",
    "version": None,
    "champion": 3,
    "judged_against": 3,
    "open": "http://mlflow/#/experiments/1/runs/2",
    "reasons": ["roc_auc is 0.8000 | below 0.8500"],
    "gates": [
        {"name": "roc_auc at least 0.85", "detail": "0.8000 is below 0.8500", "passed": False, "applies": True},
        {"name": "accuracy at least 0.8", "detail": "0.9000", "passed": True, "applies": True},
        {"name": "f1 no worse", "detail": "no champion", "passed": True, "applies": False},
    ],
}


def test_the_verdict_shows_every_gate(tmp_path):
    path = tmp_path / "verdict"
    path.write_text(json.dumps(VERDICT))
    text = kfp_display.render_verdict(str(path))
    assert text.startswith("# Refused\n")
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert "| roc_auc at least 0.85 | 0.8000 is below 0.8500 | **failed** |" in rows
    assert "| accuracy at least 0.8 | 0.9000 | passed |" in rows
    assert "| f1 no worse | no champion | does not apply |" in rows
    assert "- roc_auc is 0.8000 \\| below 0.8500" in text
    assert "| version | none was registered |" in rows
    assert "| test reuse | not recorded |" in rows, "a verdict of an earlier version"
    assert "(<http://mlflow/#/experiments/1/runs/2>)" in text


def test_a_verdict_without_a_server_or_a_champion(tmp_path):
    path = tmp_path / "verdict"
    path.write_text(json.dumps(VERDICT | {"open": "make ui", "version": 1, "champion": None, "judged_against": None}))
    text = kfp_display.render_verdict(str(path))
    assert "In MLflow: `make ui`" in text
    assert "| judged against | no champion |" in text
    assert "| champion | none |" in text
