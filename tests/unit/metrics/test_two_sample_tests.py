"""Two-sample tests: statistics computed by hand or by other code, and the distribution of p-values."""

import math

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import roc_auc_score

from twofold.metrics import two_sample_tests
from twofold.metrics.two_sample_tests import DEALS, FOLDS, classifier_test, psi, psi_test


def rng(*seed):
    return np.random.default_rng(seed or 0)


def test_the_index_by_hand():
    # One edge, at 0: below it lie 0 of 10 old and 5 of 10 new ones, and half an image is added to every bin.
    shares = [(0.5 / 11, 10.5 / 11), (5.5 / 11, 5.5 / 11)]
    expected = sum((new - old) * math.log(new / old) for old, new in zip(*shares, strict=True))
    assert psi(np.zeros(10), np.array([-1.0] * 5 + [0.0] * 5)) == pytest.approx(expected)
    assert expected == pytest.approx(1.383874, abs=1e-6)


def test_the_index_of_a_sample_with_itself_is_0():
    values = rng().random(200)
    assert psi(values, values[::-1]) == pytest.approx(0, abs=1e-12)


def test_equal_scores_have_a_p_of_1():
    assert psi_test(np.full(50, 0.3), np.full(40, 0.3), rng()).p == 1.0


def test_equal_features_have_a_p_of_1():
    assert classifier_test(np.ones((50, 3)), np.ones((40, 3)), rng()) == (0.5, 1.0)


def test_an_obvious_difference_has_the_smallest_p():
    old, new = rng(1).normal(size=(60, 20)), rng(2).normal(2.0, size=(50, 20))
    area, p = classifier_test(old, new, rng())
    assert area > 0.99
    assert p == 1 / (DEALS + 1)
    assert psi_test(old[:, 0], new[:, 0], rng()).p == 1 / (DEALS + 1)


def test_the_classifier_is_out_of_fold_ridge_regression():
    old, new = rng(1).normal(size=(40, 6)), rng(2).normal(0.4, size=(35, 6))
    random = rng(3)
    found = classifier_test(old, new, rng(3))
    labels = two_sample_tests._permuted_labels(40, 35, random)
    folds = random.permutation(75) % FOLDS
    values = np.concatenate([old, new])
    values = (values - values.mean(axis=0)) / values.std(axis=0)
    target, scores = labels[:, 0], np.empty(75)
    for fold in range(FOLDS):
        train, test = folds != fold, folds == fold
        mean = target[train].mean()
        ridge = Ridge(alpha=6.0, fit_intercept=False).fit(values[train], target[train] - mean)
        scores[test] = ridge.predict(values[test]) + mean
    assert found.statistic == pytest.approx(roc_auc_score(target, scores))


def test_permuted_labels_keep_the_class_counts_and_the_first_are_the_real_ones():
    labels = two_sample_tests._permuted_labels(7, 5, rng())
    assert labels.shape == (12, DEALS + 1)
    assert labels[:, 0].tolist() == [False] * 7 + [True] * 5
    assert set(labels.sum(axis=0)) == {5}
    assert len({tuple(column) for column in labels.T}) > 500


def test_equal_scores_count_half():
    scores, labels = np.array([[0.1], [0.5], [0.5], [0.9]]), np.array([[False], [False], [True], [True]])
    assert two_sample_tests._roc_areas(scores, labels) == pytest.approx([0.875])


def test_p_values_without_a_difference_are_uniform():
    found = []
    for draw in range(60):
        values = rng(4, draw).normal(size=(70, 8))
        scores = rng(5, draw).random(70)
        found.append([classifier_test(values[:40], values[40:], rng()).p, psi_test(scores[:40], scores[40:], rng()).p])
    # The mean of 60 even ones is 0.5 and, in 999 of 1,000 cases, no further from it than 0.123.
    assert np.abs(np.mean(found, axis=0) - 0.5).max() < 0.123
