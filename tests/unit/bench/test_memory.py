"""Free memory that the benchmarks write to in advance."""

from typing import Any

import pytest

from bench.harness import memory


def test_free_memory_is_touched_except_for_the_reserve(monkeypatch):
    sizes = []
    run = memory.subprocess.run

    def counted(words: list[str], **options: Any) -> Any:
        sizes.append(int(words[-1]))
        return run(words, **options)

    monkeypatch.setattr(memory.subprocess, "run", counted)
    monkeypatch.setattr(memory, "RESERVE", 0)
    memory.touch_free_memory(3 * memory.MIB)
    assert sizes == [3 * memory.MIB]
    monkeypatch.setattr(memory, "RESERVE", 2**60)  # more than is free, so nothing is written
    memory.touch_free_memory(3 * memory.MIB)
    assert len(sizes) == 1


def test_memory_that_is_not_available_is_an_error(monkeypatch):
    monkeypatch.setattr(memory, "RESERVE", 0)
    monkeypatch.setattr(memory, "TOUCH_SCRIPT", "import sys; sys.exit(137)")
    with pytest.raises(SystemExit, match=r"3,145,728 bytes.* status 137"):
        memory.touch_free_memory(3 * memory.MIB)
