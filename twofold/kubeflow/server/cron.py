"""Parses the timing of a schedule: a cron expression with five fields, or an interval.

Returns what KFP's scheduler reads (robfig/cron: six fields, seconds first), and computes the next times.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from itertools import count, takewhile

from croniter import CroniterBadDateError, croniter

from twofold.core.errors import ParameterError

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
SHORTHANDS = {"@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *", "@weekly": "0 0 * * 0"}
SHORTHANDS |= {"@daily": "0 0 * * *", "@midnight": "0 0 * * *", "@hourly": "0 * * * *"}
UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 604800}


@dataclass(frozen=True)
class Bounds:
    """The values that a field may hold. Sunday is 0 and, as in every cron but KFP's, also 7."""

    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()
    sunday: int | None = None


FIELDS = (
    Bounds("minute", 0, 59),
    Bounds("hour", 0, 23),
    Bounds("day of month", 1, 31),
    Bounds("month", 1, 12, MONTHS),
    Bounds("day of week", 0, 6, DAYS, sunday=7),
)


@dataclass(frozen=True)
class Field:
    """One parsed field."""

    text: str
    values: frozenset[int]
    star: bool  # contains * or ?; if a day field does, both day fields must match, otherwise either is enough
    stepped_star: bool
    full: bool  # allows every value


@dataclass(frozen=True)
class Cron:
    """A cron expression that KFP's scheduler and other crons read alike."""

    text: str
    fields: tuple[Field, ...]

    @property
    def kfp(self) -> str:
        """Six fields, seconds first. KFP would take five fields for an expression without the day of week."""
        return " ".join(("0", *(field.text for field in self.fields)))

    def times(self, after: datetime, zone: tzinfo = UTC) -> Iterator[datetime]:
        """The next times, in UTC, for a scheduler whose clock shows `zone`; ends if there are no more."""
        texts = ["*" if field.full else ",".join(map(str, sorted(field.values))) for field in self.fields]
        dom, dow = self.fields[2], self.fields[4]
        if not dom.star and not dow.star and (dom.full or dow.full):
            # Either field is enough, and one of them always matches.
            texts[2] = texts[4] = "*"
        clock = croniter(" ".join(texts), after.astimezone(zone))
        while True:
            try:
                time = clock.get_next(datetime)
            except CroniterBadDateError:
                return
            # When the clock is put forward, croniter moves a skipped time to the next one; KFP's scheduler
            # (robfig/cron) leaves it out.
            if time.minute in self.fields[0].values and time.hour in self.fields[1].values:
                yield time.astimezone(UTC)


def parse_cron(text: str) -> Cron:
    """Parse five fields (minute, hour, day of month, month, day of week) or a word such as @daily.

    Raises:
        ParameterError: wrong number of fields, a value out of range, syntax that KFP's cron does not have, an
            expression that cron implementations read differently, or one that never matches.
    """
    words = SHORTHANDS.get(text.strip().lower(), text).split()
    if text.strip().startswith("@") and len(words) == 1:
        hint = "; use --every" if text.lower().startswith("@every") else ""
        raise ParameterError(f"cron {text!r}: unknown word; known are {', '.join(SHORTHANDS)}{hint}")
    if words and words[0].lower() == "@every":
        raise ParameterError(f"cron {text!r}: use --every {words[1] if len(words) > 1 else '24h'}")
    if len(words) != len(FIELDS):
        names = " ".join(bounds.name.replace(" ", "-") for bounds in FIELDS)
        six = f"; KFP's own format starts with seconds: leave out the {words[0]!r}" if len(words) == 6 else ""
        raise ParameterError(f"cron {text!r}: {len(words)} fields, expected five ({names}){six}")
    fields = tuple(_parse_field(word, bounds, text) for word, bounds in zip(words, FIELDS, strict=True))
    dom, dow = fields[2], fields[4]
    if not dom.full and not dow.full and (dom.stepped_star or dow.stepped_star):
        raise ParameterError(
            f"cron {text!r}: with */n in one day field and a restriction in the other, cron implementations disagree "
            "whether both must match or either; list the days (1-31/2 or 2,4,6), then either is enough"
        )
    cron = Cron(" ".join(words), fields)
    if not next(cron.times(datetime.now(UTC)), None):
        raise ParameterError(f"cron {text!r}: never matches; no such date exists")
    return cron


