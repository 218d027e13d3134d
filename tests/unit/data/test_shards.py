"""The tar shards of data/raw: their limit, and the headers of their members."""

import tarfile

import pytest

from twofold.core.errors import ArtifactError
from twofold.data import shards
from twofold.data.shards import ShardWriter

FILES = [bytes([number]) * size for number, size in enumerate((700, 512, 1, 5000, 1023))]


def test_the_size_of_a_write_does_not_change_the_shards(tmp_path, monkeypatch):
    data = [*FILES, b"\x08" * 9000, b"\x09" * 30_000, b"\x0a" * 3]
    results = []
    for size in (1, 2000, shards._WRITE_BYTES):
        monkeypatch.setattr(shards, "_WRITE_BYTES", size)
        folder = tmp_path / str(size)
        folder.mkdir()
        writer = ShardWriter(folder, limit=16_384)
        places = [writer.add(f"{one[0]}.png", one) for one in data]
        writer.close()
        written = [path.read_bytes() for path in sorted(folder.glob("*.tar"))]
        assert [
            written[shard][offset : offset + len(one)] for one, (shard, offset) in zip(data, places, strict=True)
        ] == data
        results.append((places, written))
    assert results[0] == results[1] == results[2]
    assert len(results[0][1]) == 4


@pytest.mark.parametrize("name", ["x", "a" * 64 + ".jpg", "n" * 100])
@pytest.mark.parametrize("size", [0, 1, 511, 50_000, 8**11 - 1])
def test_a_header_is_the_one_that_tarfile_writes(name, size):
    expected = tarfile.TarInfo(name)
    expected.size = size
    assert shards._header(name, size) == expected.tobuf(tarfile.USTAR_FORMAT)


def test_names_and_sizes_too_large_for_a_header_are_refused():
    with pytest.raises(ArtifactError, match="names of 100 letters and less than 8 GiB"):
        shards._header("n" * 101, 1)
    with pytest.raises(ArtifactError, match="8589934592 bytes"):
        shards._header("n", 8**11)
