"""decision.html: verdict and gates first, and what they say is what was judged."""

import hashlib
import re
from dataclasses import replace

import numpy as np
import pytest

from tests import registration_case as case
from tests.unit.test_report import read as read_page
from twofold import decision_page
from twofold.candidate import read
from twofold.comparison import Rival, compare
from twofold.gates import Maximum, Minimum, NonInferior
from twofold.judgement import Judgement, Outcome, as_json, digest, headline
from twofold.judging import judge
from twofold.resampling import Answers
from twofold.verdict import Subject

GATES = [
    Minimum(figure="accuracy", min=0.7),
    Maximum(figure="brier", max=0.1),
    Minimum(figure="<ece>", min=0.5),
    NonInferior(figure="roc_auc", non_inferior_by=0.5),
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
}
DASH = "\N{EN DASH}"  # no value
PROMOTED = Outcome(version=4, alias="champion", nothing_new=False, champion=4)
REFUSED = Outcome(version=None, alias=None, nothing_new=False, champion=3)


@pytest.fixture(scope="module")
def candidate(tmp_path_factory):
    root = tmp_path_factory.mktemp("candidate")
    with pytest.MonkeyPatch.context() as patch:
        case.know_corner(patch)
        return read(*case.make_candidate(root, case.make_data(root)))


def beside(candidate, says=CHAMPION, version="3"):
    """The candidate beside a champion that says this of the test images."""
    grey = {hashlib.sha256(case.image(grey)).hexdigest(): grey for grey in says}
    answers = Answers(np.array([says[grey[sha256]] for sha256 in candidate.test.sha256]), 0.25)
    rival = Rival(version, answers, {"train": frozenset(), "test": frozenset(["a" * 64])})
    return compare(candidate.test, candidate.decision["threshold"], candidate.splits, rival)


def judged(candidate, champion=CHAMPION, gates=GATES, experiment=None, **more):
    held = beside(candidate, champion) if isinstance(champion, dict) else champion
    subject = Subject(candidate.metrics, candidate.test, candidate.decision["threshold"])
    return Judgement("parts", candidate, judge(gates, subject, held), held, ORIGIN, experiment, **more)


@pytest.fixture(scope="module")
def refused(candidate):
    """The page of a refusal, as text and elements."""
    return read_page(decision_page.render(judged(candidate), REFUSED, RECORDED))


def test_verdict_and_reasons_come_first_then_the_gates_then_the_figures(refused):
    text, elements = refused
    headings = [tag for tag, _ in elements if tag in ("h1", "h2")]
    assert headings[0] == "h1"
    places = [text.index(words) for words in ("Refused", "The gates are not passed", "The gates Every", "Figures On 7")]
    assert places == sorted(places)
    assert "Version 3 stays the champion." in text
    assert "brier at most 0.1: 0.2153 is above 0.1000" in text


def test_every_gate_is_there_with_figure_limit_and_verdict(refused):
    text, _ = refused
    table = text[text.index("gate figure bound limit images verdict") :]
    assert re.search(rf"accuracy at least 0\.7\s+0\.7143\s+{DASH}\s+0\.7000\s+7\s+passed", table)
    assert re.search(rf"brier at most 0\.1\s+0\.2153\s+{DASH}\s+0\.1000\s+7\s+failed", table)
    assert re.search(rf"<ece> at least 0\.5\s*figure '<ece>' is missing; .*?{DASH}\s+0\.5000\s+7\s+failed", table)
    # Area 10 / 12 beside 9 / 12; bound and limit are of the difference.
    assert re.search(r"less than 0\.5\s+0\.8333\s+-0\.\d{4}\s+-0\.5000\s+7\s+passed", table)


def test_figures_have_their_intervals(refused):
    text, _ = refused
    assert re.search(r"Accuracy\s+0\.714\s+0\.359 to 0\.918", text)
    assert re.search(rf"Log loss\s+0\.\d{{3}}\s+{DASH}", text), "seven images are too few for a bootstrap"


