"""What registration.json says of a verdict and of what followed."""

from types import SimpleNamespace

import pytest

from tests.support import judging_case as case
from twofold.audit.summary import AuditSummary
from twofold.promotion import judgement as judgements
from twofold.promotion.judgement import Judgement, Outcome
from twofold.promotion.verdict import GateResult, Verdict

TEST = case.predictions([1, 1, 0, 0], [0.9, 0.4, 0.2, 0.1])
CANDIDATE = SimpleNamespace(
    key="k",
    digests={"finetune_all": "m", "decision": "d"},
    test_fingerprint="t",
    decision={"fingerprint": "f"},
    audits=[AuditSummary("ingest", "blank", "Blank images", "", "warn", 2, "ingest.audit.blank", (), "")],
)
GATE = GateResult("accuracy at least 0.5", "accuracy", 0.75, 0.5, applies=True, passed=True, detail="is")
PASSED, REFUSED = Verdict((GATE,), ()), Verdict((GATE,), ("too low",))
NOTHING = Outcome(None, None, nothing_new=False, champion=3)


def judged(verdict=PASSED, champion=None, experiment=None, **more):
    return Judgement("corner", CANDIDATE, verdict, champion, {}, experiment, **more)


@pytest.mark.parametrize(
    ("verdict", "outcome", "head", "words"),
    [
        (REFUSED, NOTHING, "Refused", ["too low"]),
        (PASSED, Outcome(4, "champion", False, 4), "Promoted: version 4 is the champion", []),
        (PASSED, Outcome(4, "champion", True, 4), "Nothing new since version 4", []),
        (PASSED, Outcome(4, "champion", False, 5), "Passed: version 4 waits for review", []),
        (PASSED, Outcome(4, "champion", True, 5), "Nothing new since version 4", ["the champion is now version 5"]),
        (PASSED, Outcome(4, "champion", True, None), "Nothing new since version 4", ["there is none now"]),
        (PASSED, Outcome(4, "rejected", True, 3), "Nothing new since version 4", ["version 4 was rejected"]),
        (PASSED, Outcome(4, "challenger", False, 3), "Passed: version 4 waits for review", ["waits as 'challenger'"]),
        (REFUSED, Outcome(4, None, False, 3), "Refused", ["too low"]),
    ],
)
def test_the_headline_and_the_reasons(verdict, outcome, head, words):
    assert judgements.headline(judged(verdict), outcome) == head
    found = judgements.reasons(judged(verdict), outcome)
    assert len(found) == len(words)
    assert all(word in reason for word, reason in zip(words, found, strict=True))


def test_an_experiment_is_recorded_and_not_registered():
    experiment = judged(REFUSED, experiment="lucky")
    assert judgements.headline(experiment, NOTHING).startswith("An experiment")
    assert judgements.reasons(experiment, NOTHING) == [
        "too low",
        "'lucky' is a DVC experiment: it is recorded, and no alias moves",
    ]
    assert REFUSED.reasons == ("too low",)


def test_the_record_holds_verdict_outcome_and_comparison():
    champion = case.beside(TEST, [0.9, 0.9, 0.9, 0.1], version="3")
    before = case.beside(TEST, [0.9, 0.9, 0.1, 0.1], version="2")
    judgement = judged(champion=champion, best={"accuracy": before}, vanished={"x": ""}, measured={"size": 1.0})
    assert judgement.comparisons == {"3": champion, "2": before}
    assert judged(champion=case.broken(TEST), best={"f1": before, "recall": before}).comparisons == {"2": before}
    assert judged().comparisons == {}
    found = judgements.as_json(judgement, Outcome(4, "champion", False, 4))
    expected = {
        "name": "corner",
        "headline": "Promoted: version 4 is the champion",
        "passed": True,
        "registered": True,
        "promoted": True,
        "nothing_new": False,
        "version": 4,
        "alias": "champion",
        "champion": 4,
        "judged_against": 3,
        "champion_figures": champion.metrics,
        "reasons": [],
        "gates": PASSED.as_json(),
        "comparison": champion.as_json(),
        "best_before": {"accuracy": before.as_json()},
        "vanished_test_images": 1,
        "measured": {"size": 1.0},
        "dvc_experiment": None,
        "candidate": {
            "key": "k",
            "model": "m",
            "decision": "d",
            "test_fingerprint": "t",
            "data_fingerprint": "f",
        },
        "audits": [{"step": "ingest", "check": "blank", "policy": "warn", "found": 2}],
        "raised": ["Blank images (2)"],
    }
    assert expected.items() <= found.items()
    refused = judgements.as_json(judged(REFUSED), NOTHING)
    changed = {"passed": False, "registered": False, "promoted": False, "judged_against": None, "comparison": None}
    assert (changed | {"champion_figures": {}, "best_before": {}, "version": None}).items() <= refused.items()


def test_the_digest_leaves_out_what_a_repetition_changes():
    record = judgements.as_json(judged(), Outcome(4, "champion", False, 4))
    again = judgements.as_json(judged(), Outcome(4, "champion", True, 4)) | {"reasons": ["x"]}
    assert judgements.digest(record) == judgements.digest(dict(reversed(again.items())))
    assert judgements.digest(record) != judgements.digest(record | {"champion": 5})
