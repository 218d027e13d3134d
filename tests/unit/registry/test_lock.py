"""The lock on a real MLflow store: one holder at a time, taken over after expiry only, and a late holder is told."""

import multiprocessing
import os
import signal
import threading
import time

import pytest

from twofold.core.errors import RegistryError
from twofold.registry import lock
from twofold.registry.lock import locked
from twofold.tracking import registry_client
from twofold.tracking import store as tracking


@pytest.fixture
def store(mlflow_store, monkeypatch):
    monkeypatch.setattr(lock, "LEASE", 1.0)
    monkeypatch.setattr(lock, "BEAT", 0.1)
    monkeypatch.setattr(lock, "SHORTEST", 0.01)
    monkeypatch.setattr(lock, "LONGEST", 0.05)
    return tracking.connect()


def names(store):
    return sorted(model.name for model in registry_client.models_named(store, lock.PREFIX))


def abandoned(store, model="corner", number=1):
    """A lock whose holder was killed."""
    tags = {lock.KIND: "lock", lock.TOKEN: "gone", lock.HOLDER: "bob@there, process 7", lock.BEAT_TAG: "3"}
    assert registry_client.create_unique(store, f"{lock.PREFIX}{model}.{number}", tags)


def test_it_is_a_registered_model_that_says_what_it_is_and_whose(store):
    with locked(store, "corner") as held:
        found = registry_client.registered(store, "twofold.lock.corner.1")
        assert (found.tags[lock.KIND], found.tags[lock.TOKEN]) == ("lock", held.token)
        assert found.tags[lock.HOLDER].endswith(f", process {os.getpid()}")
        assert lock.RELEASED not in found.tags
        held.check()
    assert lock.RELEASED in registry_client.registered(store, "twofold.lock.corner.1").tags


def test_numbers_only_grow_and_one_name_stays(store):
    fences = []
    for above in (0, 0, 7, 3):
        with locked(store, "corner", above=above) as held:
            fences.append(held.fence)
            assert names(store) == [f"twofold.lock.corner.{held.fence}"]
    assert fences == [1, 2, 8, 9]


def test_a_released_lock_is_taken_at_once_and_one_of_another_model_is_none(store):
    abandoned(store, model="corners")
    abandoned(store, model="corner.2")
    with locked(store, "corner"):
        pass
    begin = time.monotonic()
    with locked(store, "corner") as held:
        assert held.fence == 2
    assert time.monotonic() - begin < lock.LEASE


def test_a_killed_holders_lock_is_taken_over_after_the_lease_and_not_before(store):
    abandoned(store)
    begin = time.monotonic()
    with locked(store, "corner") as held:
        assert time.monotonic() - begin > lock.LEASE
        assert held.fence == 2
        assert names(store) == ["twofold.lock.corner.2"]


def test_a_holder_that_lives_keeps_it_longer_than_the_lease(store, monkeypatch):
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


def test_a_holder_that_was_silent_too_long_learns_that_it_was_taken_over(store, monkeypatch):
    monkeypatch.setattr(lock, "BEAT", 60)
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
        raise AssertionError("two hold it")
    assert names(store) == ["twofold.lock.corner.1"]


def test_it_is_given_back_when_the_work_fails(store):
    with pytest.raises(ZeroDivisionError), locked(store, "corner"):
        raise ZeroDivisionError
    assert lock.RELEASED in registry_client.registered(store, "twofold.lock.corner.1").tags


def count(address, path, turns):
    """Raises a number in a file, reading and writing it apart."""
    lock.SHORTEST, lock.LONGEST = 0.01, 0.05
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


@pytest.fixture
def forking():
    return multiprocessing.get_context("fork")


def test_processes_hold_it_one_after_the_other(store, forking, tmp_path):
    path = tmp_path / "number"
    path.write_text("0")
    workers = [forking.Process(target=count, args=(store.uri, path, 5)) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert ([worker.exitcode for worker in workers], path.read_text()) == ([0] * 4, "20")
    (name,) = names(store)
    assert int(name.rpartition(".")[2]) >= 20


def test_a_process_killed_while_it_holds_it_is_recovered_from(store, forking):
    ready = forking.Event()
    holder = forking.Process(target=hold, args=(store.uri, ready))
    holder.start()
    assert ready.wait(60)
    os.kill(holder.pid, signal.SIGKILL)
    holder.join()
    with locked(store, "corner") as held:
        assert held.fence == 2
