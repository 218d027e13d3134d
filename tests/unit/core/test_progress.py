import sys
import threading
import time

from twofold.cli.run import _PROGRESS
from twofold.core import progress


def test_without_a_terminal_progress_is_plain_lines(monkeypatch, capsys):
    clock = iter(range(0, 1000, 6))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    assert list(progress.track([1, 2, 3, 4], "features", total=7, per_item=2)) == [1, 2, 3, 4]
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "features: 4 of 7 images (0/s)",
        "features: 7 of 7 images (0/s)",
        "features: 7 images in 30 s",
    ]


def test_short_work_prints_nothing(capsys):
    assert list(progress.track(range(3), "features", total=3)) == [0, 1, 2]
    assert capsys.readouterr().err == ""


def test_twofold_run_asks_for_lines_more_often(monkeypatch, capsys):
    monkeypatch.setenv("TWOFOLD_PROGRESS_SECONDS", "0")
    assert list(progress.track(range(2), "features", total=20, per_item=10)) == [0, 1]
    lines = capsys.readouterr().err.splitlines()
    assert [line.partition(" (")[0] for line in lines] == ["features: 10 of 20 images", "features: 20 of 20 images"]
    assert all(_PROGRESS.fullmatch(line) for line in lines)


def test_on_a_terminal_progress_is_a_bar(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert list(progress.track(range(3), "features", total=6, per_item=2)) == [0, 1, 2]
    assert "features: 100%" in capsys.readouterr().err


def test_whoever_waits_is_told_so_every_few_seconds_and_only_while_it_lasts(monkeypatch, capsys):
    monkeypatch.setattr(progress, "EVERY", 0.05)
    for _ in range(2):
        with progress.waiting("a server"):
            time.sleep(0.2)
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) >= 2
        assert set(lines) == {"still waiting for a server (0 s)"}
    with progress.waiting("a server"):
        pass
    thread = threading.Thread(target=progress.waiting("a heartbeat")(time.sleep), args=(0.2,))
    thread.start()
    thread.join()
    assert capsys.readouterr().err == ""