def _parse_field(text: str, bounds: Bounds, whole: str) -> Field:
    values: set[int] = set()
    star = stepped = sevens = False
    for item in text.split(","):
        is_star = item[:1] in ("*", "?")
        star |= is_star
        stepped |= is_star and "/" in item and not item.endswith("/1")
        # KFP refuses a 7, as a value and as a bound (4-7/2).
        sevens |= str(bounds.sunday) in item.partition("/")[0].split("-")
        values |= {0 if value == bounds.sunday else value for value in _parse_item(item, bounds, whole)}
    full = len(values) == bounds.high - bounds.low + 1
    if sevens:
        text = f"{bounds.low}-{bounds.high}" if full else ",".join(map(str, sorted(values)))
    return Field(text.lower(), frozenset(values), star, stepped, full)


def _parse_item(item: str, bounds: Bounds, whole: str) -> range:
    """Parse `*`, `5`, `1-5` or `mon-fri`, each with an optional `/step`; `5/15` counts from 5 to the end."""
    shape = re.fullmatch(r"(?:[*?]|(?P<low>\w+)(?:-(?P<high>\w+))?)(?:/(?P<step>\d+))?", item)
    if not shape:
        raise ParameterError(f"cron {whole!r}: {item!r} as {bounds.name} is not supported by KFP's cron")
    step = int(shape["step"] or 1)
    if not step:
        raise ParameterError(f"cron {whole!r}: {item!r} as {bounds.name} has a step of 0")
    if shape["low"] is None:
        return range(bounds.low, bounds.high + 1, step)
    low = high = _parse_value(shape["low"], bounds, whole)
    if shape["high"]:
        high = _parse_value(shape["high"], bounds, whole)
    elif shape["step"]:
        high = max(low, bounds.high)
    if low > high:
        hint = "; split a range that wraps around, such as fri-sat,sun-mon" if bounds.names else ""
        raise ParameterError(f"cron {whole!r}: {item!r} ends before it begins{hint}")
    return range(low, high + 1, step)


def _parse_value(text: str, bounds: Bounds, whole: str) -> int:
    if text.lower() in bounds.names:
        return bounds.low + bounds.names.index(text.lower())
    top = bounds.sunday or bounds.high
    if not re.fullmatch(r"[0-9]{1,4}", text) or not bounds.low <= int(text) <= top:
        names = f" or {bounds.names[0]} to {bounds.names[-1]}" if bounds.names else ""
        raise ParameterError(
            f"cron {whole!r}: {text!r} is not a {bounds.name}; allowed are {bounds.low} to {top}{names}, *, lists, "
            "ranges and steps"
        )
    return int(text)


def parse_interval(text: str) -> int:
    """Seconds of `30m`, `24h`, `7d`, `2w`; raises ParameterError for another format, or zero."""
    shape = re.fullmatch(r"([0-9]{1,5})([mhdw])", text.strip())
    if not shape or not int(shape[1]):
        raise ParameterError(f"{text!r}: write a number with m, h, d or w, such as 30m, 24h or 7d")
    return int(shape[1]) * UNITS[shape[2]]


def format_interval(seconds: int) -> str:
    """The interval in the largest unit that divides it: 86400 -> 1d."""
    unit = next(unit for unit in ("w", "d", "h", "m", "s") if seconds % UNITS.get(unit, 1) == 0)
    return f"{seconds // UNITS.get(unit, 1)}{unit}"


@dataclass(frozen=True)
class Timing:
    """When a schedule runs: by `cron` or `every` so many seconds, between `start` and `end` if given."""

    cron: Cron | None = None
    every: int | None = None
    start: datetime | None = None
    end: datetime | None = None

    def upcoming(self, now: datetime, zone: tzinfo, created: datetime | None = None) -> Iterator[datetime]:
        """The next times, in UTC.

        Args:
            zone: in which the server reads cron.
            created: when the schedule was created, if it exists.
        """
        if self.cron:
            times = self.cron.times(max(now, self.start or now), zone)
        else:
            # KFP counts from `start`, or from the creation without one; the first run comes one interval later.
            base, step = self.start or created or now, timedelta(seconds=self.every or 0)
            times = (base + turn * step for turn in count(max(1, (now - base) // step + 1)))
        return takewhile(lambda time: self.end is None or time <= self.end, times)

    def would_catch_up(self, now: datetime, zone: tzinfo) -> bool:
        """Whether a schedule created now would run at once: even with no_catchup, KFP runs the latest missed time."""
        if self.start is None:
            return False
        return next(self.upcoming(self.start, zone), now + timedelta(days=1)) <= now

    def __str__(self) -> str:
        when = f"cron {self.cron.text}" if self.cron else f"every {format_interval(self.every or 0)}"
        limits = [f", from {self.start:%Y-%m-%d %H:%M} UTC"] if self.start else []
        limits += [f", until {self.end:%Y-%m-%d %H:%M} UTC"] if self.end else []
        return when + "".join(limits)
