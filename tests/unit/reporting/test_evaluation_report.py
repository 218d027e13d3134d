"""evaluation.html: the page shows what was measured."""

import re
from html.parser import HTMLParser

import pytest

from tests.support.report_case import make_findings
from twofold.metrics.classification import METRICS
from twofold.metrics.confidence_intervals import Interval
from twofold.metrics.number_format import detection_sentence
from twofold.reporting import evaluation_report
from twofold.reporting.wording import TITLES, Rate, rate_with_interval, recorded_interval


class Reader(HTMLParser):
    """Collects the visible text, without that of charts, and the attributes of every element."""

    def __init__(self):
        super().__init__()
        self.words, self.elements, self.inside = [], [], []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag in ("td", "th", "br"):
            self.words.append(" ")
        if tag in ("style", "svg"):
            self.inside.append(tag)

    def handle_endtag(self, tag):
        if self.inside and tag == self.inside[-1]:
            self.inside.pop()

    def handle_data(self, data):
        if not self.inside:
            self.words.append(data)


def read(html):
    reader = Reader()
    reader.feed(html)
    text = re.sub(r"\s+", " ", "".join(reader.words))
    return text, reader.elements


def all_of(elements, tag):
    return [attributes for name, attributes in elements if name == tag]


def test_every_metric_is_shown_as_it_was_measured():
    findings = make_findings()
    html = evaluation_report.render(**findings)
    shown = dict(re.findall(r'data-figure="(\w+)">([^\s<]+)', html))
    assert set(shown) == set(METRICS)
    assert shown == {name: f"{findings['metrics'][name]:.3f}" for name in METRICS}
    text, _ = read(html)
    metrics = findings["metrics"]
    right = metrics["true_positive"] + metrics["true_negative"]
    found, missed = metrics["true_positive"], metrics["false_negative"]
    sentence = detection_sentence(metrics, "defective")
    sentence = sentence.replace("\N{NARROW NO-BREAK SPACE}", " ")
    assert f"The model {sentence}. Verdict register evaluates the gates: decision.html" in text
    assert html.count("<caption>") == html.count("<table")
    assert f"On 300 images that it had never seen, the model gave the correct answer for {right}:" in text
    # 200 of the 300 are functional.
    assert "Always answering functional would be correct for 66.7 %." in text
    assert f"{metrics['true_positive']} of 100 defective images" in text
    assert f"{metrics['false_positive']} of 200 functional images" in text
    assert f"Of 100 defective images, the model found {found} and missed {missed}." in text
    assert "At 0.500 or above it answers defective, below it functional." in text
    assert "find at least 85 % of the defective images with 95 % confidence. It was chosen on the 120 images of" in text
    text, _ = read(evaluation_report.render(**make_findings(policy="max_accuracy", rule={})))
    assert "It follows from the theory of decisions alone, for probabilities that were calibrated with the 120" in text
    assert "validation calibration and the end of training were set with these 40 80 120" in text


def test_every_metric_is_shown_with_its_interval_and_what_it_was_measured_on():
    findings = make_findings()
    text, _ = read(evaluation_report.render(**findings))
    metrics = findings["metrics"]
    called = metrics["true_positive"] + metrics["false_positive"]
    of = {
        "Accuracy": "300 images",
        "Precision": f"{called} “defective” answers",
        "Recall (sensitivity)": "100 defective images",
        "F1": "300 images",
        "Specificity": "200 functional images",
        "ROC-AUC": "300 images",
        "Log loss": "300 images",
        "Calibration error (ECE)": "300 images",
    }
    keys = {words[0]: key for key, words in TITLES.items()}
    for title, measured in of.items():
        ends = metrics["intervals"][keys[title]]
        value = f"{metrics[keys[title]]:.3f} {ends['low']:.3f} to {ends['high']:.3f}"
        assert re.search(rf"{re.escape(title)} {re.escape(measured)} {value}", text), title


