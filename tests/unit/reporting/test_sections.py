"""The parts that both pages share: answers with their maps as pictures, and robustness as a table."""

import json
import re

import numpy as np
import pytest

from tests.unit.evaluation.test_error_analysis import LABELS, table
from tests.unit.reporting.test_evaluation_report import all_of
from tests.unit.reporting.test_evaluation_report import read as read_page
from twofold.core.errors import ArtifactError
from twofold.evaluation import explanations
from twofold.evaluation.error_analysis import most_confident_errors, sample_correct
from twofold.evaluation.explanations import Explanation, Explanations
from twofold.reporting import html_page, sections

MEASURED = {
    "unaltered": {"n": 200, "n_positive": 60, "accuracy": 0.9, "recall": 0.8, "specificity": 0.94, "roc_auc": 0.95},
    "blur": {
        "n": 200,
        "n_positive": 60,
        "changed": 13,
        "accuracy": 0.85,
        "accuracy_change": -0.05,
        "recall": 0.85,
        "recall_change": 0.05,
        "specificity": 0.94,
        "specificity_change": 0.0,
        "intervals": {
            "accuracy_change": {"low": -0.09, "high": -0.01, "method": "tango"},
            "recall_change": {"low": 0.01, "high": 0.12, "method": "tango"},
            "specificity_change": {"low": -0.0004, "high": 0.02, "method": "tango"},
        },
    },
}
MAP = "data:image/jpeg;base64,AAAA"


def make(pictures=True, perfect=False):
    """Explanations of the answers in tests/unit/evaluation/test_error_analysis.py."""
    shown = (lambda name: np.zeros((4, 4, 1), np.uint8)) if pictures else None
    lists = [
        [
            Explanation(answer, MAP if pictures else None, f"map of {answer.sha256}" if pictures else "")
            for answer in answers
        ]
        for answers in (
            [] if perfect else most_confident_errors(table(), LABELS, shown),
            sample_correct(table(), LABELS, shown),
        )
    ]
    if pictures:
        return Explanations(*lists, legend=MAP, positions=(3, 3), untrained=0.125, missing="")
    return Explanations(*lists, legend=None, positions=None, untrained=None, missing="pictures are left out")


def render(explained, views=1):
    html = html_page.render("x", "answers.html", {"explained": explained, "views": views})
    return (html, *read_page(html))


@pytest.mark.parametrize("pictures", [True, False])
def test_explanations_are_read_back_as_they_were_written(tmp_path, pictures):
    path = tmp_path / explanations.EXPLANATIONS
    explanations.write(path, make(pictures))
    assert explanations.read(path) == make(pictures)
    explanations.write(tmp_path / "again.json", make(pictures))
    assert (tmp_path / "again.json").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    "change",
    [
        {"schema_version": 2},
        {"errors": [{"sha256": "aa"}]},
        {"positions": [3]},
        {"hits": None},
    ],
)
def test_a_file_of_another_content_is_refused(tmp_path, change):
    path = tmp_path / "explanations.json"
    explanations.write(path, make())
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ArtifactError, match="run evaluate again"):
        explanations.read(path)


def test_every_answer_stands_beside_its_map_with_words_for_both():
    html, text, elements = render(make())
    pictures = all_of(elements, "img")
    assert len(pictures) == 2 * (3 + 2) + 1
    assert all(len(attributes["alt"]) > 5 for attributes in pictures)
    assert [a["alt"] for a in pictures[1:3]] == ["Test image aa: labelled good, the model says bad", "map of aa"]
    assert html.count('<div class="pair">') == 5
    assert "The 3 most confident errors" in text
    assert "Correct answers, for comparison" in text
    assert "It has 3 by 3 positions" in text
    assert "their rank correlation with the maps above is 0.12 (" in text
    assert "The answer is the mean over" not in text
    assert (
        "The answer is the mean over 4 views of test-time augmentation (the picture as it is, and mirrored or rotated)"
        in render(make(), 4)[1]
    )


def test_without_pictures_there_is_none_and_the_reason():
    html, text, elements = render(make(pictures=False))
    assert all_of(elements, "img") == []
    assert "data:image/" not in html
    assert html.count('<tr class="case">') == 3
    assert "There are no maps: pictures are left out." in text
    assert "Correct answers, for comparison" not in text


def test_a_model_without_an_error_is_said_to_have_none_and_its_hits_are_shown():
    _, text, elements = render(make(perfect=True))
    assert "The model made no error on the test images." in text
    assert len(all_of(elements, "img")) == 2 * 2 + 1


def test_robustness_is_a_table_in_which_only_what_is_clear_is_coloured():
    rows = sections.robustness_rows(dict(sorted(MEASURED.items())))  # as read from metrics.json
    html = html_page.render("x", "robustness.html", {"robustness": rows})
    text, _ = read_page(html)
    assert re.search(r"as they are\s+" + "\N{EN DASH}" + r"\s+0\.900\s+0\.800\s+0\.940\s+0\.950", text)
    minus = "\N{MINUS SIGN}"
    assert f"13 0.850 {minus}0.050 {minus}0.090 to {minus}0.010" in re.sub(r"\s+", " ", text)
    assert [cell.get("tone") for cell in rows[1]["cells"]] == ["bad", "good", "", None]
    assert "perturbed copies of 200 test images" in text
    assert "0.000 0.000 to +0.020" in text  # -0.0004 is shown without a sign


def test_what_was_not_measured_has_no_part():
    assert sections.robustness_rows(None) == []
    assert "Robustness" not in html_page.render("x", "robustness.html", {"robustness": []})
