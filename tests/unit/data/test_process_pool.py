"""Work in several processes: in order, bounded, and with an error that names the file if a worker dies."""

import multiprocessing
import os
import signal
import time
from functools import partial

import pytest

from twofold.core.errors import DataError, ParameterError
from twofold.data import process_pool
from twofold.data.process_pool import AHEAD, map_in_order, worker_count


def square(number):
    return number * number


def die(number):
    os._exit(1)


def refuse(number):
    raise DataError(f"number {number}")


@pytest.mark.parametrize("count", [1, 3])
def test_results_come_in_the_order_of_the_tasks(count):
    assert list(map_in_order(square, range(50), count)) == [n * n for n in range(50)]


def test_tasks_are_consumed_as_needed():
    taken = []

    def tasks():
        for number in range(100):
            taken.append(number)
            yield number

    results = map_in_order(square, tasks(), 2)
    next(results)
    assert len(taken) == 2 * AHEAD + 1
    results.close()


@pytest.mark.parametrize("count", [1, 2])
def test_an_error_of_a_worker_arrives(count):
    with pytest.raises(DataError, match="number 0"):
        list(map_in_order(refuse, range(5), count))


def test_a_worker_that_dies_ends_the_work():
    with pytest.raises(DataError, match="a worker process died"):
        list(map_in_order(die, range(5), 2))


def numbers(task):
    return [(f"number {number}", [number]) for number in task]


def die_of_seven(task):
    if 7 in task:
        os.kill(os.getpid(), signal.SIGKILL)
    if 8 in task:
        raise DataError("eight")
    return sum(task)


def test_the_file_that_kills_a_worker_is_named():
    tasks = [[1, 2, 3], [4, 5, 6], [7, 9, 10], [11, 12, 13], [8], [14]]
    with pytest.raises(DataError) as caught:
        list(map_in_order(die_of_seven, tasks, 2, numbers))
    title, *lines = str(caught.value).split("\n  ")
    assert "a worker process died" in title
    assert lines == ["number 7: its process was ended by signal 9 (Killed)"]


def hang_of_seven(task, mark):
    if not mark.exists():
        mark.touch()
        os._exit(1)
    if 7 in task:
        time.sleep(60)


def test_a_file_that_never_ends_is_named_too(tmp_path, monkeypatch):
    monkeypatch.setattr(process_pool, "ALONE", 0.5)
    work = partial(hang_of_seven, mark=tmp_path / "mark")
    with pytest.raises(DataError, match=r"\n  number 7: its process did not end in 0 seconds$"):
        list(map_in_order(work, [[5, 6], [7]], 2, numbers))


def die_once(task, mark):
    if not mark.exists():
        mark.touch()
        os._exit(1)


def test_if_every_file_can_be_read_alone_those_in_progress_are_named(tmp_path):
    work, tasks = partial(die_once, mark=tmp_path / "mark"), [[n, n + 1] for n in range(0, 60, 2)]
    expected = r"memory ran out.*in progress; each can be read alone:\n  number \d+\n  number \d+"
    with pytest.raises(DataError, match=expected) as caught:
        list(map_in_order(work, tasks, 2, numbers))
    lines = str(caught.value).split("\n  ")
    assert len(lines) <= 12  # of sixty files, those of the few tasks in progress


def test_the_number_of_workers_comes_from_the_environment(monkeypatch):
    monkeypatch.setenv("TWOFOLD_WORKERS", "7")
    assert worker_count() == 7
    monkeypatch.delenv("TWOFOLD_WORKERS")
    assert worker_count() == len(os.sched_getaffinity(0))
    for wrong in ("0", "-1", "two", "1.5", "²"):
        monkeypatch.setenv("TWOFOLD_WORKERS", wrong)
        with pytest.raises(ParameterError, match="TWOFOLD_WORKERS"):
            worker_count()


def process_id(task):
    return os.getpid()


def test_an_empty_task_runs_in_this_process_and_keeps_its_order():
    found = list(map_in_order(process_id, [[1], [], [2], []], 2))
    assert [pid == os.getpid() for pid in found] == [False, True, False, True]


def test_workers_are_forked_before_the_first_task_is_asked_for():
    seen = []

    def tasks():
        seen.append(len(multiprocessing.active_children()))
        yield [1]

    list(map_in_order(process_id, tasks(), 2))
    assert seen == [2]


def test_tasks_are_closed_before_files_are_tried_alone(tmp_path):
    closed = []

    def tasks():
        try:
            yield from ([n] for n in range(100))
        finally:
            closed.append(True)

    def pieces(task):
        assert closed == [True]
        return numbers(task)

    with pytest.raises(DataError):
        list(map_in_order(die_of_seven, tasks(), 2, pieces))
