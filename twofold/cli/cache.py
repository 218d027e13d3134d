"""What `twofold cache` says about the memo and takes out of it.

In: the memo, where TWOFOLD_CACHE has it. Out: lines to print. A memo that is not there is no error.
"""

from twofold.storage import cache


def show(verify: bool) -> str:
    """Where the memo lies, its limit, and what it holds, by kind.

    Args:
        verify: read every value too, and say how many fail their hash.

    Raises:
        ParameterError: TWOFOLD_CACHE_LIMIT is no size, or the memo cannot be read.
    """
    limit = f"limit: {cache.cache_limit():,} bytes ({cache.LIMIT})"
    with cache.required():
        kept = cache.backend()
        if not kept.exists():
            return f"{_missing()}\n{limit}"
        kinds = kept.kinds()
        lines = [f"memo: {kept.title()}, {kept.extent()}", limit]
        lines += [f"{kind}: {_amount(count, size)}" for kind, count, size in kinds]
        lines.append(f"in all: {_amount(*_held(kinds))}")
        if verify:
            damaged = kept.damaged()
            lines.append(f"damaged: {_amount(len(damaged), sum(damaged))}")
    return "\n".join(lines)


def prune(to: int | None = None, damaged: bool = False) -> str:
    """Remove entries and give their room back.

    Args:
        to: leave no more than this many bytes of values; those used longest ago go first.
        damaged: remove the values that fail their hash.

    Returns:
        What was removed, and what is left.

    Raises:
        ParameterError: the memo cannot be written.
    """
    with cache.required():
        kept = cache.backend()
        if not kept.exists():
            return _missing()
        before, extent = _held(kept.kinds()), kept.extent()
        if damaged:
            kept.drop_damaged()
        if to is not None:
            kept.trim(to)
        kept.compact()
        after = _held(kept.kinds())
        return "\n".join(
            [
                f"memo: {kept.title()}, {kept.extent()} (before: {extent})",
                f"removed: {_amount(before[0] - after[0], before[1] - after[1])}",
                f"left: {_amount(*after)}",
            ]
        )


def _missing() -> str:
    return f"memo: {cache.backend().title()} is not there; nothing has been kept yet"


def _held(kinds: list[tuple[str, int, int]]) -> tuple[int, int]:
    """Entries and bytes in all."""
    return sum(count for _, count, _ in kinds), sum(size for _, _, size in kinds)


def _amount(count: int, size: int) -> str:
    return f"{count:,} {'entry' if count == 1 else 'entries'}, {size:,} bytes"
