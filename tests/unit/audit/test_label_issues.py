"""Label issues: planted wrong labels are found, clean data has hardly any, and the model does not change."""

import json
import subprocess
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from tests.support.makers import file_bytes
from tests.support.training_maker import HEAD, make_prepared
from twofold.audit import label_issues
from twofold.core.artifacts import read_csv
from twofold.core.errors import DataError, TrainingError
from twofold.steps.train_head import TrainHead, train_head

NO_GROUPS = np.array([None] * 400, object)


def separable(count=400, features=32, seed=0):
    rng = np.random.default_rng(seed)
    target = np.arange(count) % 2
    return (rng.normal(size=(count, features)) + 1.2 * target[:, None]).astype(np.float32), target.astype(np.int64)


def out_of_fold(features, target, group):
    """Features in two parts, the second half first."""
    half = len(target) // 2
    order = np.roll(np.arange(len(target)), -half)
    return label_issues.out_of_fold_probabilities([features[half:], features[:half]], order, target, group)


def found(features, target, group=NO_GROUPS):
    return set(label_issues.find_label_issues(target, out_of_fold(features, target, group)).rows.tolist())


@pytest.mark.parametrize("seed", range(3))
def test_planted_wrong_labels_are_found_and_few_others(seed):
    features, target = separable(seed=seed)
    planted = set(np.random.default_rng(seed).choice(400, 20, replace=False).tolist())
    target[list(planted)] ^= 1
    issues = found(features, target)
    assert len(planted & issues) >= 18
    assert len(issues - planted) <= 4


@pytest.mark.parametrize("seed", range(3))
def test_clean_labels_have_hardly_any_issues(seed):
    assert len(found(*separable(seed=seed))) <= 4


def test_the_least_plausible_label_comes_first():
    features, target = separable()
    features[8] += 6
    target[8] = 0
    assert label_issues.find_label_issues(target, out_of_fold(features, target, NO_GROUPS)).rows[0] == 8


def test_groups_stay_together_and_folds_are_deterministic():
    _, target = separable()
    group = np.array([f"g{number // 7}" if number % 3 else None for number in range(400)], object)
    folds = label_issues.assign_folds(target, group)
    for train, test in folds:
        assert not {group[row] for row in train} & {group[row] for row in test} - {None}
        assert not set(train.tolist()) & set(test.tolist())
    assert sorted(row for _, test in folds for row in test.tolist()) == list(range(400))
    for one, other in zip(folds, label_issues.assign_folds(target, group), strict=True):
        assert np.array_equal(one[1], other[1])


def test_too_few_images_for_folds_are_reported():
    target = np.array([0] * 30 + [1] * 4)
    assert "4 images of class 'bad'" in label_issues.too_few_images(target, NO_GROUPS[:34], ["good", "bad"])
    grouped = np.array(["g0"] * 30 + ["g1", "g2", "g3", "g4"], object)
    assert "1 groups of images of class 'good'" in label_issues.too_few_images(target, grouped, ["good", "bad"])
    assert label_issues.too_few_images(np.arange(40) % 2, NO_GROUPS[:40], ["good", "bad"]) == ""


def test_predictions_are_out_of_fold():
    # As many features as images: a head memorises the labels that it was trained on, and cannot know the others.
    rng = np.random.default_rng(0)
    features, target = rng.normal(size=(400, 400)).astype(np.float32), rng.permutation(np.arange(400) % 2)
    probability = out_of_fold(features, target, NO_GROUPS)
    assert abs(roc_auc_score(target, probability) - 0.5) < 0.15


