"""The logistic regression equals scikit-learn's and does not copy the features."""

import tracemalloc

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from twofold.audit.logistic_regression import StandardizedFeatures, fit_logistic_regression, log_odds
from twofold.core.errors import TrainingError


def made(rows, width, seed=0):
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(rows, width))
    features = latent * np.geomspace(0.01, 100, width) + rng.normal(size=width)
    target = (latent[:, 0] + rng.normal(size=rows) > 0).astype(np.int64)
    return features.astype(np.float32), target, (rng.random(rows) < 0.8).astype(np.float64)


@pytest.mark.parametrize("strength", [0.001, 0.01, 0.1])
@pytest.mark.parametrize(("rows", "width"), [(300, 20), (1500, 40), (200, 300)])
def test_it_finds_the_solution_of_scikit_learn(rows, width, strength):
    features, target, weight = made(rows, width)
    parts = [features[:100], features[100:]]
    ours = fit_logistic_regression(StandardizedFeatures(parts), target, weight, strength)
    scaled = StandardScaler().fit_transform(features.astype(np.float64))
    theirs = LogisticRegression(C=strength, tol=1e-8, max_iter=5000).fit(scaled, target, sample_weight=weight)
    expected = theirs.decision_function(scaled)
    assert log_odds(ours, StandardizedFeatures(parts)) == pytest.approx(expected, abs=0.02 * np.abs(expected).max())


def test_its_gradient_is_zero_where_it_stops():
    features, target, weight = made(400, 30)
    found = fit_logistic_regression(StandardizedFeatures([features]), target, weight, 0.01)
    scaled = StandardScaler().fit_transform(features.astype(np.float64))
    wrong = weight * (1 / (1 + np.exp(-scaled @ found.coefficients - found.intercept)) - target)
    assert np.abs(scaled.T @ wrong + found.coefficients / 0.01).max() / weight.sum() < 2e-4
    assert abs(wrong.sum()) / weight.sum() < 2e-4


def test_features_are_standardised_across_blocks_and_parts():
    features, _, _ = made(1300, 12)
    features = np.column_stack([features, np.full(1300, 1 / 3, np.float32), np.zeros(1300, np.float32)])
    parts = StandardizedFeatures([features[:700], features[700:]])
    assert (parts.rows, parts.width) == (1300, 14)
    together = np.empty_like(features)
    for rows, block in parts:
        together[rows] = block
    assert np.abs(together.mean(axis=0)).max() < 0.002
    assert together.std(axis=0) == pytest.approx([1.0] * 12 + [0.0] * 2, abs=0.002)


def test_features_that_are_not_finite_are_an_error():
    features, _, _ = made(600, 5)
    features[[3, 590], 4] = np.nan, np.inf
    with pytest.raises(TrainingError, match="of 2 of 600 images are not finite"):
        StandardizedFeatures([features])


def test_the_features_are_neither_copied_nor_changed():
    features, target, weight = made(20_000, 200)
    before = features.copy()
    tracemalloc.start()
    try:
        fit_logistic_regression(StandardizedFeatures([features]), target, weight, 0.01)
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert np.array_equal(features, before)
    assert most < features.nbytes / 2


def test_missing_convergence_is_reported(monkeypatch, capsys):
    features, target, weight = made(300, 20)
    monkeypatch.setattr("twofold.audit.logistic_regression.MAX_STEPS", 2)
    fit_logistic_regression(StandardizedFeatures([features]), target, weight, 0.1)
    assert "stopped after 2 steps without convergence" in capsys.readouterr().err
    monkeypatch.undo()
    fit_logistic_regression(StandardizedFeatures([features]), target, weight, 0.1)
    assert capsys.readouterr().err == ""