def test_the_candidate_stands_beside_the_champion_on_the_same_images(refused, candidate):
    text, _ = refused
    table = text[text.index("Beside the champion") :]
    # Both miss the bad image of 110; the candidate alone takes the good one of 150 for bad.
    held = beside(candidate)
    assert held.figures["accuracy"] == pytest.approx(6 / 7)
    assert re.search(r"Accuracy\s+0\.714\s+0\.857\s+-0\.143\s+-0\.513 to \+0\.262", table)
    assert "Neither has learned from any of them." in table
    assert held.fingerprint in table
    assert held.fingerprint == candidate.test_fingerprint
    assert "This model alone is right on 0 images, the champion alone on 1 image." in table
    assert "with a probability of 1.000 (McNemar, exact)" in table


def test_lineage_names_code_data_model_and_where_it_is_recorded(refused, candidate):
    text, _ = refused
    for words in ("c0ffee", "params.yaml", "torch 2.15.0", "registry/x@sha256:1", "run-1", "run-2", "m-1", "5ea1" * 16):
        assert words in text
    for digest_ in (*candidate.digests.values(), candidate.test_fingerprint, candidate.decision["fingerprint"]):
        assert digest_ in text or digest_ == candidate.digests["train_head"]
    assert "on 7 test images its probabilities differ from the evaluation's by at most 2.5e-08" in text
    assert "make ui, then http://127.0.0.1:5000/#/experiments/1/runs/run-1" in text


def test_every_picture_has_words_and_every_table_can_be_scrolled(refused):
    _, elements = refused
    pictures = [attributes for tag, attributes in elements if tag == "svg"]
    assert len(pictures) == 5  # confusion, scores, ROC, two trainings
    assert all(len(attributes["aria-label"]) > 30 for attributes in pictures)
    tables = sum(tag == "table" for tag, _ in elements)
    regions = [attributes for _, attributes in elements if attributes.get("role") == "region"]
    assert len(regions) == tables
    assert all(attributes["tabindex"] == "0" for attributes in regions)
    assert not [tag for tag, _ in elements if tag == "script"]


def test_the_same_judgement_gives_the_same_page(candidate):
    pages = {decision_page.render(judged(candidate), REFUSED, RECORDED) for _ in range(2)}
    assert len(pages) == 1


@pytest.mark.parametrize(
    ("outcome", "experiment", "champion", "head", "words"),
    [
        (PROMOTED, None, CHAMPION, "Promoted: version 4 is the champion", "takes the place of version 3 of “parts”"),
        (PROMOTED, None, None, "Promoted: version 4 is the champion", "the first champion of “parts”"),
        (replace(PROMOTED, nothing_new=True), None, CHAMPION, "Nothing new since version 4", "holds this very model"),
        (
            replace(PROMOTED, nothing_new=True, champion=5),
            None,
            CHAMPION,
            "Nothing new since version 4",
            "the champion is now version 5; register does not bring a model back",
        ),
        (
            Outcome(4, "challenger", nothing_new=False, champion=3),
            None,
            CHAMPION,
            "Passed: version 4 waits for review",
            "giving it the alias 'champion' in MLflow",
        ),
        (REFUSED, "lucky", CHAMPION, "An experiment: judged and recorded, nothing registered", "never moves an alias"),
    ],
)
def test_what_followed_is_said_in_words(candidate, outcome, experiment, champion, head, words):
    judgement = judged(candidate, champion, GATES[:1], experiment)
    text, _ = read_page(decision_page.render(judgement, outcome, RECORDED))
    assert headline(judgement, outcome) == head
    assert head in text
    assert words in text
    assert "Every gate that applies is passed." in text


def test_without_a_champion_there_is_no_column_for_one(candidate):
    text, _ = read_page(decision_page.render(judged(candidate, None), replace(REFUSED, champion=None), RECORDED))
    assert "There is still no champion." in text
    assert "champion (version" not in text
    assert "does not apply: there is no champion yet" in text


def test_a_history_without_a_validation_loss_has_no_picture(tmp_path):
    path = tmp_path / "history.csv"
    path.write_text("epoch,train_loss\n0,\n1,0.5\n")
    assert decision_page.training(path, "x", 1) is None
    path.write_text("epoch,train_loss,validation_log_loss\n0,,0.7\n1,0.5,0.6\n")
    assert "loss (log loss, nats) over 2 epochs" in decision_page.training(path, "x", 1)[1].alt


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