def test_calibration_is_explained_in_words():
    findings = make_findings()
    metrics = findings["metrics"]
    text, _ = read(evaluation_report.render(**findings))
    assert "Two numbers, fitted on the 120 images of the validation split" in text
    assert "the slope 0.62 makes the network less confident, and the intercept -0.40 lowers every probability" in text
    ends = metrics["intervals"]["ece"]
    words = f"wrong by {metrics['ece']:.3f} on average ({ends['low']:.3f} to {ends['high']:.3f})"
    assert f"{words}; without the two numbers it would be {metrics['ece_uncalibrated']:.3f}" in text
    assert "chance alone explains" not in text  # random scores are no calibrated probabilities
    bound = {"at_bound": True}
    surer, _ = read(
        evaluation_report.render(**make_findings(platt_slope=10.0, platt_intercept=0.3, calibrated_on=bound))
    )
    assert "the slope 10.00 makes the network more confident, and the intercept 0.30 raises every probability" in surer
    assert "The slope is at its bound: the model's probabilities differ too little from each other" in surer


def test_a_slice_of_few_images_is_shown_as_such():
    kinds = ["rare" if row < 29 else "common" for row in range(300)]
    html = evaluation_report.render(**make_findings(slices={"kind": kinds}))
    text, _ = read(html)
    assert re.search(r"rare too few to judge 29 \d+ ", text)
    assert "On fewer than 30 images a metric says more about chance than about the model." in text
    assert html.count('<tr class="quiet">') == 1
    enough, _ = read(
        evaluation_report.render(**make_findings(slices={"kind": ["rare" if row < 30 else "c" for row in range(300)]}))
    )
    assert "too few to judge" not in enough


