"""The cache in a bucket of a real S3 server."""

import os
import socket
import subprocess
import sys
import time

import pytest

from tests.support.makers import UNAUDITED, file_bytes, make_folder, make_prepared, make_raw
from tests.support.s3_case import fill
from tests.support.tools.servers import LISTER, SECRET
from twofold.cli.main import main
from twofold.core.errors import ParameterError
from twofold.data import decode_cache, decoding, preprocessing
from twofold.storage import cache, cache_s3, s3_client

pytestmark = pytest.mark.slow
IMAGE, OTHER = "a" * 64, "b" * 64
PREFIX = "team/memo-1/"


@pytest.fixture
def bucket(store, monkeypatch):
    """The cache's bucket, empty but for an object that is not the cache's."""
    if not any(one["Name"] == "memos" for one in store.list_buckets()["Buckets"]):
        store.create_bucket(Bucket="memos")
    for key in keys(store, ""):
        store.delete_object(Bucket="memos", Key=key)
    store.put_object(Bucket="memos", Key="team/memo-1/readme.txt", Body=b"not a pack")
    monkeypatch.setenv("TWOFOLD_CACHE", "s3://memos/team")
    monkeypatch.setattr(cache, "_failed", set())
    anew()
    return store


def anew():
    """Forget the listing, as if in another process."""
    cache_s3._stores.clear()


def keys(store, prefix=PREFIX):
    return [item["Key"] for item in store.list_objects_v2(Bucket="memos", Prefix=prefix).get("Contents", [])]


def packs(store):
    return [key for key in keys(store) if not key.endswith("readme.txt")]


def put(entries, kind="features"):
    cache.store(entries, kind)


def damage(store, key):
    body = bytearray(store.get_object(Bucket="memos", Key=key)["Body"].read())
    body[-1] ^= 1
    store.put_object(Bucket="memos", Key=key, Body=bytes(body))


def test_values_are_found_in_this_process_and_in_another(bucket):
    entries = {f"k{i}": bytes([i]) * i for i in range(100)}
    put((key, IMAGE, value) for key, value in entries.items())
    assert len(packs(bucket)) == 3  # 36 + 36 + 28
    assert cache.lookup([*entries, "none"]) == entries
    anew()
    assert cache.lookup([*entries, "none"]) == entries


def test_processes_write_at_once_and_read_each_others_values(bucket):
    script = (
        "import sys; from twofold.storage import cache; name, image = sys.argv[1], 'a' * 64\n"
        "for i in range(10):\n"
        "    cache.store([(f'{name}{i}', image, name.encode() * 9), ('both', image, b'same')], 'x')"
    )
    writers = [subprocess.Popen([sys.executable, "-c", script, name], stderr=subprocess.PIPE) for name in "pqr"]
    assert [(one.communicate(timeout=120)[1], one.returncode) for one in writers] == [(b"", 0)] * 3
    wanted = [*(f"{name}{i}" for name in "pqr" for i in range(10)), "both"]
    assert cache.lookup(wanted) == {key: b"same" if key == "both" else key[:1].encode() * 9 for key in wanted}


def test_a_corrupt_value_is_stored_again_and_then_found(bucket):
    put([("k1", IMAGE, b"one"), ("k2", IMAGE, b"two")])
    (pack,) = packs(bucket)
    damage(bucket, pack)
    anew()
    assert cache.lookup(["k1", "k2"]) == {"k1": b"one"}
    put([("k2", IMAGE, b"two")])
    anew()
    # The corrupt pack is still there and may be read first.
    assert cache.lookup(["k1", "k2"]) == {"k1": b"one", "k2": b"two"}


def test_a_deleted_pack_counts_as_missing(bucket):
    put([("k1", IMAGE, b"one")])
    anew()
    assert cache.lookup(["k1"]) == {"k1": b"one"}
    bucket.delete_object(Bucket="memos", Key=packs(bucket)[0])
    assert cache.lookup(["k1"]) == {}


