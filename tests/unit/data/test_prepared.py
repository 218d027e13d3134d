"""Reading and writing the prepared arrays."""

import hashlib

import numpy as np
import pytest

from tests.support.makers import encode, image_record, make_folder, make_prepared, make_raw, pixels
from twofold.core.errors import ArtifactError
from twofold.data import prepared_writer
from twofold.data.decode_cache import pixel_digest
from twofold.data.prepared import PreparedDataset
from twofold.data.prepared_writer import create_part, plan_parts, write_rows


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    raw = make_raw(make_folder(folder / "images", per_class=15, size=16), folder / "raw")
    return make_prepared(raw, folder / "data")


def test_parts_are_bounded_and_only_grow_at_the_end(monkeypatch):
    monkeypatch.setattr(prepared_writer, "PART_BYTES", 3 * 8 * 8)
    images = [image_record(n, channels=3 if n in (1, 4) else 1) for n in range(7)]
    places, shapes = plan_parts(images, 8)
    assert shapes == [(3, 8, 8, 1), (2, 8, 8, 1), (1, 8, 8, 3), (1, 8, 8, 3)]
    assert places == [(0, 0, 1), (2, 0, 3), (0, 1, 1), (0, 2, 1), (3, 0, 3), (1, 0, 1), (1, 1, 1)]


def test_rows_are_written_where_they_belong(tmp_path):
    shape = (4, 3, 3, 1)
    expected = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    create_part(tmp_path / "part.npy", shape)
    for row in (2, 0, 3):
        write_rows(tmp_path / "part.npy", shape, [(row, expected[row])])
    expected[1] = 0
    np.testing.assert_array_equal(np.load(tmp_path / "part.npy"), expected)


def test_several_parts_read_as_one(data, tmp_path, monkeypatch):
    monkeypatch.setattr(prepared_writer, "PART_BYTES", 4 * 32 * 32)
    parts = make_prepared(data.parent / "raw", tmp_path / "data")
    assert len(list(parts.glob("part-*.npy"))) == 8
    rows = [29, 0, 7, 7, 15]
    np.testing.assert_array_equal(PreparedDataset.open(parts).pixels(rows), PreparedDataset.open(data).pixels(rows))


def test_rows_of_a_split_are_in_the_order_of_the_index(data):
    prepared = PreparedDataset.open(data)
    rows = [prepared.rows(split) for split in ("train", "validation", "test")]
    assert sorted(np.concatenate(rows)) == list(range(30))
    assert all((np.diff(part) > 0).all() for part in rows)
    assert list(prepared.sha256) == sorted(prepared.sha256)
    assert prepared.target.dtype == np.int64
    assert prepared.pixels([]).shape == (0, 32, 32, 1)


def test_parts_are_mapped_not_read(data):
    prepared = PreparedDataset.open(data)
    assert prepared._parts
    assert all(isinstance(part.base, np.memmap) for part in prepared._parts)


def test_the_index_has_brightness_and_source(data):
    prepared = PreparedDataset.open(data)
    # Without padding or cropping, the mean of the resized pixels is about that of the picture.
    shown = prepared.pixels(range(30)).mean(axis=(1, 2, 3)) / 255
    assert prepared.column("brightness") == pytest.approx(shown, abs=0.01)
    assert set(prepared.column("source")) == {None}


def test_the_index_has_the_digest_of_the_pixels_of_every_row(tmp_path):
    source = make_folder(tmp_path / "images", per_class=15, size=16)
    for number in range(4):
        colour = pixels(np.random.default_rng(number), 20, bad=True, channels=3)
        (source / "bad" / f"colour-{number}.png").write_bytes(encode(colour))
    raw = make_raw(source, tmp_path / "raw")
    found = PreparedDataset.open(make_prepared(raw, tmp_path / "data"))
    again = PreparedDataset.open(make_prepared(raw, tmp_path / "again"))  # from the cache
    digests = [pixel_digest(found.stored(row)) for row in range(len(found))]
    assert list(found.column("pixels")) == list(again.column("pixels")) == digests
    assert len(set(digests)) == len(digests)
    assert set(found.column("channels")) == {1, 3}


def test_the_digest_covers_values_and_shape():
    values = np.arange(48, dtype=np.uint8)
    other = values.copy()
    other[-1] ^= 1
    shown = [values.reshape(4, 4, 3), other.reshape(4, 4, 3), values.reshape(2, 8, 3), values.reshape(8, 6, 1)]
    assert len({pixel_digest(one) for one in shown}) == 4
    assert pixel_digest(np.asfortranarray(shown[0])) == pixel_digest(shown[0])
    # Computed by hand, so that older artifacts stay valid.
    assert pixel_digest(shown[3]) == hashlib.sha256(b"8 6 1\n" + values.tobytes()).hexdigest()


def test_an_unknown_column_is_an_error_that_lists_the_columns(data):
    with pytest.raises(ArtifactError, match=r"no column 'slice.type'; found .*sha256"):
        PreparedDataset.open(data).column("slice.type")


@pytest.mark.parametrize("damage", ["missing", "short", "index", "kind"])
def test_files_that_do_not_fit_together_are_refused(data, tmp_path, damage):
    copy = make_prepared(data.parent / "raw", tmp_path / "data")
    if damage == "missing":
        (copy / "part-00000.npy").unlink()
    elif damage == "short":
        np.save(copy / "part-00000.npy", np.zeros((29, 32, 32, 1), np.uint8))
    elif damage == "index":
        (copy / "index.parquet").write_bytes(b"PAR1")
    else:
        (copy / "meta.json").write_text('{"kind": "raw", "schema_version": 1}')
    with pytest.raises(ArtifactError):
        PreparedDataset.open(copy)