def test_built_in_slices_are_explained_and_their_bands_rise():
    sizes = [("up to 300 px", "301 to 600 px", "601 px or more")[(row % 7) // 3] for row in range(300)]
    text, _ = read(evaluation_report.render(**make_findings(slices={"image size": sizes})))
    assert "Metrics by slice: image size The shorter side of the original image." in text
    places = [text.index(band) for band in ("up to 300 px", "301 to 600 px", "601 px or more")]
    assert places == sorted(places)


def test_slices_and_parts_are_in_tables():
    findings = make_findings()
    text, _ = read(evaluation_report.render(**findings))
    assert "Metrics by slice: type" in text
    mono = findings["metrics"]["slices"]["type"]["mono"]
    alarms = 100 - 100 * mono["specificity"]
    row = rf"mono 150 50 {100 * mono['accuracy']:.1f} % .*?{100 * mono['recall']:.1f} % .*?{alarms:.1f} % "
    assert re.search(row + rf".*?{mono['roc_auc']:.3f}", text)
    bad = findings["metrics"]
    called = bad["true_positive"] + bad["false_positive"]
    row = rf"defective 100 {100 * bad['recall']:.1f} % .*?{called} {100 * bad['precision']:.1f} % "
    assert re.search(row + rf".*?{bad['f1']:.3f}", text)
    assert "train the model learned from these 300 600 900" in text
    assert "validation calibration, threshold and the end of training were set with these 40 80 120" in text


def test_the_ten_most_confident_errors_are_shown_with_text_alternatives():
    html = evaluation_report.render(**make_findings())
    _, elements = read(html)
    shown = [attributes for attributes in all_of(elements, "img") if attributes["alt"].startswith("Test image")]
    assert len(shown) == 10 + 8  # and correct answers
    for attributes in shown:
        assert attributes["src"].startswith("data:image/png;base64,")
        assert re.fullmatch(r"Test image [0-9a-f]{12}: labelled \w+, the model says \w+", attributes["alt"])
    for attributes in all_of(elements, "svg"):
        assert attributes["role"] == "img"
        assert len(attributes["aria-label"]) > 60
    assert "The 10 most confident errors" in html


def test_pictures_off_leaves_no_picture_of_an_image():
    html = evaluation_report.render(**make_findings(pictures=False))
    text, elements = read(html)
    assert all_of(elements, "img") == []
    assert "data:image" not in html
    assert "There are no maps: pictures are left out" in text
    assert html.count('<tr class="case">') == 10
    assert len(all_of(elements, "svg")) == 5  # the charts stay


def test_the_page_is_self_contained_and_the_same_every_time():
    html = evaluation_report.render(**make_findings())
    assert "http" not in html.replace("http-equiv", "")
    _, elements = read(html)
    assert not all_of(elements, "script")
    assert not [a for _, a in elements for name in a if name.startswith("on")]
    assert html == evaluation_report.render(**make_findings())


def test_a_perfect_model_has_no_errors_to_show():
    text, elements = read(evaluation_report.render(**make_findings(perfect=True)))
    assert "The model made no error on the test images." in text
    assert len(all_of(elements, "img")) == 8 * 2 + 1  # correct answers with their maps, and the legend
    assert "100.0 %" in text


def test_names_of_any_kind_are_shown_and_never_run():
    evil = "<img src=x onerror=alert(1)>"
    slices = {evil: [evil if row % 2 else "{{ 7*7 }}" for row in range(300)]}
    html = evaluation_report.render(**make_findings(labels=("{good}", "<b>bad"), slices=slices))
    text, elements = read(html)
    assert len(all_of(elements, "img")) == (10 + 8) * 2 + 1
    assert not [a for _, a in elements if "onerror" in a]
    assert f"Metrics by slice: {evil}" in text
    assert "{{ 7*7 }}" in text
    assert "Of 100 <b>bad images, the model found" in text


def test_a_slice_of_one_class_says_why_a_metric_is_missing():
    kinds = ["rare" if row == 1 else "common" for row in range(300)]  # image 1 is a functional one
    text, _ = read(evaluation_report.render(**make_findings(slices={"kind": kinds})))
    assert "\N{EN DASH} rare: no image of the positive class, so that some metrics have no value" in text


def test_a_slice_of_many_values_is_cut_and_says_so():
    text, _ = read(
        evaluation_report.render(**make_findings(slices={"place": [f"place {row % 30:02}" for row in range(300)]}))
    )
    assert "place 19" in text
    assert "place 20" not in text.split("most confident errors")[0]
    assert "10 rarer values are in slices.csv." in text


def test_images_in_groups_are_counted_as_samples():
    findings = make_findings(group=[f"g{row // 10}" for row in range(300)])
    assert findings["metrics"]["n_units"] == 30
    effective = round(findings["metrics"]["n_effective"])
    assert 30 <= effective < 300
    text, _ = read(evaluation_report.render(**findings))
    assert "The test images come from 30 samples: images of one group, and near duplicates, count as one." in text
    assert f"the accuracy is as certain as on {effective} independent images." in text
    assert "samples: images of one group" not in read(evaluation_report.render(**make_findings()))[0]


@pytest.mark.parametrize("group", [None, [f"g{row // 5}" for row in range(300)]])
def test_tiles_and_slices_show_the_intervals_of_the_metrics(group):
    metrics = (findings := make_findings(group=group))["metrics"]
    text, _ = read(evaluation_report.render(**findings))

    def words(own, name):
        low, high = (100 * own["intervals"][name][bound] for bound in ("low", "high"))
        low, high = (100 - high, 100 - low) if name == "specificity" else (low, high)  # false alarms
        return rf"{low:.1f} to {high:.1f}\s%"

    tiles = re.findall(r"\d+ of \d+ [\w ]+ 95 % confidence interval ([\d.]+ to [\d.]+\s%)", text)
    names = ("accuracy", "recall", "specificity", "precision")
    assert re.fullmatch(", ".join(words(metrics, name) for name in names), ", ".join(tiles))
    for value, own in metrics["slices"]["type"].items():
        shown = r" [\d.]+\s% ".join(["", *(words(own, name) for name in names[:3])])
        assert re.search(rf"{value} 150 50{shown}", text), value
    # metrics.json has no interval of this share, and one for independent images would be too narrow for groups.
    right, called = metrics["true_negative"], metrics["true_negative"] + metrics["false_negative"]
    alone = re.search(rf"{called} {100 * right / called:.1f}\s% [\d.]+ to [\d.]+", text)
    assert bool(alone) == (group is None)


def test_rates_carry_their_interval():
    found = rate_with_interval(8, 10, Interval(0.444, 0.975))
    assert (found.value, found.interval.replace("\N{NARROW NO-BREAK SPACE}", " ")) == (0.8, "44.4 to 97.5 %")
    assert rate_with_interval(8, 10, None) == Rate(8, 10, 0.8, None)
    assert rate_with_interval(0, 0, None) == Rate(0, 0, None, None)


def test_an_interval_is_read_from_the_metrics_or_of_the_complement():
    metrics = {"intervals": {"specificity": {"low": 0.5, "high": 0.875, "method": "wilson_or_exact"}}}
    assert recorded_interval(metrics, "specificity") == Interval(0.5, 0.875)
    assert recorded_interval(metrics, "specificity", complement=True) == Interval(0.125, 0.5)
    assert recorded_interval(metrics, "recall") is None
