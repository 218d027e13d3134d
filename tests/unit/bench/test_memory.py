"""Memory of the machine, as the benchmarks have it at hand."""

from typing import Any

import pytest

from bench.harness import memory


def test_memory_is_had_at_hand_as_far_as_some_stays_free(monkeypatch):
    sizes = []
    run = memory.subprocess.run

    def counted(words: list[str], **named: Any) -> Any:
        sizes.append(int(words[-1]))
        return run(words, **named)

    monkeypatch.setattr(memory.subprocess, "run", counted)
    monkeypatch.setattr(memory, "SPARED", 0)
    memory.at_hand(3 * memory.MIB)
    assert sizes == [3 * memory.MIB]
    monkeypatch.setattr(memory, "SPARED", 2**60)  # more than is free: nothing is left to write to
    memory.at_hand(3 * memory.MIB)
    assert len(sizes) == 1


def test_memory_that_cannot_be_had_is_an_error(monkeypatch):
    monkeypatch.setattr(memory, "SPARED", 0)
    monkeypatch.setattr(memory, "TOUCH", "import sys; sys.exit(137)")
    with pytest.raises(SystemExit, match=r"3,145,728 bytes.* status 137"):
        memory.at_hand(3 * memory.MIB)
