"""The comparison with the champion on decision.html, and how often its test images were used."""

import re
from dataclasses import replace

import numpy as np
import pytest

from tests.support import registration_case as case
from tests.unit.reporting.test_decision_page import MINUS, RECORDED, REFUSED, beside, judged
from tests.unit.reporting.test_evaluation_report import read as read_page
from twofold.promotion.candidate import read_candidate
from twofold.promotion.judgement import as_json
from twofold.promotion.test_reuse import SPENT, Looks
from twofold.reporting import decision_page, model_card


@pytest.fixture(scope="module")
def candidate(tmp_path_factory):
    return read_candidate(*case.make_known(tmp_path_factory.mktemp("known"))[1])


@pytest.fixture(scope="module")
def refused(candidate):
    """The page of a refusal, as text and elements."""
    return read_page(decision_page.render(judged(candidate), REFUSED, RECORDED))


def test_the_candidate_is_compared_with_the_champion_on_the_same_images(refused, candidate):
    text, _ = refused
    table = text[text.index("Champion and challenger Both") :]
    # Both miss the bad image of 110; the candidate alone takes the good one of 150 for bad.
    held = beside(candidate)
    assert held.metrics["accuracy"] == pytest.approx(6 / 7)
    assert re.search(rf"Accuracy\s+0\.714\s+0\.857\s+{MINUS}0\.143\s+{MINUS}0\.513 to \+0\.262", table)
    assert "Neither model has learned from any of them." in table
    assert f"begins with {held.fingerprint[:12]}." in table
    assert held.fingerprint == candidate.test_fingerprint
    assert "Only this model is correct on 0 images, only the champion on 1 image." in table
    assert "with a probability of 1.000 (McNemar's exact test)" in table


def test_it_says_how_often_the_test_images_were_used_and_what_the_new_ones_show(refused, candidate):
    text, _ = refused
    assert "This is candidate 1 on these test images, 0 promoted before (register.test_reuse)." in text
    # None of the seven images was among the champion's; Clopper-Pearson for 6 of 7.
    assert re.search(r"7 of these images are new since version 3 .*Accuracy\s+0\.714\s+0\.857\s+0\.421 to 0\.996", text)
    looks = Looks(candidate=37, promoted=3, allowed=50, error_rate=0.002)
    known = replace(beside(candidate), fresh=np.empty(0, np.int64))
    judgement = judged(candidate, known, looks=looks)
    text, _ = read_page(decision_page.render(judgement, REFUSED, RECORDED))
    assert "one-sided 99.8 % lower bound" in text
    assert "This is candidate 37 (limit 50) on these test images, 3 promoted before" in text
    assert "None of these images is new since version 3 was made." in text
    assert as_json(judgement, REFUSED)["test_reuse"] == looks.model_dump() | {"words": looks.words}
    card = model_card.render(judgement)
    assert "This is candidate 37 (limit 50) on these test images, 3 promoted before." in card
    assert "None of these images is new since version 3 was made." in card


def test_a_spent_budget_is_a_reason_that_names_the_way_to_new_images(candidate):
    spent = Looks(candidate=51, allowed=50, error_rate=0.0)
    found = as_json(judged(candidate, looks=spent), REFUSED)["reasons"][-1]
    assert "candidate 51 (limit 50) on these test images, 0 promoted before; add new labelled images" in found
    assert SPENT not in "".join(as_json(judged(candidate, None, looks=spent), REFUSED)["reasons"])
