import sys

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


def test_on_a_terminal_progress_is_a_bar(monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert list(progress.track(range(3), "features", total=6, per_item=2)) == [0, 1, 2]
    assert "features: 100%" in capsys.readouterr().err
