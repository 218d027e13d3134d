"""Which candidates were judged before on the same images, as a real MLflow store remembers it."""

import pytest
from mlflow.entities import ViewType

from tests.support import registration_case as case
from tests.support.corner_store import champion, client, ledger
from twofold.core.errors import RegistryError
from twofold.promotion.gates import Minimum, NonInferior
from twofold.promotion.test_reuse import TestReuse as Reuse
from twofold.registry import earlier_candidates
from twofold.tracking import registry_client, runs
from twofold.tracking.store import LOOKS

ANY = [Minimum(figure="accuracy", min=0.0), NonInferior(figure="accuracy", non_inferior_by=0.99)]
LOOSE = case.PARAMS.model_copy(update={"gates": ANY})


def limited(candidates, error_rate=0.005):
    return LOOSE.model_copy(update={"test_reuse": Reuse(candidates=candidates, error_rate=error_rate)})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Models on the same data, and `grown` on data with a corrected label and one more test image."""
    root = tmp_path_factory.mktemp("candidates")
    with pytest.MonkeyPatch.context() as patch:
        case.know_corner(patch)
        data = case.make_data(root)
        slopes = {"good": 8.0, "better": 9.0, "backwards": -8.0}
        found = {name: case.make_candidate(root / name, data, slope) for name, slope in slopes.items()}
        relabelled = [(split, grey, bad or grey == 150) for split, grey, bad in case.IMAGES]
        patch.setattr(case, "IMAGES", [*relabelled, ("test", 70, False)])
        return found | {"grown": case.make_candidate(root / "grown", case.make_data(root / "more"), 8.0)}


@pytest.fixture(autouse=True)
def fast_registration(monkeypatch, mlflow_store):
    case.hurry(monkeypatch)


def number(paths, root, params=case.PARAMS):
    found = case.run(paths, root, params)["test_reuse"]
    return found["candidate"], found["promoted"], found["uncounted"]


def test_every_candidate_counts_once_refused_ones_and_experiments_too(made, tmp_path, monkeypatch):
    assert number(made["backwards"], tmp_path) == (1, 0, 0), "refused"
    monkeypatch.setenv("DVC_EXP_NAME", "lucky-guess")
    assert number(made["better"], tmp_path) == (2, 0, 0)
    monkeypatch.delenv("DVC_EXP_NAME")
    other = case.PARAMS.model_copy(update={"model_name": "other"})
    assert number(made["good"], tmp_path, other) == (1, 0, 0), "another model's candidates do not count"
    assert number(made["good"], tmp_path) == (3, 0, 0)
    # Judged again, also under other gates or in another experiment, it keeps its number, and is no new look.
    elsewhere = LOOSE.model_copy(update={"experiment": "elsewhere"})
    assert number(made["good"], tmp_path, elsewhere) == (3, 0, 0)
    assert number(made["better"], tmp_path) == (2, 0, 0)
    # Seven of its eight images have judged three candidates, of which two were promoted; one has another label now.
    assert champion() == 2
    assert number(made["grown"], tmp_path, LOOSE) == (4, 2, 0)
    assert [entry.note.partition("; ")[2] for entry in ledger()][:2] == [
        "candidate 3 on these test images, 0 promoted before",
        "candidate 2 on these test images, 0 promoted before",
    ]


def test_what_was_deleted_or_comes_from_an_older_version_counts(made, tmp_path):
    verdict = case.run(made["good"], tmp_path)
    client().delete_tag(verdict["run_id"], LOOKS)
    second = case.run(made["backwards"], tmp_path)
    assert (second["test_reuse"]["candidate"], second["test_reuse"]["promoted"]) == (2, 1)
    client().delete_run(second["run_id"])
    client().delete_experiment(second["experiment_id"])
    elsewhere = LOOSE.model_copy(update={"experiment": "elsewhere"})
    assert number(made["better"], tmp_path, elsewhere) == (3, 1, 0)
    # Removed for good: the registered model still knows the keys, by the test's fingerprint.
    for run in client().search_runs([second["experiment_id"]], run_view_type=ViewType.ALL):
        client()._tracking_client.store._hard_delete_run(run.info.run_id)
    assert number(made["grown"], tmp_path, elsewhere) == (4, 2, 0), "another run has the images of that test"


def test_a_test_whose_images_are_gone_is_said_to_be_uncounted_and_a_store_that_is_away_stops(
    made, tmp_path, mlflow_store, monkeypatch
):
    case.run(made["backwards"], tmp_path)
    fetch = earlier_candidates.fetch_file

    def away(*arguments):
        raise RegistryError("HTTP 503", transient=True)

    monkeypatch.setattr(earlier_candidates, "fetch_file", away)
    with pytest.raises(RegistryError, match="503"):
        case.run(made["grown"], tmp_path)
    monkeypatch.setattr(earlier_candidates, "fetch_file", fetch)
    for path in mlflow_store.rglob("predictions.parquet"):
        path.unlink()
    assert number(made["good"], tmp_path) == (2, 0, 0), "the same test needs no list"
    for path in mlflow_store.rglob("predictions.parquet"):
        path.unlink()
    assert number(made["grown"], tmp_path, LOOSE) == (1, 0, 2)


def test_runs_are_read_page_by_page(made, tmp_path, monkeypatch):
    for name in ("backwards", "good"):
        case.run(made[name], tmp_path)
    pages = []

    def two_by_two(search, page_size, **query):
        pages.append(page_size)
        return original(search, 1, **query)

    original = runs.all_pages
    monkeypatch.setattr(runs, "all_pages", two_by_two)
    assert number(made["better"], tmp_path) == (3, 1, 0)
    assert pages


def test_a_spent_budget_refuses_what_must_be_proven_and_names_the_way_on(made, tmp_path):
    first = case.run(made["good"], tmp_path, limited(2))
    second = case.run(made["better"], tmp_path, limited(2))
    assert (first["promoted"], second["promoted"]) == (True, True)
    assert "(one-sided 95 % bound)" in second["gates"][1]["detail"]
    conditions = client().get_model_version("corner", "2").tags[registry_client.CONDITIONS]
    assert '"test_reuse":{"allowed":2,"candidate":2,"error_rate":0.05,"promoted":1,"uncounted":0}' in conditions
    third = case.run(made["backwards"], tmp_path, limited(2))
    assert (third["promoted"], third["test_reuse"]["error_rate"]) == (False, 0.0)
    assert [gate["passed"] for gate in third["gates"]] == [True, False, False]
    assert third["reasons"][0].endswith(
        "by less than 0.99: the error budget of these test images is spent (register.test_reuse)"
    )
    assert (
        "candidate 3 (limit 2) on these test images, 2 promoted before; add new labelled images" in third["reasons"][-1]
    )
    again = case.run(made["backwards"], tmp_path, limited(3))
    assert again["promoted"] is True, "a higher limit is judged again"
    assert "(one-sided 97.5 % bound)" in again["gates"][1]["detail"], "the second comparison has half the error rate"