def test_the_least_recently_used_packs_are_evicted(bucket, monkeypatch):
    monkeypatch.setenv("TWOFOLD_CACHE_LIMIT", "10K")
    ages = {}
    listed = cache_s3._PackStore.list_packs

    def aged(shelf):
        found = [one._replace(used=ages.get(one.name, one.used)) for one in listed(shelf)]
        return sorted(found, key=lambda one: one.used)

    monkeypatch.setattr(cache_s3._PackStore, "list_packs", aged)
    for i in range(4):
        put([(f"k{i}", IMAGE, bytes([i]) * 2000)])
        ages |= {key.removeprefix(PREFIX): float(i) for key in packs(bucket) if key.removeprefix(PREFIX) not in ages}
    put([("k9", IMAGE, bytes(3000))])
    anew()
    assert sorted(cache.lookup([f"k{i}" for i in range(10)])) == ["k2", "k3", "k9"]
    assert sum(item["Size"] for item in bucket.list_objects_v2(Bucket="memos", Prefix=PREFIX)["Contents"]) < 10_000
    put([("large", IMAGE, bytes(10_001))])
    assert cache.lookup(["large"]) == {}


def test_reading_counts_as_a_use_once_a_day(bucket, monkeypatch):
    put([("k1", IMAGE, b"one")])
    (pack,) = packs(bucket)
    written = bucket.head_object(Bucket="memos", Key=pack)["LastModified"]
    anew()
    cache.lookup(["k1"])
    assert bucket.head_object(Bucket="memos", Key=pack)["LastModified"] == written
    time.sleep(1.1)  # LastModified has whole seconds
    monkeypatch.setattr(cache_s3, "USE_INTERVAL", 1.0)
    anew()
    assert cache.lookup(["k1"]) == cache.lookup(["k1"]) == {"k1": b"one"}
    assert bucket.head_object(Bucket="memos", Key=pack)["LastModified"] > written
    anew()
    assert cache.lookup(["k1"]) == {"k1": b"one"}


def test_forgetting_an_image_removes_it_from_every_pack(bucket):
    put([("k1", IMAGE, b"secret one"), ("k2", OTHER, b"two")])
    put([("k3", IMAGE, b"secret three")])
    put([("k4", OTHER, b"four")], "pixels")
    assert cache.forget_image(IMAGE) == 2
    assert cache.forget_image(IMAGE) == 0
    stored = b"".join(bucket.get_object(Bucket="memos", Key=key)["Body"].read() for key in keys(bucket))
    assert b"secret" not in stored and IMAGE.encode() not in stored
    anew()
    assert cache.lookup(["k1", "k2", "k3", "k4"]) == {"k2": b"two", "k4": b"four"}


def command(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(["cache", *arguments])
    assert ended.value.code == 0
    return capsys.readouterr().out.splitlines()


def test_the_cache_command(bucket, capsys):
    address = "s3://memos/team"
    assert command(capsys, "show")[0] == f"cache: {address} does not exist; nothing has been stored yet"
    put([("k1", IMAGE, b"1" * 1000), ("k2", IMAGE, b"2" * 1000)])
    put([("d", IMAGE, b"d")], "decoded")
    sizes = {key.split("/")[2]: bucket.head_object(Bucket="memos", Key=key)["ContentLength"] for key in packs(bucket)}
    total = sum(sizes.values())
    assert command(capsys, "show", "--verify") == [
        f"cache: {address}, 2 packs of {total:,} bytes",
        "limit: 10,000,000,000 bytes (TWOFOLD_CACHE_LIMIT)",
        f"decoded: 1 entry, {sizes['decoded']:,} bytes",
        f"features: 2 entries, {sizes['features']:,} bytes",
        f"total: 3 entries, {total:,} bytes",
        "damaged: 0 entries, 0 bytes",
    ]
    damage(bucket, next(key for key in packs(bucket) if "features" in key))
    assert command(capsys, "show", "--verify")[-1] == f"damaged: 1 entry, {sizes['features'] // 2:,} bytes"
    assert command(capsys, "prune", "--damaged")[-1].startswith("left: 2 entries, ")
    assert command(capsys, "show", "--verify")[-1] == "damaged: 0 entries, 0 bytes"
    assert cache.lookup(["k1", "k2", "d"]) == {"k1": b"1" * 1000, "d": b"d"}
    total = sum(bucket.head_object(Bucket="memos", Key=key)["ContentLength"] for key in packs(bucket))
    assert command(capsys, "prune", "--to", str(total))[-1].startswith("left: 2 entries, ")
    assert command(capsys, "prune", "--to", str(total - 1))[-1].startswith("left: 1 entry, ")
    assert command(capsys, "prune", "--all")[-1] == "left: 0 entries, 0 bytes"
    assert keys(bucket) == ["team/memo-1/readme.txt"]  # other objects are not removed


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "another"}, "the secret key is wrong"),
        ({"TWOFOLD_CACHE": "s3://no-such-bucket/team"}, "no such bucket"),
        ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""}, "Unable to locate credentials"),
        ({"AWS_ENDPOINT_URL": "closed"}, "Could not connect"),
    ],
)
def test_an_unusable_bucket_costs_one_warning(names, message, bucket, monkeypatch, capsys):
    with socket.socket() as taken:  # bound, but not listening
        taken.bind(("127.0.0.1", 0))
        names = {
            key: f"http://127.0.0.1:{taken.getsockname()[1]}" if value == "closed" else value
            for key, value in names.items()
        }
        for name, value in names.items():
            monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name)
        for _ in range(2):
            assert cache.lookup(["k1"]) == {}
            put([("k1", IMAGE, b"one")])
        lines = capsys.readouterr().err.splitlines()
        address = os.environ["TWOFOLD_CACHE"]
        assert [line.split(" (")[0] for line in lines] == [
            f"cache: {address} cannot be read",
            f"cache: {address} cannot be written",
        ]
        assert message in lines[0] and SECRET not in "".join(lines)
        with pytest.raises(ParameterError, match=f"TWOFOLD_CACHE: {address} cannot be used: .*{message}"):
            cache.forget_image(IMAGE)


