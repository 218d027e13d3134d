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


@pytest.mark.parametrize("n", [40, 5000])
def test_the_stops_are_scikit_learns_confusion_matrices_from_0_to_1(n):
    rng = np.random.default_rng(n)
    target = (rng.random(n) < 0.3).astype(int)
    # Some probabilities equal a stop, at which the image is called positive.
    probability = np.round(np.clip(rng.normal(0.3 + 0.3 * target, 0.2), 0, 0.99), 3)
    found = threshold_slider.stops(target, probability)
    assert len(found) == 1001
    assert found[0] == (target.sum(), n - target.sum())
    assert found[1000] == (0, 0)
    for number in range(0, 1001, 7):
        passed, alarms, missed, hits = confusion_matrix(target, probability >= number / 1000).ravel()
        assert found[number] == (hits, alarms)
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


def test_the_data_in_the_page_are_the_stops_and_the_chosen_threshold():
    data = json.loads(threshold_slider.context(TARGET, PROBABILITY, 0.6543)["stops"])
    assert (data["positive"], data["negative"]) == (3, 3)
    assert data["chosen"] == [0.6543, 2, 0]
    assert [tuple(stop) for stop in data["stops"]] == threshold_slider.stops(TARGET, PROBABILITY)
