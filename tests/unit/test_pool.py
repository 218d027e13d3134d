"""Work in several processes: in order, bounded, and loud when a worker dies."""

import os

import pytest

from twofold.errors import DataError, ParameterError
from twofold.pool import AHEAD, ordered, workers


def square(number):
    return number * number


def die(number):
    os._exit(1)


def refuse(number):
    raise DataError(f"number {number}")


@pytest.mark.parametrize("count", [1, 3])
def test_results_come_in_the_order_of_the_tasks(count):
    assert list(ordered(square, range(50), count)) == [n * n for n in range(50)]


def test_tasks_are_taken_as_they_are_needed():
    taken = []

    def tasks():
        for number in range(100):
            taken.append(number)
            yield number

    results = ordered(square, tasks(), 2)
    next(results)
    assert len(taken) == 2 * AHEAD + 1
    results.close()


@pytest.mark.parametrize("count", [1, 2])
def test_an_error_of_a_worker_arrives(count):
    with pytest.raises(DataError, match="number 0"):
        list(ordered(refuse, range(5), count))


def test_a_worker_that_dies_ends_the_work():
    with pytest.raises(DataError, match="a worker process died"):
        list(ordered(die, range(5), 2))


def test_the_number_of_workers_is_environment(monkeypatch):
    monkeypatch.setenv("TWOFOLD_WORKERS", "7")
    assert workers() == 7
    monkeypatch.delenv("TWOFOLD_WORKERS")
    assert workers() == len(os.sched_getaffinity(0))
    for wrong in ("0", "-1", "two", "1.5", "²"):
        monkeypatch.setenv("TWOFOLD_WORKERS", wrong)
        with pytest.raises(ParameterError, match="TWOFOLD_WORKERS"):
            workers()
