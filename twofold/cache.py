"""What `twofold cache` says about the memo and takes out of it.

In: the memo's file, where TWOFOLD_CACHE has it. Out: lines to print. A memo that is not there is no error.
"""

import hashlib
import sqlite3

from twofold import memo


def show(verify: bool) -> str:
    """Where the memo lies, its limit, and what it holds, by kind.

    Args:
        verify: read every value too, and say how many fail their hash.

    Raises:
        ParameterError: TWOFOLD_CACHE_LIMIT is no size.
    """
    limit = f"limit: {memo.limit():,} bytes ({memo.LIMIT})"
    if not memo.database().exists():
        return f"{_missing()}\n{limit}"
    lines = [f"memo: {memo.database()}, a file of {_file_size():,} bytes", limit]
    kinds = memo.change(_kinds)
    lines += [f"{kind}: {_amount(count, size)}" for kind, count, size in kinds]
    lines.append(f"in all: {_amount(*memo.change(_held))}")
    if verify:
        damaged = memo.change(_damaged)
        lines.append(f"damaged: {_amount(len(damaged), sum(size for _, size in damaged))}")
    return "\n".join(lines)


def prune(to: int | None = None, damaged: bool = False) -> str:
    """Remove entries and give their room back to the disk.

    Args:
        to: leave no more than this many bytes of values; those used longest ago go first.
        damaged: remove the values that fail their hash.

    Returns:
        What was removed, and what is left.
    """
    if not memo.database().exists():
        return _missing()
    before, file_before = memo.change(_held), _file_size()
    if damaged:
        failing = memo.change(_damaged)
        memo.change(lambda file: file.executemany("DELETE FROM entries WHERE key = ?", [(key,) for key, _ in failing]))
    if to is not None:
        memo.change(lambda file: memo.trim(file, to))
    memo.compact()
    after = memo.change(_held)
    return "\n".join(
        [
            f"memo: {memo.database()}, a file of {_file_size():,} bytes (before: {file_before:,})",
            f"removed: {_amount(before[0] - after[0], before[1] - after[1])}",
            f"left: {_amount(*after)}",
        ]
    )


def _missing() -> str:
    return f"memo: {memo.database()} is not there; nothing has been kept yet"


def _file_size() -> int:
    return memo.database().stat().st_size


def _amount(count: int, size: int) -> str:
    return f"{count:,} {'entry' if count == 1 else 'entries'}, {size:,} bytes"


def _kinds(file: sqlite3.Connection) -> list[tuple[str, int, int]]:
    """(kind, entries, bytes), by name."""
    return file.execute("SELECT kind, count(*), sum(size) FROM uses GROUP BY kind ORDER BY kind").fetchall()


def _held(file: sqlite3.Connection) -> tuple[int, int]:
    """Entries and bytes."""
    count, size = file.execute("SELECT count(*), coalesce(sum(size), 0) FROM uses").fetchone()
    return count, size


def _damaged(file: sqlite3.Connection) -> list[tuple[str, int]]:
    """(key, bytes) of the entries that fail their hash."""
    rows = file.execute("SELECT key, sha256, value FROM entries")
    return [(key, len(value)) for key, sha256, value in rows if hashlib.sha256(value).digest() != sha256]