def test_a_user_who_may_only_list_computes_everything(bucket, monkeypatch, capsys):
    put([("k1", IMAGE, b"one")])
    anew()
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", LISTER)
    assert cache.lookup(["k1"]) == {}
    put([("k2", IMAGE, b"two")])
    assert capsys.readouterr().err.count("access denied") == 2


def test_a_stalling_server_costs_only_seconds(bucket, monkeypatch, capsys):
    monkeypatch.setattr(s3_client, "CONNECT_TIMEOUT", 0.3)
    monkeypatch.setattr(s3_client, "READ_TIMEOUT", 0.3)
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{deaf.getsockname()[1]}")
        begin = time.monotonic()
        assert cache.lookup(["k1"]) == {}
        assert cache.lookup(["k1"]) == {}
        assert time.monotonic() - begin < 20
    assert capsys.readouterr().err.count("Read timeout") == 1


def test_only_new_images_of_a_grown_data_set_are_decoded_and_the_result_equals_a_fresh_one(
    bucket, tmp_path, monkeypatch
):
    """Source and cache are both in S3, as on a cluster whose pods have no disk of their own."""
    calls = []
    for module, name in ((decode_cache, "decode"), (preprocessing, "prepare")):
        real = getattr(decoding, name)
        monkeypatch.setattr(module, name, lambda *given, real=real: calls.append(1) or real(*given))
    monkeypatch.setenv("TWOFOLD_WORKERS", "1")

    def run(name):
        anew()
        calls.clear()
        (tmp_path / name).mkdir()
        raw = make_raw("s3://weekly/parts", tmp_path / name / "raw")
        make_prepared(raw, tmp_path / name / "data", audit=dict.fromkeys(UNAUDITED, "quarantine"))
        return file_bytes(tmp_path / name)

    folder = make_folder(tmp_path / "images", per_class=30, size=40)
    fill(bucket, "weekly", folder, "parts/")
    run("before")
    assert len(calls) == 2 * 60
    for path in make_folder(tmp_path / "more", per_class=32, size=40).rglob("*.png"):
        key = f"parts/{path.relative_to(tmp_path / 'more').as_posix()}"
        bucket.put_object(Bucket="weekly", Key=key, Body=path.read_bytes())
    grown = run("grown")
    assert len(calls) == 2 * 4
    for pack in packs(bucket)[::2]:
        damage(bucket, pack)
    assert run("damaged") == grown
    assert 0 < len(calls) < 2 * 64
    monkeypatch.setenv("TWOFOLD_CACHE", str(tmp_path / "another"))
    assert run("fresh") == grown
