import json
import math

import pytest

from twofold.orchestration.kfp_display import MOST_POINTS, confusion_counts, numbers_of, roc_points, verdict_markdown


@pytest.fixture
def evaluation(tmp_path):
    """A folder as evaluate leaves it, as far as it is looked at."""
    (tmp_path / "decision.json").write_text(json.dumps({"labels": ["good", "bad"]}))
    (tmp_path / "confusion.csv").write_text("actual,predicted\ngood,good\nbad,good\nbad,bad\nbad,bad\n")
    return tmp_path


def curve(folder, points, header="fpr,tpr,threshold"):
    lines = [header, *(",".join(map(str, point)) for point in points)]
    (folder / "roc.csv").write_text("\n".join(lines) + "\n")
    return str(folder)


def test_a_long_curve_is_thinned_with_its_ends_kept(evaluation):
    points = [(i / 999, i / 999, 1 - i / 999) for i in range(1000)]
    found = roc_points(curve(evaluation, points))
    assert len(found.fpr) == len(found.tpr) == len(found.threshold) == MOST_POINTS
    assert (found.fpr[0], found.fpr[-1], found.threshold[0], found.threshold[-1]) == (0, 1, 1, 0)
    assert found.fpr == sorted(found.fpr)
    assert len(set(found.fpr)) == MOST_POINTS


def test_a_short_curve_stays_as_it_is(evaluation):
    points = [(0.0, 0.0, 0.9), (0.0, 1.0, 0.5), (1.0, 1.0, 0.1)]
    assert list(zip(*roc_points(curve(evaluation, points)), strict=True)) == points


def test_an_infinite_threshold_becomes_the_nearer_end(evaluation):
    points = [(0, 0, "inf"), (0, 0.5, 1.0000000000000002), (1, 1, "-inf")]
    found = roc_points(curve(evaluation, points))
    assert found.threshold == [1.0, 1.0, 0.0]
    assert all(math.isfinite(value) for column in found for value in column)


@pytest.mark.parametrize(
    "point", [("nan", 0, 0.5), (0, "inf", 0.5), (0, 0, "nan"), (1.5, 0, 0.5), (0, -0.1, 0.5), ("x", 0, 0), (0, 0, "")]
)
def test_what_is_no_rate_and_no_threshold_fails_the_task(evaluation, point, capsys):
    with pytest.raises(SystemExit) as failed:
        roc_points(curve(evaluation, [point, (1, 1, 0)]))
    assert failed.value.code == 1
    assert "roc.csv: " in capsys.readouterr().err


def test_no_curve_and_half_a_curve(evaluation, capsys):
    with pytest.raises(SystemExit):
        roc_points(str(evaluation))
    with pytest.raises(SystemExit):
        roc_points(curve(evaluation, [(0, 0, 1)]))
    with pytest.raises(SystemExit):
        roc_points(curve(evaluation, [(0, 0), (1, 1)], header="fpr,tpr"))
    said = capsys.readouterr().err
    assert "roc.csv: No such file" in said
    assert "needs two points, found 1" in said
    assert "needs the numbers fpr, tpr, threshold" in said


def test_the_confusion_matrix_has_true_classes_as_rows(evaluation):
    assert confusion_counts(str(evaluation)) == (["good", "bad"], [[1, 0], [1, 2]])


def test_a_class_that_nobody_knows(evaluation, capsys):
    (evaluation / "confusion.csv").write_text("actual,predicted\ngood,ugly\n")
    with pytest.raises(SystemExit):
        confusion_counts(str(evaluation))
    assert "ugly" in capsys.readouterr().err


def test_numbers_are_flat_and_leave_words_and_slices_out(tmp_path):
    path = tmp_path / "metrics"
    values = {"n": 3, "winner": "head", "ok": True, "validation": {"head_only": {"f1": 0.5}}, "slices": {"a": {"n": 1}}}
    values |= {"robustness": {"blur": {"n": 1}}}
    path.write_text(json.dumps(values))
    assert numbers_of(str(path)) == {"n": 3.0, "validation.head_only.f1": 0.5}


@pytest.mark.parametrize("text", ['{"f1": NaN}', '{"a": {"f1": Infinity}}', '{"f1": -Infinity}', '{"word": "a"}', "{"])
def test_a_metric_that_is_no_number_fails_the_task(tmp_path, text, capsys):
    path = tmp_path / "metrics"
    path.write_text(text)
    with pytest.raises(SystemExit) as failed:
        numbers_of(str(path))
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
    text = verdict_markdown(str(path))
    assert text.startswith("# Refused\n")
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert "| roc\\_auc at least 0.85 | 0.8000 is below 0.8500 | **failed** |" in rows
    assert "| accuracy at least 0.8 | 0.9000 | passed |" in rows
    assert "| f1 no worse | no champion | does not apply |" in rows
    assert "- roc\\_auc is 0.8000 \\| below 0.8500" in text
    assert "| version | none was registered |" in rows
    assert "(<http://mlflow/#/experiments/1/runs/2>)" in text


def test_a_verdict_without_a_server_or_a_champion(tmp_path):
    path = tmp_path / "verdict"
    path.write_text(json.dumps(VERDICT | {"open": "make ui", "version": 1, "champion": None, "judged_against": None}))
    text = verdict_markdown(str(path))
    assert "In MLflow: `make ui`" in text
    assert "| judged against | no champion |" in text
    assert "| champion | none |" in text
