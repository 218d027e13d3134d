"""What Twofold writes into tags fits into MLflow's tables on PostgreSQL, which refuses what SQLite keeps."""

import json

import pytest

from tests.support.tools.servers import postgres
from twofold.core.errors import ParameterError
from twofold.registry import earlier_candidates, ledger, transitions
from twofold.tracking import registry_client
from twofold.tracking import store as tracking

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with (
        postgres(tmp_path_factory.mktemp("servers") / "postgres", "mlflow", "mlflow", "p4ss") as port,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("MLFLOW_TRACKING_URI", f"postgresql+psycopg2://mlflow:p4ss@127.0.0.1:{port}/mlflow")
        yield tracking.connect(create=True)


@pytest.mark.parametrize("reason", ["because", "x" * 2000, '"' * 1000])
def test_sixty_changed_entries_are_acknowledged_and_the_next_promotion_goes_on(store, reason):
    name = f"m{len(reason)}"
    store.client.create_registered_model(name)
    store.client.create_model_version(name, "s3://nowhere/model")
    for number in range(1, 61):
        registry_client.tag_model(store, name, f"twofold.ledger.{number:06d}.1", "changed")
    transitions.repair(store, name, actor="ann", reason=reason)
    with transitions.change_under_lock(store, name) as (lock, found):
        assert (found.problems, len(found.acknowledged)) == ((), 60)
        transitions.commit(lock, transitions.Change("promote", 1, "ann", reason), expected=None)
    assert ledger.read(registry_client.registered(store, name).tags).champion == 1


def test_what_does_not_fit_is_refused_with_nothing_written(store):
    store.client.create_registered_model("corner")
    store.client.create_model_version("corner", "s3://nowhere/model")
    with (
        transitions.change_under_lock(store, "corner") as (lock, _),
        pytest.raises(ParameterError, match="reason: must be 1 to 2000 characters"),
    ):
        transitions.commit(lock, transitions.Change("promote", 1, "ann", '"' * 2000), expected=None)
    assert registry_client.registered(store, "corner").tags == {}
    earlier_candidates._merge_kept(store, "corner", {"f" * 64: {f"{number:012x}" for number in range(300)}})
    kept = registry_client.registered(store, "corner").tags[earlier_candidates.JUDGED]
    assert len(json.loads(kept)["f" * 64]) == 300
    earlier_candidates._merge_kept(store, "corner", {"f" * 64: {f"{number:012x}" for number in range(900)}})
    assert registry_client.registered(store, "corner").tags[earlier_candidates.JUDGED] == kept
    version = store.client.get_model_version("corner", "1")
    registry_client.tag_version(store, version, {"long": "x" * registry_client.LONGEST_TAG})
