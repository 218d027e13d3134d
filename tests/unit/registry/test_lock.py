"""The lock on a real MLflow store: one holder at a time, takeover after the lease only, and fencing of late holders."""

import os
import signal
import threading
import time
from multiprocessing import get_context

import pytest

from twofold.core.errors import RegistryError
from twofold.registry import lock
from twofold.registry.lock import locked
from twofold.tracking import registry_client
from twofold.tracking import store as tracking

FORK = get_context("fork")


@pytest.fixture
def store(mlflow_store, monkeypatch):
    for name, seconds in (("LEASE", 1.0), ("HEARTBEAT", 0.1), ("MIN_PAUSE", 0.01), ("MAX_PAUSE", 0.05)):
        monkeypatch.setattr(lock, name, seconds)
    return tracking.connect()


def names(store):
    return sorted(model.name for model in registry_client.models_named(store, lock.PREFIX))


def abandon_lock(store, model="corner", number=1):
    """Make a lock whose holder was killed."""
    tags = {lock.KIND: "lock", lock.TOKEN: "gone", lock.HOLDER: "bob@there, process 7", lock.HEARTBEAT_TAG: "3"}
    assert registry_client.create_unique(store, f"{lock.PREFIX}{model}.{number}", tags)


def test_a_lock_is_a_registered_model_that_names_its_kind_and_holder(store):
    with locked(store, "corner") as held:
        found = registry_client.registered(store, "twofold.lock.corner.1")
        assert (found.tags[lock.KIND], found.tags[lock.TOKEN]) == ("lock", held.token)
        assert found.tags[lock.HOLDER].endswith(f", process {os.getpid()}")
        assert lock.RELEASED not in found.tags
        held.check()
    assert lock.RELEASED in registry_client.registered(store, "twofold.lock.corner.1").tags


def test_fencing_numbers_only_grow_and_one_name_stays(store):
    fences = []
    for above in (0, 0, 7, 3):
        with locked(store, "corner", above=above) as held:
            fences.append(held.fence)
            assert names(store) == [f"twofold.lock.corner.{held.fence}"]
    assert fences == [1, 2, 8, 9]


def test_a_released_lock_is_acquired_at_once_and_locks_on_other_models_do_not_count(store):
    abandon_lock(store, model="corners")
    abandon_lock(store, model="corner.2")
    with locked(store, "corner"):
        pass
    begin = time.monotonic()
    with locked(store, "corner") as held:
        assert held.fence == 2
    assert time.monotonic() - begin < lock.LEASE


def test_the_lock_of_a_killed_holder_is_taken_over_after_the_lease_and_not_before(store):
    abandon_lock(store)
    begin = time.monotonic()
    with locked(store, "corner") as held:
        assert time.monotonic() - begin > lock.LEASE
        assert held.fence == 2
        assert names(store) == ["twofold.lock.corner.2"]


def test_heartbeats_keep_a_lock_beyond_the_lease(store, monkeypatch):
    monkeypatch.setattr(lock, "LEASE", 4.0)  # a busy machine may not let a thread run for a second
    order = []

    def wait():
        with locked(store, "corner"):
            order.append("taken")

    with locked(store, "corner") as held:
        waiter = threading.Thread(target=wait)
        waiter.start()
        time.sleep(1.5 * lock.LEASE)
        held.check()
        order.append("released")
    waiter.join()
    assert order == ["released", "taken"]


def test_a_holder_without_heartbeats_finds_that_its_lock_was_taken_over(store, monkeypatch):
    monkeypatch.setattr(lock, "HEARTBEAT", 60)
    with locked(store, "corner") as held, locked(store, "corner") as other:
        assert (held.fence, other.fence) == (1, 2)
        other.check()
        with pytest.raises(RegistryError, match=r"taken over by .*, process .* whether its change counts"):
            held.check()


