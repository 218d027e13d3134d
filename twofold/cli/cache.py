"""`twofold cache`: show what the cache holds, and remove entries.

Reads the cache at TWOFOLD_CACHE. Returns what to print. A cache that does not exist is not an error.
"""

from twofold.cli.output import Result
from twofold.storage import cache


def show(verify: bool) -> Result:
    """The cache's address, its limit, and its contents by kind.

    Args:
        verify: also read every value, and count those that do not match their hash.

    Raises:
        ParameterError: TWOFOLD_CACHE_LIMIT is not a size, or the cache cannot be read.
    """
    limit = f"limit: {cache.cache_limit():,} bytes ({cache.LIMIT})"
    with cache.required():
        backend = cache.backend()
        if not backend.exists():
            return _missing(f"\n{limit}")
        kinds = backend.kinds()
        lines = [f"cache: {backend.title()}, {backend.extent()}", limit]
        lines += [f"{kind}: {_format(count, size)}" for kind, count, size in kinds]
        lines.append(f"total: {_format(*_total(kinds))}")
        values = {"cache": backend.title(), "limit": cache.cache_limit()}
        values["kinds"] = {kind: {"entries": count, "bytes": size} for kind, count, size in kinds}
        if verify:
            damaged = backend.damaged()
            lines.append(f"damaged: {_format(len(damaged), sum(damaged))}")
            values["damaged"] = {"entries": len(damaged), "bytes": sum(damaged)}
    return Result("\n".join(lines), values)


def prune(to: int | None = None, damaged: bool = False) -> Result:
    """Remove entries, return their space to the disk, and say what was removed and what is left.

    Args:
        to: keep at most this many bytes of values; the least recently used ones are removed.
        damaged: remove the values that do not match their hash.

    Raises:
        ParameterError: the cache cannot be written.
    """
    with cache.required():
        backend = cache.backend()
        if not backend.exists():
            return _missing()
        (count, size), extent = _total(backend.kinds()), backend.extent()
        if damaged:
            backend.drop_damaged()
        if to is not None:
            backend.trim(to)
        backend.compact()
        count_left, size_left = _total(backend.kinds())
        lines = [
            f"cache: {backend.title()}, {backend.extent()} (before: {extent})",
            f"removed: {_format(count - count_left, size - size_left)}",
            f"left: {_format(count_left, size_left)}",
        ]
    return Result("\n".join(lines), {"removed": count - count_left, "left": count_left})


def _missing(more: str = "") -> Result:
    title = cache.backend().title()
    return Result(f"cache: {title} does not exist; nothing has been stored yet{more}", {"cache": None})


def _total(kinds: list[tuple[str, int, int]]) -> tuple[int, int]:
    """The number of entries and bytes."""
    return sum(count for _, count, _ in kinds), sum(size for _, _, size in kinds)


def _format(count: int, size: int) -> str:
    return f"{count:,} {'entry' if count == 1 else 'entries'}, {size:,} bytes"
