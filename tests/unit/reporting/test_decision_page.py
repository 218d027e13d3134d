"""decision.html: verdict and gates come first, and the page shows what was judged."""

import hashlib
import json
import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from tests.support import registration_case as case
from tests.support import report_case
from tests.unit.reporting.test_evaluation_report import read as read_page
from twofold.metrics.influence import ModelOutputs
from twofold.promotion.candidate import read_candidate
from twofold.promotion.gate_evaluation import evaluate_gates
from twofold.promotion.gates import Maximum, Minimum, NonInferior
from twofold.promotion.judgement import Judgement, Outcome, as_json, digest, headline
from twofold.promotion.paired_comparison import Opponent, compare
from twofold.promotion.verdict import GateInputs
from twofold.reporting import decision_page, html_page, threshold_slider

GATES = [
    Minimum(figure="accuracy", min=0.7),
    Maximum(figure="brier", max=0.1),
    Minimum(figure="<ece>", min=0.5),
    NonInferior(figure="roc_auc", non_inferior_by=0.5),
    Maximum(figure="n_positive", max=1_000_000),
    Minimum(figure="model_bytes", min=1000),
]
# What the champion says of the test images, by their grey; its threshold is 0.25. It misses 110.
CHAMPION = {10: 0.1, 50: 0.1, 90: 0.2, 150: 0.2, 125: 0.6, 240: 0.9, 110: 0.1}
ORIGIN = {
    "git.commit": "c0ffee",
    "git.changed": "params.yaml",
    "library.torch": "2.15.0",
    "image": "registry/x@sha256:1",
}
RECORDED = {
    "experiment": "trying",
    "run_id": "run-1",
    "tracking_uri": "sqlite:///mlflow.db",
    "open": "make ui",
    "page": "http://127.0.0.1:5000/#/experiments/1/runs/run-1",
    "model_id": "m-1",
    "seal": "5ea1" * 16,
    "rehearsal": {"images": 7, "tolerance": 1e-4, "largest_difference": 2.5e-8},
    "training_runs": {"train_head": "run-2", "finetune_all": "curves logged here"},
    "decided": {"time": "2026-12-01 10:20 UTC", "by": "Ada <ada@example.com>"},
}
DASH = "\N{EN DASH}"  # no value
MINUS = "\N{MINUS SIGN}"
PROMOTED = Outcome(version=4, alias="champion", nothing_new=False, champion=4)
REFUSED = Outcome(version=None, alias=None, nothing_new=False, champion=3)


@pytest.fixture(scope="module")
def candidate(tmp_path_factory):
    return read_candidate(*case.make_known(tmp_path_factory.mktemp("known"))[1])


def beside(candidate, says=CHAMPION, version="3"):
    """The candidate compared with a champion of these answers to the test images."""
    grey = {hashlib.sha256(case.image(grey)).hexdigest(): grey for grey in says}
    answers = ModelOutputs(np.array([says[grey[sha256]] for sha256 in candidate.test.sha256]), 0.25)
    opponent = Opponent(version, answers, {"train": frozenset(), "test": frozenset(["a" * 64])})
    return compare(candidate.test, candidate.decision["threshold"], candidate.splits, opponent)


def judged(candidate, champion=CHAMPION, gates=GATES, experiment=None, **more):
    held = beside(candidate, champion) if isinstance(champion, dict) else champion
    subject = GateInputs(candidate.metrics, candidate.test, candidate.decision["threshold"])
    return Judgement("parts", candidate, evaluate_gates(gates, subject, held), held, ORIGIN, experiment, **more)


@pytest.fixture(scope="module")
def refused(candidate):
    """The page of a refusal, as text and elements."""
    return read_page(decision_page.render(judged(candidate), REFUSED, RECORDED))


def test_verdict_and_reasons_come_first_then_the_gates_then_the_metrics(refused):
    text, elements = refused
    headings = [tag for tag, _ in elements if tag in ("h1", "h2")]
    assert headings[0] == "h1"
    places = [
        text.index(words)
        for words in (
            "Refused",
            "The model finds 2 of 3 bad, misses 1 (33",
            "Verdict The model did not pass the gates. No version was registered.",
            "Weakest slice no slice has enough images to judge",
            "Data audits nothing was found",
            "Date 2026-12-01 10:20 UTC Version none was registered Commit c0ffee, with changes in params.yaml",
            "Decided by Ada <ada@example.com>",
            "brier at most 0.1: 0.1614 is above 0.1000",
            "Gates Every",
            "Metrics On 7",
        )
    ]
    assert places == sorted(places)
    assert "Version 3 stays the champion." in text
    assert "brier at most 0.1: 0.1614 is above 0.1000" in text


