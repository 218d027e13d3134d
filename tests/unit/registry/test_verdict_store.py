"""A verdict stored by its SHA-256: as a tag, or as a file of the run if it is too long for a tag."""

import hashlib
from dataclasses import replace

import pytest

from twofold.core.errors import RegistryError
from twofold.promotion.verdict import GateResult, Verdict
from twofold.registry import verdict_store
from twofold.tracking import registry_client
from twofold.tracking import store as tracking

GATE = GateResult("f1 at least 0.5", "f1", 0.75, 0.5, applies=True, passed=True, detail="0.7500 is at least 0.5000")


@pytest.fixture
def store(mlflow_store):
    return tracking.connect()


def store_verdict(store, verdict):
    run = store.client.create_run(tracking.experiment(store, "e"))
    digest, tags = verdict_store.store_verdict(store, run.info.run_id, verdict)
    registry_client.create_unique(store, "corner", {})
    version = store.client.create_model_version("corner", source="s3://nowhere/m", run_id=run.info.run_id, tags=tags)
    return digest, store.client.get_model_version("corner", version.version)


@pytest.mark.parametrize("count", [1, 1000])
def test_a_verdict_is_loaded_as_it_was_stored(store, count):
    verdict = Verdict(tuple(replace(GATE, detail=f"{number} ü") for number in range(count)), ())
    digest, version = store_verdict(store, verdict)
    assert len(version.tags) == (1 if count == 1 else 0)
    assert verdict_store.load_verdict(store, version, digest) == verdict.as_json()
    if count == 1:
        (text,) = version.tags.values()
        assert hashlib.sha256(text.encode()).hexdigest() == digest


@pytest.mark.parametrize("count", [1, 1000])
def test_a_changed_or_missing_verdict_is_an_error(store, count):
    digest, version = store_verdict(store, Verdict((GATE,) * count, ()))
    if count == 1:
        (key,) = version.tags
        version.tags[key] = version.tags[key].replace("0.75", "0.99")
    else:
        (path,) = store.files.rglob(f"{digest}.json")
        path.write_text(path.read_text().replace("0.75", "0.99"))
    with pytest.raises(RegistryError, match=r"the ledger says .*: they were changed"):
        verdict_store.load_verdict(store, version, digest)
    version.tags.clear()
    with pytest.raises(RegistryError, match="cannot be fetched" if count == 1 else "they were changed"):
        verdict_store.load_verdict(store, version, digest)
