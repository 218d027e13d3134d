"""After growth, shrinkage or relabelling, the artifacts made with a warm cache equal those made without one."""

import pytest

from tests.support.makers import UNAUDITED, file_bytes, make_folder, make_prepared, make_raw
from twofold.data import decode_cache, decoding, preprocessing
from twofold.storage import cache, cache_sqlite

AUDIT = dict.fromkeys(UNAUDITED, "quarantine")


def run(folder, place):
    """Every byte of the two artifacts and of the splits' audit."""
    place.mkdir()
    data = make_prepared(make_raw(folder, place / "raw"), place / "data", audit=AUDIT)
    assert data.exists()
    return file_bytes(place)


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path / "images", per_class=30, size=40)


@pytest.fixture
def counted(monkeypatch):
    """One item per decoded image, in ingest or preprocess; all work runs in this process."""
    monkeypatch.setenv("TWOFOLD_WORKERS", "1")
    calls = []
    for module, name in ((decode_cache, "decode"), (preprocessing, "prepare")):
        real = getattr(decoding, name)
        monkeypatch.setattr(module, name, lambda *given, real=real: calls.append(1) or real(*given))
    return calls


def grow(folder):
    make_folder(folder, per_class=33, size=40)
    return 6


def shrink(folder):
    sorted(folder.glob("*/*.png"))[7].unlink()
    return 0


def relabel(folder):
    path = sorted((folder / "bad").glob("*.png"))[3]
    path.rename(folder / "good" / f"was-{path.name}")
    return 0


@pytest.mark.parametrize("change", [grow, shrink, relabel])
def test_a_changed_data_set_equals_a_fresh_one_and_only_new_images_are_decoded(
    change, folder, tmp_path, counted, monkeypatch
):
    run(folder, tmp_path / "before")
    assert len(counted) >= 2 * 60
    new = change(folder)
    counted.clear()
    changed = run(folder, tmp_path / "changed")
    assert len(counted) == 2 * new
    monkeypatch.setenv("TWOFOLD_CACHE", str(tmp_path / "another"))
    assert run(folder, tmp_path / "fresh") == changed


def test_corrupt_entries_are_computed_again(folder, tmp_path, counted):
    expected = run(folder, tmp_path / "a")
    counted.clear()
    cache_sqlite.transaction(lambda file: file.execute("UPDATE entries SET value = zeroblob(9) WHERE rowid % 2"))
    assert run(folder, tmp_path / "b") == expected
    assert 30 <= len(counted) < 2 * 60
    cache_sqlite.database().write_bytes(b"no cache" * 1000)
    assert run(folder, tmp_path / "c") == expected


def test_an_entry_of_another_format_is_computed_again(folder, tmp_path, counted, monkeypatch):
    expected = run(folder, tmp_path / "a")
    get = cache.lookup
    monkeypatch.setattr(cache, "lookup", lambda keys: {key: value[:-1] for key, value in get(keys).items()})
    counted.clear()
    assert run(folder, tmp_path / "b") == expected
    assert len(counted) == 2 * 60


def test_a_full_cache_does_not_change_results(folder, tmp_path, monkeypatch):
    expected = run(folder, tmp_path / "a")
    monkeypatch.setenv("TWOFOLD_CACHE", str(tmp_path / "small"))
    monkeypatch.setenv("TWOFOLD_CACHE_LIMIT", "1")
    assert run(folder, tmp_path / "b") == expected


def test_the_key_contains_every_parameter_that_changes_the_pixels(folder, tmp_path, counted):
    raw = make_raw(folder, tmp_path / "raw")
    for number, changes in enumerate(({}, {"image_size": 48}, {"fit": "crop"}, {})):
        counted.clear()
        make_prepared(raw, tmp_path / f"data{number}", **changes)
        assert len(counted) == (0 if number == 3 else 60), changes
