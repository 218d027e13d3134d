"""The tar shards of data/raw: where they are cut, and the headers of their members."""

import tarfile

import pytest

from twofold.core.errors import ArtifactError
from twofold.data import shards
from twofold.data.shards import ShardWriter

FILES = [bytes([number]) * size for number, size in enumerate((700, 512, 1, 5000, 1023))]


def test_what_is_written_together_is_cut_where_a_shard_ends(tmp_path, monkeypatch):
    data = [*FILES, b"\x08" * 9000, b"\x09" * 30_000, b"\x0a" * 3]
    whole = {}
    for at_once in (1, 2000, shards._AT_ONCE):
        monkeypatch.setattr(shards, "_AT_ONCE", at_once)
        place = tmp_path / str(at_once)
        place.mkdir()
        writer = ShardWriter(place, limit=16_384)
        places = [writer.add(f"{one[0]}.png", one) for one in data]
        writer.close()
        whole[at_once] = places, [path.read_bytes() for path in sorted(place.glob("*.tar"))]
        for one, (shard, offset) in zip(data, places, strict=True):
            assert whole[at_once][1][shard][offset : offset + len(one)] == one
    assert whole[1] == whole[2000] == whole[shards._AT_ONCE]
    assert len(whole[1][1]) == 4


@pytest.mark.parametrize("name", ["x", "a" * 64 + ".jpg", "n" * 100])
@pytest.mark.parametrize("size", [0, 1, 511, 50_000, 8**11 - 1])
def test_a_header_is_the_one_that_tarfile_writes(name, size):
    expected = tarfile.TarInfo(name)
    expected.size = size
    assert shards._header(name, size) == expected.tobuf(tarfile.USTAR_FORMAT)


def test_what_no_header_can_hold_is_refused():
    with pytest.raises(ArtifactError, match="names of 100 letters and less than 8 GiB"):
        shards._header("n" * 101, 1)
    with pytest.raises(ArtifactError, match="8589934592 bytes"):
        shards._header("n", 8**11)