def test_predictions_are_out_of_group():
    # All images of a group look the same and have one label, independent of the other groups.
    rng = np.random.default_rng(1)
    own, labels = rng.normal(size=(100, 150)), rng.permutation(np.arange(100) % 2)
    number = rng.permutation(np.arange(400) // 4)
    features, target = own[number].astype(np.float32), labels[number]
    group = np.array([f"g{one}" for one in number], object)
    assert roc_auc_score(target, out_of_fold(features, target, NO_GROUPS)) > 0.9
    assert abs(roc_auc_score(target, out_of_fold(features, target, group)) - 0.5) < 0.2


def test_scale_and_offset_of_a_feature_do_not_matter():
    features, target = separable()
    plain = out_of_fold(features, target, NO_GROUPS)
    moved = features * np.geomspace(1e-3, 1e3, 32, dtype=np.float32) + np.linspace(-50, 50, 32, dtype=np.float32)
    flat = np.column_stack([moved, np.full(400, 1 / 3, np.float32), np.zeros(400, np.float32)])
    assert out_of_fold(moved, target, NO_GROUPS) == pytest.approx(plain, abs=0.01)
    assert out_of_fold(flat, target, NO_GROUPS) == pytest.approx(plain, abs=0.01)


def test_features_that_are_not_finite_are_an_error():
    features, target = separable()
    features[3, 4] = np.nan
    with pytest.raises(TrainingError, match="of 1 of 400 images are not finite"):
        out_of_fold(features, target, NO_GROUPS)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_prepared(tmp_path_factory.mktemp("data"), per_class=20)


def run(data, root, **audit):
    root.mkdir()
    changes = {"audit": HEAD["audit"] | audit, "epochs": 2}
    written = {"model": root / "m", "metrics": root / "m.json", "audit": root / "audit"}
    train_head(TrainHead(**(HEAD | changes)), data, data.with_name("audit"), **written)
    return root


def test_the_audit_is_written_and_leaves_the_model_as_it_is(data, tmp_path):
    warned, ignored = run(data, tmp_path / "a", label_issues="warn"), run(data, tmp_path / "b", label_issues="ignore")
    again = run(data, tmp_path / "c", label_issues="warn")
    assert file_bytes(warned / "m") == file_bytes(ignored / "m")
    assert file_bytes(warned / "audit") == file_bytes(again / "audit")
    summary = json.loads((warned / "audit" / "audit.json").read_text())
    assert summary["figures"]["images looked at"] == 40
    assert json.loads((ignored / "audit" / "audit.json").read_text())["figures"] == {}
    assert "Checks that are turned off" in (ignored / "audit" / "audit.html").read_text()


@pytest.mark.parametrize(
    ("key", "command"),
    [
        ("bad/a b.png", "mv 'bad/a b.png' 'good/a b.png'"),
        ("test/bad/x/1.png", "mv test/bad/x/1.png test/good/x/1.png"),
        ("images/bad/1.png", "mv images/bad/1.png images/good/1.png"),
        ("images/[1].png", r"sed -i '\|images/\[1\]\.png|s|,bad|,good|' labels.csv"),
    ],
)
def test_a_label_is_corrected_by_a_command(key, command):
    assert label_issues.relabel_command(key, "bad", "good") == command


def test_the_command_for_a_table_changes_the_row_of_the_image_alone(tmp_path):
    table = tmp_path / "labels.csv"
    table.write_text("path,label\na.1.png,a|b\nab1.png,a|b\n")
    subprocess.run(label_issues.relabel_command("a.1.png", "a|b", "c&d"), shell=True, check=True, cwd=tmp_path)  # noqa: S602
    assert table.read_text() == "path,label\na.1.png,c&d\nab1.png,a|b\n"


def test_too_few_images_make_the_check_impossible():
    target = np.array([0] * 30 + [1] * 4)
    images = SimpleNamespace(target=target, column=lambda name: NO_GROUPS[:34], meta={"labels": ["good", "bad"]})
    check, figures = label_issues.check_labels("fail", images, lambda split: pytest.fail("no features are needed"), {})
    assert check.found == []
    assert check.impossible.startswith("4 images of class 'bad', at least 5 are needed")
    assert figures == {"images looked at": 0}


def test_the_policy_fail_writes_the_audit_and_no_model(data, tmp_path, monkeypatch):
    true = label_issues.find_label_issues
    monkeypatch.setattr(label_issues, "find_label_issues", lambda *given: true(*given)._replace(rows=np.array([3, 1])))
    with pytest.raises(DataError, match=r"train_head\.audit\.label_issues is fail"):
        run(data, tmp_path / "a", label_issues="fail")
    assert len(read_csv(tmp_path / "a" / "audit" / "findings.csv")) == 2
    assert (tmp_path / "a" / "audit" / "audit.html").read_text().count("<img ") == 2
    assert not (tmp_path / "a" / "m").exists()