def test_every_gate_is_there_with_metric_limit_and_verdict(refused):
    text, _ = refused
    table = text[text.index("gate metric bound limit images verdict") :]
    assert re.search(rf"accuracy at least 0\.7\s+0\.7143\s+{DASH}\s+0\.7000\s+7\s+passed", table)
    assert re.search(rf"brier at most 0\.1\s+0\.1614\s+{DASH}\s+0\.1000\s+7\s+failed", table)
    assert re.search(rf"<ece> at least 0\.5\s*metric '<ece>' is missing; .*?{DASH}\s+0\.5\s+7\s+failed", table)
    assert re.search(rf"n_positive at most 1000000\s+3\s+{DASH}\s+1,000,000\s+7\s+passed", table), "no decimals"
    assert re.search(rf"model_bytes at least 1000\s+.*is missing; .*?{DASH}\s+1,000\s+{DASH}\s+failed", table)
    # Area 10 / 12 beside 9 / 12; bound and limit are of the difference.
    assert re.search(r"less than 0\.5\s+0\.8333\s+-0\.\d{4}\s+-0\.5000\s+7\s+passed", table)


def test_metrics_have_their_intervals(refused):
    text, _ = refused
    assert re.search(r"Accuracy\s+0\.714\s+0\.290 to 0\.963", text), "Clopper-Pearson, of 5 of 7"
    assert re.search(rf"Log loss\s+0\.\d{{3}}\s+{DASH}", text), "100 images of each class are needed"


def test_lineage_names_code_data_model_and_where_it_is_recorded(refused, candidate):
    text, elements = refused
    for words in ("c0ffee", "params.yaml", "torch 2.15.0", "registry/x@sha256:1", "run-1", "run-2", "m-1", "5ea1" * 16):
        assert words in text
    for digest_ in (*candidate.digests.values(), candidate.test_fingerprint, candidate.decision["fingerprint"]):
        assert digest_ in text or digest_ == candidate.digests["train_head"]
    assert "on 7 test images its probabilities differ from the evaluation's by at most 2.5e-08" in text
    page = "http://127.0.0.1:5000/#/experiments/1/runs/run-1"
    assert f"start it with make ui, then open {page}" in text
    assert [attributes["href"] for tag, attributes in elements if tag == "a"][-1] == page


def test_every_picture_has_words_and_every_table_can_be_scrolled(refused):
    _, elements = refused
    pictures = [attributes for tag, attributes in elements if tag == "svg"]
    assert len(pictures) == 7  # confusion, scores, ROC, precision and recall, reliability, two trainings
    assert all(len(attributes["aria-label"]) > 30 for attributes in pictures)
    tables = sum(tag == "table" for tag, _ in elements)
    assert sum(tag == "caption" for tag, _ in elements) == tables
    regions = [attributes for _, attributes in elements if attributes.get("role") == "region"]
    assert len(regions) == tables
    assert all(attributes["tabindex"] == "0" for attributes in regions)


