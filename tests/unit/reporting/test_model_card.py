"""The model card: the facts of the judgement and no others, in Markdown that no value can break."""

from dataclasses import replace

import pytest
from markdown_it import MarkdownIt

from tests.support import registration_case as case
from tests.unit.core.test_markdown import Elements
from tests.unit.reporting.test_decision_page import GATES, ORIGIN, RECORDED, REFUSED, beside, judged
from tests.unit.reporting.test_evaluation_report import read as read_page
from twofold.promotion.candidate import read_candidate
from twofold.reporting import decision_page, model_card
from twofold.tracking import registry_client
from twofold.training import pretrained_weights

SECTIONS = [
    "Metrics",
    "Gates",
    "Comparison with version 3",
    "Intended use",
    "Caveats",
    "Data audit",
    "Metrics by slice",
    "Calibration and decision threshold",
    "Data",
    "Model details",
    "Licences and ethical considerations",
]


@pytest.fixture(scope="module")
def candidate(tmp_path_factory):
    return read_candidate(*case.make_known(tmp_path_factory.mktemp("known"))[1])


@pytest.fixture(scope="module")
def card(candidate):
    return model_card.render(judged(candidate))


def row(card, beginning):
    """The cells of the first row that begins so."""
    line = next(line for line in card.splitlines() if line.startswith(f"| {beginning}"))
    return [cell.strip() for cell in line.strip("|").split(" | ")]


def test_it_has_the_sections_of_a_model_card(card):
    assert card.startswith("# parts: bad or good?\n")
    assert [line[3:] for line in card.splitlines() if line.startswith("## ")] == SECTIONS


def test_every_metric_has_its_interval_its_method_and_its_number_of_images(card):
    # 125, 240 and (wrongly) 150 are called bad; 5 of 7 are right. Clopper and Pearson's interval of 5 / 7.
    assert row(card, "accuracy | 0.7143") == [
        "accuracy",
        "0.7143",
        "0.2904 to 0.9633",
        "7",
        "Wilson or Clopper-Pearson",
    ]
    assert [row(card, name)[3] for name in ("precision", "recall", "specificity", "f1")] == ["3", "3", "4", "4"]
    assert row(card, "roc_auc")[4] == "score"
    assert row(card, "ece")[0] == "ece (lower is better)"
    assert "On 7 test images (3 bad), which were not used for training" in card


def test_the_gates_are_there_with_their_outcome_and_the_reasons_in_front(card, candidate):
    assert card.index("Refused: ") < card.index("## Metrics")
    assert "- passed: accuracy at least 0.7: " in card
    assert "- **failed**: brier at most 0.1: " in card
    assert "- **failed**: &lt;ece&gt; at least 0.5: metric" in card
    passed = model_card.render(judged(candidate, gates=GATES[:1]))
    assert "The model passed every gate that applies." in passed
    assert "Refused: " not in passed


def test_the_comparison_with_the_champion_is_there_if_there_is_one(card, candidate):
    # It misses 110 and nothing else; this model misses 110 and 150.
    assert "Only this model is correct on 0 images, only version 3 on 1 (McNemar: p = 1.000)." in card
    assert row(card, "accuracy | 0.8571")[2] == "-0.1429"
    # The champion knew none of these images, so all of them are new since it was made.
    assert "7 of these images are new since version 3 was made" in card
    assert [line for line in card.splitlines() if line.startswith("| accuracy | 0.7143 | 0.8571 | 0.4213 | 0.9964")]
    assert "There was no champion to compare with." in model_card.render(judged(candidate, None))
    broken = replace(beside(candidate), problem="its files are gone")
    text = model_card.render(judged(candidate, broken))
    assert "No comparison: its files are gone." in text


def test_slices_have_metrics_intervals_and_a_note_where_images_are_too_few(card):
    heads = ["accuracy", "95 % interval", "recall", "95 % interval", "specificity", "95 % interval"]
    assert row(card, "type") == ["type", "images", "bad", *heads]
    assert row(card, "mono")[:5] == ["mono", "3, too few to judge", "0", "1.000", "0.292 to 1.000"]
    assert row(card, "mono")[5:] == ["none", "none", "1.000", "0.292 to 1.000"]
    assert "Too few test images (below 30) to judge: " in card


def test_calibration_threshold_and_data_are_those_of_the_artifacts(card, candidate):
    decision = candidate.decision
    scaling = f"slope {decision['platt_slope']:.4f}, intercept {decision['platt_intercept']:.4f}. On the test"
    assert f"Platt scaling, fitted on 6 validation images by log loss: {scaling}" in card
    assert f"is {candidate.metrics['ece_uncalibrated']:.4f}" in card
    assert f"and {candidate.metrics['ece']:.4f} (" in card
    assert (
        "Threshold 0.5000, by theory, on probabilities calibrated with the 6 validation images: the one with the"
        in card
    )
    assert f"Fingerprint `{decision['fingerprint']}`" in card
    assert [row(card, split) for split in ("train", "validation", "test")] == [
        ["train", "2", "2"],
        ["validation", "3", "3"],
        ["test", "3", "4"],
    ]
    assert "Images left out of a split to prevent leakage between the splits: 0" in card
    assert f"decision: SHA-256 `{candidate.digests['decision']}`" in card
    assert "git commit `c0ffee`, changed files: params.yaml." in card


