"""The slider's stops, compared with scikit-learn's confusion matrix; tests/slow moves the slider in a browser."""

import json
import re

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from twofold.metrics import number_format
from twofold.reporting import html_page, threshold_slider

TARGET = np.array([0, 0, 1, 0, 1, 1])
PROBABILITY = np.array([0.1, 0.3, 0.3, 0.5, 0.7, 0.9])


def test_every_split_of_the_images_is_a_stop_and_the_chosen_threshold_is_one():
    found = threshold_slider.stops(TARGET, PROBABILITY, 0.65)
    # All called; without 0.1; without both 0.3; without 0.5, at two places; 0.9 alone; none.
    expected = [(0, 3, 3), (0.2, 3, 2), (0.4, 2, 1), (0.6, 2, 0), (0.65, 2, 0), (0.8, 1, 0), (0.95, 0, 0)]
    assert [tuple(stop) for stop in found] == [pytest.approx(stop) for stop in expected]


def test_a_chosen_threshold_that_is_a_stop_already_is_there_once():
    assert [stop.threshold for stop in threshold_slider.stops(TARGET, PROBABILITY, 0.0)].count(0.0) == 1


@pytest.mark.parametrize("n", [40, 5000])
def test_the_stops_are_scikit_learns_confusion_matrices(n):
    rng = np.random.default_rng(n)
    target = (rng.random(n) < 0.3).astype(int)
    probability = np.round(np.clip(rng.normal(0.3 + 0.3 * target, 0.2), 0, 0.99), 4)
    found = threshold_slider.stops(target, probability, 0.37)
    assert len(found) <= threshold_slider.MOST
    assert [stop.threshold for stop in found] == sorted({stop.threshold for stop in found})
    assert (found[0].true_positive, found[0].false_positive) == (target.sum(), n - target.sum())
    assert (found[-1].true_positive, found[-1].false_positive) == (0, 0)
    assert 0.37 in {stop.threshold for stop in found}
    for stop in found:
        passed, alarms, missed, hits = confusion_matrix(target, probability >= stop.threshold).ravel()
        assert (stop.true_positive, stop.false_positive) == (hits, alarms)
        assert (passed + alarms, missed + hits) == (n - target.sum(), target.sum())


def test_without_scripts_the_page_shows_the_metrics_at_the_chosen_threshold():
    names = {"positive": "<b>bad", "negative": "good"}
    html = html_page.render(
        "x", "threshold_slider.html", {"slider": threshold_slider.context(TARGET, PROBABILITY, 0.65), **names}, ""
    )
    cells = dict(re.findall(r'data-at="(\w+)">\s*([^<]*)<', html))
    counts = {
        "threshold": "0.6500",
        "true_positive": "2",
        "false_negative": "1",
        "false_positive": "0",
        "true_negative": "3",
    }
    shares = {"accuracy": 5 / 6, "recall": 2 / 3, "specificity": 1.0, "precision": 1.0, "f1": 4 / 5}
    assert cells == counts | {name: number_format.percent(value) for name, value in shares.items()}
    # Elements that need the script are hidden without it.
    body = html[html.index("<body>") :]
    assert len(re.findall(r'class="[^"]*scripted"\s+hidden', body)) == body.count("scripted")
    assert "<noscript>" in html
    assert "&lt;b&gt;bad" in html


def test_the_data_in_the_page_are_the_stops():
    values = threshold_slider.context(TARGET, PROBABILITY, 0.65)
    data = json.loads(values["stops"])
    assert (data["positive"], data["negative"]) == (3, 3)
    assert data["stops"][data["chosen"]] == [0.65, 2, 0]
    assert [tuple(stop) for stop in data["stops"]] == [
        tuple(s) for s in threshold_slider.stops(TARGET, PROBABILITY, 0.65)
    ]
    assert (values["place"], values["last"]) == (4, 6)
