"""What register writes, as the MLflow UI shows it in a real browser.

With another version of MLflow, this finds what is no longer where docs/guides/mlflow.md says it is.
"""

import html
import re
import shutil

import pytest

from tests.support import registration_case as case
from tests.support.corner_store import client
from tests.support.tools.browser import BROWSER, browsing
from tests.support.tools.servers import mlflow
from twofold.tracking.urls import ui_page

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="needs chromium (Debian: apt install chromium)"),
]


@pytest.fixture(scope="module")
def shown(empty_store, tmp_path_factory):
    """The verdict on a promoted candidate, and a function that returns the text of one of its pages."""
    root = tmp_path_factory.mktemp("ui")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME", "DVC_EXP_NAME"):
            patch.delenv(name, raising=False)
        uri = f"sqlite:///{shutil.copy(empty_store, root / 'mlflow.db')}"
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        case.hurry(patch)
        (candidate,) = case.make_candidates(root, 8.0)
        verdict = case.run(candidate, root)
        verdict["run_name"] = client().get_run(verdict["run_id"]).info.run_name
    with (
        mlflow(root / "server", "--backend-store-uri", uri) as server,
        browsing({}, tmp_path_factory.mktemp("profile")) as visit,
    ):

        def read(page):
            dom = visit(f"{server}/{page}", "--dump-dom", "--virtual-time-budget=30000").dom
            cells = re.sub(r"<(style|script).*?</\1>|<[^>]*>", "|", dom, flags=re.DOTALL)
            return html.unescape(re.sub(r"[| \n]*\|[| \n]*", "|", cells))

        yield verdict, read


def test_the_list_of_runs_shows_candidates_with_their_data_and_hides_their_trainings(shown):
    verdict, read = shown
    text = read(ui_page("experiments", verdict["experiment_id"], "runs"))
    assert "|Runs|Models|Traces|Model registry|" in text, "the view of model training"
    assert f"|{verdict['run_name']}|" in text
    assert re.search(r"\|images \(\w{12}\)\|train\|.*\|validation\|.*\|test\|", text)
    assert "|finetune_all|" not in text
    assert "|Expand rows|" in text


def test_a_runs_page_has_its_trainings_tags_description_and_some_twenty_metrics(shown):
    verdict, read = shown
    text = read(verdict["page"].partition("5000/")[2])
    assert re.search(r"\|Child runs\|(finetune_all\|,\|train_head|train_head\|,\|finetune_all)\|", text)
    assert "|Tags|twofold.verdict|: Promoted: version 1 is the champion|twofold.reasons|" in text
    assert "|Promoted: version 1 is the champion|Trained by|train_head|and|finetune_all|. For the gates" in text
    assert "|Metrics (24)|" in text
    assert "Evaluation runs" not in text, "that is the view of GenAI"


def test_model_and_version_are_described_and_their_first_tags_are_metrics(shown):
    _, read = shown
    model = read(ui_page("models", "corner"))
    assert "|Tells images of|bad|from images of|good|. Each version is a sealed model" in model
    assert re.search(r"\|accuracy\|: 0\.714\|f1\|: 0\.667\|roc_auc\|: 0\.833\|twofold\.key\|", model)
    card = read(ui_page("models", "corner", "versions", "1"))
    assert "|accuracy|\N{EN SPACE}0.7143|\N{EN SPACE}0.2904 to 0.9633|" in card