def test_it_says_what_is_unknown_and_invents_nothing(card, candidate):
    assert "Licence of the initial weights: none were used." in card
    assert "Twofold does not know what the answer is used for." in card
    assert "no two test images are of one group or near duplicates" in card
    text = model_card.render(replace(judged(candidate), provenance={}))
    assert "git commit `unknown`, changed files: unknown." in text
    assert "Libraries" not in text
    assert "nan" not in text.lower().replace("provenance", "")


def test_card_and_page_say_how_many_samples_the_images_are(candidate, card):
    metrics = {**candidate.metrics, "n_units": 5, "n_effective": 5.6}
    judgement = replace(judged(candidate), candidate=replace(candidate, metrics=metrics))
    text = model_card.render(judgement)
    assert "The 7 test images come from 5 samples (images of one group, and near duplicates, are one)" in text
    assert "the accuracy is as certain as on 6 independent images" in text
    assert "no two test images" not in text
    page = read_page(decision_page.render(judgement, REFUSED, RECORDED))[0]
    assert "come from 5 samples and tell as much about the accuracy as 6 independent images." in page
    alone = read_page(decision_page.render(judged(candidate), REFUSED, RECORDED))[0]
    assert "samples" not in card + alone.replace("Groups of images and near duplicates count as one sample each", "")


def test_many_changed_files_are_counted(candidate):
    names = ", ".join(f"file_{n}.py" for n in range(9))
    text = model_card.render(replace(judged(candidate), provenance={**ORIGIN, "git.changed": names}))
    assert "changed files: file_0.py, file_1.py, file_2.py, file_3.py, file_4.py and 4 more." in text


@pytest.mark.parametrize(
    ("backbone", "licence"), [("timm/resnet18.tv_in1k", "bsd-3-clause, as timm records it"), ("timm/test_vit", "")]
)
def test_the_licence_of_weights_of_timm_is_what_timm_records(candidate, backbone, licence):
    about = candidate.about | {"finetune_all": candidate.about["finetune_all"] | {"backbone": backbone, "weights": "x"}}
    text = model_card.render(judged(replace(candidate, about=about)))
    assert f"Licence of the initial weights: {licence}" in text


def test_all_available_weights_have_a_licence():
    assert set(model_card.LICENCES) == set(pretrained_weights.SOURCES)


def test_the_same_judgement_gives_the_same_card(candidate, card):
    assert model_card.render(judged(candidate)) == card


def test_a_description_keeps_whole_sections(card):
    assert registry_client.version_description(card[:900]).replace("&ensp;", "") == card[:900]
    short = registry_client.version_description(card + "x" * 5000)
    assert len(short) <= registry_client.DESCRIPTION
    short = short.replace("&ensp;", "")
    front, _, end = short.rpartition("\n\n")
    assert end == "(The whole card is `registration/model_card.md` of the run.)"
    assert card.startswith(front)
    assert card[len(front) :].lstrip().startswith("## ")
    assert len(registry_client.version_description("x" * 6000)) == registry_client.DESCRIPTION


def test_hostile_classes_columns_and_files_leave_the_card_whole(candidate):
    decision = {**candidate.decision, "labels": ["<b>good</b>", "bad | worse"], "positive": "bad | worse"}
    counts = {
        split: {"<b>good</b>": own["good"], "bad | worse": own["bad"]}
        for split, own in candidate.about["preprocess"]["counts"].items()
    }
    about = {**candidate.about, "preprocess": {**candidate.about["preprocess"], "counts": counts}}
    column = {"# type | x": {"<img src=x>": candidate.metrics["slices"]["type"]["mono"]}}
    hostile = replace(candidate, decision=decision, about=about, metrics={**candidate.metrics, "slices": column})
    origin = {**ORIGIN, "git.changed": "a`b.py, <i>.py", "image": "https://user:word@registry/x"}
    text = model_card.render(replace(judged(candidate), candidate=hostile, provenance=origin))
    html = MarkdownIt("commonmark", {"html": True}).enable("table").render(text)
    elements = Elements(html)
    assert not {"b", "i", "img", "script", "a"} & set(elements.found)
    assert elements.found.count("h2") == len(SECTIONS)
    assert "bad | worse" in "".join(elements.text)
    assert "word@" not in text