def test_a_waiter_gives_up_and_names_the_holder(store, monkeypatch):
    monkeypatch.setattr(lock, "PATIENCE", 0.3)
    with (
        locked(store, "corner"),
        pytest.raises(RegistryError, match=f"held now by .*process {os.getpid()}"),
        locked(store, "corner"),
    ):
        raise AssertionError("two holders")
    assert names(store) == ["twofold.lock.corner.1"]


def test_a_waiter_says_so_again_and_again(store, monkeypatch, capsys):
    monkeypatch.setattr(lock, "EVERY", 0.1)
    abandon_lock(store)
    with locked(store, "corner"):
        pass
    assert capsys.readouterr().err.count("waiting for the lock on 'corner', held by bob@there, process 7") >= 3


def test_a_lock_that_cannot_be_given_back_is_left_to_its_lease(store, monkeypatch, capsys):
    monkeypatch.setattr(lock, "RELEASE", 0.2)
    back, write = threading.Event(), registry_client.tag_model

    def hang(store, name, key, value):
        if key == lock.HEARTBEAT_TAG:
            back.wait(60)
        write(store, name, key, value)

    monkeypatch.setattr(registry_client, "tag_model", hang)
    with pytest.raises(ZeroDivisionError), locked(store, "corner"):
        time.sleep(2 * lock.HEARTBEAT)
        begin = time.monotonic()
        raise ZeroDivisionError
    assert time.monotonic() - begin < 10
    assert "could not be released (the last heartbeat has no answer); it expires after 1 s" in capsys.readouterr().err
    with locked(store, "corner") as held:
        assert held.fence == 2
        back.set()


@pytest.mark.parametrize("own", [None, "3"])
def test_a_lock_is_given_back_without_patience_unless_the_user_has_set_it(store, monkeypatch, own):
    variables = ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT")
    for name in variables:
        monkeypatch.delenv(name, raising=False)
        if own:
            monkeypatch.setenv(name, own)
    found, write = [], registry_client.tag_model

    def note(store, name, key, value):
        found.append((key, *map(os.environ.get, variables)))
        write(store, name, key, value)

    monkeypatch.setattr(registry_client, "tag_model", note)
    with locked(store, "corner") as held:
        registry_client.tag_model(held.store, held.name, "work", "done")
    assert [each for each in found if each[0] != lock.HEARTBEAT_TAG] == [
        ("work", own, own),
        (lock.RELEASED, own or "1", own or "10"),
    ]
    assert tuple(map(os.environ.get, variables)) == (own, own)


def test_the_lock_is_released_when_the_work_fails(store):
    with pytest.raises(ZeroDivisionError), locked(store, "corner"):
        raise ZeroDivisionError
    assert lock.RELEASED in registry_client.registered(store, "twofold.lock.corner.1").tags


def increment(address, path, turns):
    """Increment a number in a file, with a pause between read and write."""
    lock.MIN_PAUSE, lock.MAX_PAUSE = 0.01, 0.05
    store = tracking.MlflowStore(tracking._client(address), address, None)
    for _ in range(turns):
        with locked(store, "corner"):
            number = int(path.read_text())
            time.sleep(0.01)
            path.write_text(str(number + 1))


def hold(address, ready):
    store = tracking.MlflowStore(tracking._client(address), address, None)
    with locked(store, "corner"):
        ready.set()
        time.sleep(600)


def test_processes_hold_the_lock_one_after_the_other(store, tmp_path):
    path = tmp_path / "number"
    path.write_text("0")
    workers = [FORK.Process(target=increment, args=(store.uri, path, 5)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert ([worker.exitcode for worker in workers], path.read_text()) == ([0] * 4, "20")
    (name,) = names(store)
    assert int(name.rpartition(".")[2]) >= 20


def test_the_lock_of_a_killed_process_is_taken_over(store):
    ready = FORK.Event()
    holder = FORK.Process(target=hold, args=(store.uri, ready))
    holder.start()
    assert ready.wait(60)
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    with locked(store, "corner") as held:
        assert held.fence == 2
