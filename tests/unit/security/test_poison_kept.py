"""Poisoned checkpoints and caches: no code in them is executed, and they are ignored."""

import pytest
import torch
import xxhash

from tests.support import poison
from tests.unit.security.test_poison import FILE, Dot, everything, published
from twofold.model import classifier as models
from twofold.storage import cache, cache_packs, cache_sqlite
from twofold.training.checkpoint import Checkpoint

PARTS = {"data": "1", "code": "2"}


@pytest.fixture(autouse=True)
def dot(alone, monkeypatch):
    known = models.Backbone(features=4, mean=(0, 0, 0), std=(1, 1, 1), stages=(), make=Dot)
    monkeypatch.setitem(models.BACKBONES, "dot", known)


@pytest.mark.parametrize("kind", poison.KINDS)
def test_a_checkpoint(kind, alone, canary, capsys):
    checkpoint = Checkpoint("finetune_all", PARTS)
    checkpoint.save({"weights": torch.arange(3.0)})
    poison.plant(kind, checkpoint.path, canary)
    before = everything(alone)
    state = checkpoint.load()
    if kind in poison.WITH_GOOD_WEIGHTS:
        assert torch.equal(state["weights"], torch.arange(3.0))
    else:
        assert state is None
        output = capsys.readouterr().err
        assert f"{checkpoint.path.name}: not readable as a checkpoint" in output
        assert "weights_only" not in output
    assert not canary.exists()
    assert everything(alone) == before
    checkpoint.save({"weights": torch.zeros(3)})
    assert not checkpoint.path.is_symlink()
    assert torch.equal(checkpoint.load()["weights"], torch.zeros(3))


def test_a_checkpoint_is_not_written_through_a_symbolic_link(alone):
    checkpoint = Checkpoint("finetune_all", PARTS)
    checkpoint.save({"a": 1})
    precious = alone / "precious"
    precious.write_text("mine")
    checkpoint.path.unlink()
    checkpoint.path.symlink_to(precious)
    checkpoint.save({"a": 2})
    assert precious.read_text() == "mine"
    assert checkpoint.load() == {"a": 2}


@pytest.mark.parametrize("kind", poison.KINDS)
def test_the_cache_file(kind, canary, capsys):
    cache.store([("key", "image", b"value")], "features")
    poison.plant(kind, cache_sqlite.database(), canary)
    found = cache.lookup(["key"])
    assert found in ({}, {"key": b"value"})
    if kind not in (*poison.WITH_GOOD_WEIGHTS, "wrong SHA", "truncated"):
        assert "not readable as a cache" in capsys.readouterr().err
    assert not canary.exists()
    cache.store([("key", "image", b"another")], "features")
    assert cache.lookup(["key"]) == {"key": b"another"}


@pytest.mark.parametrize("kind", [kind for kind in poison.KINDS if kind not in ("code path", "symlink")])
def test_a_cache_pack_in_a_bucket(kind, alone, canary):
    _, whole = cache_packs.pack([("key", "image", b"a value of some length")], "features")
    path = alone / "pack"
    path.write_bytes(whole)
    poison.plant(kind, path, canary)
    assert list(cache_packs.unpack(path.read_bytes())) == []
    assert not canary.exists()


@pytest.mark.parametrize("size", ["[" * 100_000, "1e400", "-1", '"1" * 9', "null"])
def test_a_pack_with_a_hostile_first_line_gives_no_entries(size):
    assert list(cache_packs.unpack(f'[["key", "image", "{"0" * 64}", {size}]]\nvalue'.encode())) == []


@pytest.mark.parametrize("kind", [kind for kind in poison.KINDS if kind not in ("code path", "symlink")])
def test_a_poisoned_cache_value_with_a_valid_checksum_is_not_executed(kind, alone, canary, prepared, monkeypatch):
    from twofold.data.prepared import PreparedDataset
    from twofold.training.feature_extraction import extract_features

    images, classifier = PreparedDataset.open(prepared), models.build_classifier("dot", 0.5)
    rows = images.rows("train")[:2]

    def extract():
        return extract_features(classifier, "dot", "base", images, rows, 0)

    expected = extract()
    path = published(alone / "given" / FILE)
    poison.plant(kind, path, canary)
    with cache_sqlite._connect() as file:
        (count,) = file.execute("SELECT count(*) FROM entries").fetchone()
        value = path.read_bytes()
        file.execute("UPDATE entries SET value = ?, checksum = ?", (value, xxhash.xxh3_128_digest(value)))
    assert count == 2
    assert (extract() == expected).all()
    assert not canary.exists()
