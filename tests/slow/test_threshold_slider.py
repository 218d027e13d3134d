"""The slider in a real browser: at every stop the page shows the counts of scikit-learn."""

import html
import json
import re

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from tests.support.tools.browser import BROWSER, browsing, moved
from twofold.metrics import number_format
from twofold.reporting import html_page, threshold_slider

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="needs chromium (Debian: apt install chromium)"),
]
N = 1616  # some of its shares end in exactly half a tenth of a per cent
CHOSEN = 0.37


@pytest.fixture(scope="module")
def answers():
    rng = np.random.default_rng(4)
    target = (np.arange(N) % 16 == 0).astype(int)  # 101 of them
    return target, np.clip(rng.normal(0.3 + 0.3 * target, 0.2), 0, 0.99)


@pytest.fixture(scope="module")
def readings(answers, tmp_path_factory):
    """The stops; what the page shows at the start, at each stop and at the end; and what it shows without scripts."""
    values = threshold_slider.context(*answers, CHOSEN)
    names = {"slider": values, "positive": "defective", "negative": "functional"}
    whole = html_page.render("Slider", "threshold_slider.html", names, threshold_slider.SCRIPT)
    stops = [number / threshold_slider.STEPS for number in range(threshold_slider.STEPS + 1)]
    pages = {
        "/page.html": whole,
        "/moved.html": moved("/page.html", stops),
        # The frame in which the Kubeflow UI shows HTML.
        "/frame.html": moved("/page.html", [], 'sandbox="allow-same-origin"'),
    }
    with browsing(pages, tmp_path_factory.mktemp("profile")) as visit:
        found = visit("/moved.html", "--dump-dom", "--virtual-time-budget=5000")
        still = visit("/frame.html", "--dump-dom", "--virtual-time-budget=5000")
    assert found.complaints == []
    assert found.asked == ["/moved.html", "/page.html"]
    return stops, title(found), title(still)


def title(found):
    return json.loads(html.unescape(re.search(r"<title>(.*?)</title>", found.dom).group(1)))


def expected(answers, threshold):
    target, probability = answers
    passed, alarms, missed, hits = (int(n) for n in confusion_matrix(target, probability >= threshold).ravel())
    shares = {
        "accuracy": (hits + passed, N),
        "recall": (hits, hits + missed),
        "specificity": (passed, passed + alarms),
        "precision": (hits, hits + alarms),
        "f1": (2 * hits, 2 * hits + alarms + missed),
    }
    counts = {"true_positive": hits, "false_positive": alarms, "true_negative": passed, "false_negative": missed}
    return (
        {name: number_format.percent(part / whole if whole else None) for name, (part, whole) in shares.items()}
        | {name: number_format.count(value) for name, value in counts.items()}
        | {"threshold": f"{threshold:.4f}"}
    )


def test_every_stop_shows_the_counts_of_scikit_learn_and_the_rates_as_python_formats_them(answers, readings):
    stops, (_, *at, _), _ = readings
    assert len(stops) == len(at) == 1001
    for stop, shown in zip(stops, at, strict=True):
        assert shown == expected(answers, stop), stop


def test_it_begins_at_the_chosen_threshold_and_the_button_leads_back(answers, readings):
    _, (first, *_, last), _ = readings
    assert first == last == expected(answers, CHOSEN)


def test_without_scripts_the_page_shows_only_the_chosen_threshold(answers, readings):
    *_, (first, after) = readings
    only_moved = {"accuracy", "recall", "specificity", "precision", "f1"}
    assert {name for name, text in first.items() if text is None} == only_moved
    assert {name: text for name, text in first.items() if text is not None} == {
        name: text for name, text in expected(answers, CHOSEN).items() if name not in only_moved
    }
    assert after == first
