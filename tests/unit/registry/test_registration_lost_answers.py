"""Answers that get lost: MLflow's client repeats the request, and everything that register makes is there once."""

import time

import pytest
from mlflow.exceptions import MlflowException

from tests.support import registration_case as case
from tests.support.corner_store import champion, client, ledger, versions
from twofold.promotion.candidate import read_candidate
from twofold.registry import lock, transitions
from twofold.registry.recorded_evaluation import CHAMPION_PREDICTIONS
from twofold.tracking import registry_client, runs
from twofold.tracking import store as tracking
from twofold.tracking.live_run import live_run


class Repeating:
    """An MLflow client of which every create is sent again; as over HTTP, the second answer is the one that arrives."""

    def __init__(self, client, times=2):
        self._client, self._times = client, times
        self.repeated = []

    def __getattr__(self, name):
        method = getattr(self._client, name)
        if not name.startswith("create_"):
            return method

        def create(*args, **kwargs):
            self.repeated.append(name)
            if name == "create_run":
                kwargs.setdefault("start_time", int(time.time() * 1000))  # part of the request
            for _ in range(self._times - 1):
                try:
                    method(*args, **kwargs)
                except MlflowException:
                    break  # an answer to tell, such as "exists already"; nothing gets lost
            return method(*args, **kwargs)

        return create


@pytest.fixture(scope="module")
def candidates(tmp_path_factory):
    return case.make_candidates(tmp_path_factory.mktemp("candidates"), 8.0, 9.0)


@pytest.fixture(autouse=True)
def quick(mlflow_store, monkeypatch):
    case.hurry(monkeypatch)
    monkeypatch.setattr(lock, "LEASE", 0.2)


def repeat(patch, times=2):
    repeating = Repeating(tracking._client(tracking.address()), times)
    patch.setattr(tracking, "_client", lambda uri: repeating)
    return repeating


def test_every_create_of_register_makes_one_thing(candidates, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        repeating = repeat(patch)
        verdict = case.run(candidates[0], tmp_path)
    creates = {"create_experiment", "create_run", "create_logged_model", "create_registered_model"}
    assert set(repeating.repeated) == creates | {"create_model_version"}
    assert (versions(), champion(), verdict["version"]) == ([1], 1, 1)
    place = client().get_experiment_by_name("trying").experiment_id
    steps = sorted((run.data.tags["twofold.step"], run.info.status) for run in client().search_runs([place]))
    assert steps == [(step, "FINISHED") for step in ("finetune_all", "register", "train_head")]
    assert [str(model.status) for model in client().search_logged_models([place])] == ["READY"]
    assert len(client().search_registered_models("name LIKE 'twofold.lock.%'")) == 1
    entries = ledger()
    assert (case.run(candidates[0], tmp_path)["nothing_new"], ledger()) == (True, entries)


@pytest.mark.parametrize("times", [2, 4])
def test_a_live_run_is_opened_once_and_resumed(monkeypatch, times):
    with monkeypatch.context() as patch:
        assert repeat(patch, times)._times == times
        with pytest.raises(ValueError, match="full"), live_run("train_head", {}, resume_key="k") as first:
            raise ValueError("full")
    with live_run("train_head", {}, resume_key="k") as second:
        second.finish("d")
    assert first.run_id == second.run_id
    place = client().get_experiment_by_name("twofold").experiment_id
    assert [run.info.status for run in client().search_runs([place])] == ["FINISHED"]


def test_a_run_of_another_process_stays(monkeypatch):
    place = tracking.experiment(tracking.connect(), "e")
    ours = [tracking.create_run(tracking.connect(), place, runs.RUN_KEY, {runs.RUN_KEY: "k"}, str(n)) for n in (1, 2)]
    assert {run.info.run_id for run in client().search_runs([place])} == {run.info.run_id for run in ours}


@pytest.mark.parametrize("action", ["promote", "reject", "challenge"])
def test_of_two_versions_of_a_candidate_the_one_that_was_decided_on_counts(candidates, tmp_path, action):
    case.run(candidates[1], tmp_path)
    first = client().get_model_version("corner", "1")
    # As an earlier Twofold made them: versions 2 and 3 of another candidate, of which the answer for 3 arrived.
    tags = first.tags | {registry_client.KEY: read_candidate(*candidates[0]).key, registry_client.JUDGED_AGAINST: "1"}
    tags[f"{CHAMPION_PREDICTIONS}1"] = "run/sha256"  # without it, a challenger would be judged again
    for _ in range(2):
        client().create_model_version("corner", first.source, first.run_id, tags)
    with transitions.change_under_lock(tracking.connect(), "corner") as (held, _):
        transitions.commit(held, transitions.Change(action, 3, "ann", "because"), expected=1)
    entries = ledger()
    review = case.PARAMS.model_copy(update={"promotion": "review" if action == "challenge" else "auto"})
    verdict = case.run(candidates[0], tmp_path, review)
    expected = {"promote": "champion", "reject": "rejected", "challenge": "challenger"}[action]
    assert (verdict["version"], verdict["alias"], verdict["nothing_new"]) == (3, expected, True)
    assert ledger() == entries