def test_sections_are_in_order_and_each_is_linked_from_the_top(refused):
    _, elements = refused
    anchors = [a.get("id") or a["data-unfolds"] for tag, a in elements if tag == "h2"]
    order = [
        "gates",
        "figures",
        "champion",
        "line",
        "curves",
        "slices",
        "robustness",
        "predictions",
        "data",
        "training",
    ]
    assert anchors == [*order, "lineage", "more"]
    folded = [attributes["data-unfolds"] for tag, attributes in elements if "data-unfolds" in attributes]
    assert folded == ["robustness", "lineage"]
    assert {anchor for anchor in folded if ("div", {"id": anchor}) in elements} == {*folded}
    links = [attributes["href"] for tag, attributes in elements if tag == "a"]
    assert links[:-1] == [f"#{anchor}" for anchor in anchors]  # the last one is the run in MLflow
    inside_a_chart = re.compile(r"c[0-9a-f]{8}-")
    named = [a["id"] for _, a in elements if "id" in a and not inside_a_chart.match(a["id"])]
    assert len(named) == len(set(named))
    levels = [int(tag[1]) for tag, _ in elements if tag in ("h1", "h2", "h3", "h4")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_the_slider_moves_through_the_test_and_its_script_alone_may_run(candidate, refused):
    _, elements = refused
    html = decision_page.render(judged(candidate), REFUSED, RECORDED)
    scripts = [attributes for tag, attributes in elements if tag == "script"]
    assert scripts == [{"id": "stops", "type": "application/json"}, {}]
    (policy,) = [a["content"] for tag, a in elements if tag == "meta" and "http-equiv" in a]
    assert policy == html_page.content_policy(html_page.read_template(threshold_slider.SCRIPT))
    data = json.loads(re.search(r'<script id="stops" type="application/json">(.*?)</script>', html)[1])
    assert (data["stops"][0], data["stops"][1000]) == ([3, 4], [0, 0])
    assert data["chosen"] == [candidate.decision["threshold"], 2, 1]
    assert (data["positive"], data["negative"]) == (3, 4)


def test_slices_come_with_their_intervals_and_few_images_are_not_judged(refused):
    text, _ = refused
    # Clopper-Pearson for 3 of 3: the cube root of 0.025
    row = r"mono\s+too few to judge\s+3\s+0\s+100\.0.%\s+29\.2 to 100\.0.%"
    assert re.search(row, text[text.index("Metrics by slice: type") :])


def test_errors_and_data_counts_are_there(refused):
    text, _ = refused
    assert "The 2 most confident errors" in text
    assert "There are no maps: pictures are left out" in text
    assert re.search(r"test 3\s+4\s+7", text)
    assert "Files refused or quarantined: 0" in text
    assert "saved as JPEG of quality 50" in text


def test_pictures_and_their_maps_are_shown_where_images_may_leave_the_data(candidate):
    explained = report_case.explained(candidate.test, candidate.labels, True)
    shown = judged(replace(candidate, explained=explained))
    _, elements = read_page(decision_page.render(shown, REFUSED, RECORDED))
    pictures = [attributes for tag, attributes in elements if tag == "img"]
    # Two errors and five correct answers, each with its map; the legend.
    assert len(pictures) == (2 + 5) * 2 + 1
    assert all(attributes["src"].startswith("data:image/") and attributes["alt"] for attributes in pictures)


def test_the_same_judgement_gives_the_same_page(candidate):
    pages = {decision_page.render(judged(candidate), REFUSED, RECORDED) for _ in range(2)}
    assert len(pages) == 1


@pytest.mark.parametrize(
    ("outcome", "experiment", "champion", "head", "words"),
    [
        (PROMOTED, None, CHAMPION, "Promoted: version 4 is the champion", "replaces version 3 of “parts”"),
        (PROMOTED, None, None, "Promoted: version 4 is the champion", "the first champion of “parts”"),
        (
            replace(PROMOTED, nothing_new=True),
            None,
            CHAMPION,
            "Nothing new since version 4",
            "already holds this model",
        ),
        (
            replace(PROMOTED, nothing_new=True, champion=5),
            None,
            CHAMPION,
            "Nothing new since version 4",
            "the champion is now version 5; register does not restore a former champion",
        ),
        (
            Outcome(4, "challenger", nothing_new=False, champion=3),
            None,
            CHAMPION,
            "Passed: version 4 waits for review",
            "twofold models approve 4 --reason WHY",
        ),
        (REFUSED, "lucky", CHAMPION, "An experiment: judged and recorded, nothing registered", "never moves an alias"),
    ],
)
def test_the_outcome_is_described_in_words(candidate, outcome, experiment, champion, head, words):
    judgement = judged(candidate, champion, GATES[:1], experiment)
    text, _ = read_page(decision_page.render(judgement, outcome, RECORDED))
    assert headline(judgement, outcome) == head
    assert head in text
    assert words in text
    assert "The model passed every gate that applies." in text


def test_without_a_champion_there_is_no_column_for_one(candidate):
    text, _ = read_page(decision_page.render(judged(candidate, None), replace(REFUSED, champion=None), RECORDED))
    assert "There is still no champion." in text
    assert "champion (version" not in text
    assert "there is no champion yet" in text


def test_a_history_without_a_validation_loss_has_no_picture(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text("epoch,train_loss\n0,\n1,0.5\n")
    assert decision_page.draw_training(path, "x", 1) is None
    path.write_text("epoch,train_loss,validation_log_loss\n0,,0.7\n1,0.5,0.6\n")
    assert "loss (log loss, nats) over 2 epochs" in decision_page.draw_training(path, "x", 1)[1].alt


def test_the_verdict_as_json_can_be_told_from_another_one(candidate):
    one = as_json(judged(candidate), REFUSED)
    assert (one["passed"], one["registered"], one["promoted"], one["judged_against"]) == (False, False, False, 3)
    assert digest(one) == digest(as_json(judged(candidate), REFUSED))
    assert digest(one) == digest(as_json(judged(candidate), replace(REFUSED, nothing_new=True)))
    others = [
        as_json(judged(candidate, gates=GATES[:2]), REFUSED),
        as_json(judged(candidate, beside(candidate, version="2")), REFUSED),
        as_json(judged(candidate), replace(REFUSED, champion=2)),
        as_json(judged(candidate, experiment="lucky"), REFUSED),
    ]
    assert len({digest(other) for other in [one, *others]}) == 5
