"""When a schedule runs: cron in five fields, or every so often.

In: what a person writes. Out: what KFP's scheduler reads (robfig/cron: six fields, seconds first), and the next times.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

from croniter import CroniterBadDateError, croniter

from twofold.core.errors import ParameterError

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
SHORTHANDS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
UNITS = {"m": 60, "h": 3600, "d": 86400, "w": 604800}


@dataclass(frozen=True)
class Bounds:
    """What a field may hold; Sunday is 0 and, as everywhere but in KFP, 7 too."""

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
    """One field: its values, and how it was written."""

    text: str
    values: frozenset[int]
    star: bool  # with * or ?, by which cron tells whether both fields of the day must fit, or either
    stepped_star: bool
    full: bool


@dataclass(frozen=True)
class Cron:
    """A cron expression that means the same here and there."""

    text: str
    fields: tuple[Field, ...]

    @property
    def kfp(self) -> str:
        """Six fields, with the second first. Five would be read as ones that lack the day of the week."""
        return " ".join(("0", *(field.text for field in self.fields)))

    def times(self, after: datetime, zone: tzinfo = UTC) -> Iterator[datetime]:
        """When it comes up next, in UTC, for a scheduler whose clock shows `zone`; ends if it comes up no more."""
        listed = ["*" if field.full else ",".join(map(str, sorted(field.values))) for field in self.fields]
        dom, dow = self.fields[2], self.fields[4]
        if not dom.star and not dow.star and (dom.full or dow.full):
            # Either must fit, and one always does.
            listed[2] = listed[4] = "*"
        clock = croniter(" ".join(listed), after.astimezone(zone))
        while True:
            try:
                time = clock.get_next(datetime)
            except CroniterBadDateError:
                return
            # Where the clock is put forward, croniter moves a time that is not there to the next that is; KFP's
            # scheduler (robfig/cron) leaves it out.
            if time.minute in self.fields[0].values and time.hour in self.fields[1].values:
                yield time.astimezone(UTC)


def parse(text: str) -> Cron:
    """Read five fields (minute, hour, day of month, month, day of week) or a word such as @daily.

    Raises:
        ParameterError: another number of fields, a value out of range, what KFP's cron does not have, an expression on
            which crons disagree, or one that never comes up.
    """
    words = SHORTHANDS.get(text.strip().lower(), text).split()
    if text.strip().startswith("@") and len(words) == 1:
        hint = "; use --every" if text.lower().startswith("@every") else ""
        raise ParameterError(f"cron {text!r}: known are {', '.join(SHORTHANDS)}{hint}")
    if words and words[0].lower() == "@every":
        raise ParameterError(f"cron {text!r}: use --every {words[1] if len(words) > 1 else '24h'}")
    if len(words) != len(FIELDS):
        names = " ".join(bounds.name.replace(" ", "-") for bounds in FIELDS)
        six = f"; KFP's own six start with the seconds: leave out the {words[0]!r}" if len(words) == 6 else ""
        raise ParameterError(f"cron {text!r}: {len(words)} fields, but it takes five ({names}){six}")
    fields = tuple(_field(word, bounds, text) for word, bounds in zip(words, FIELDS, strict=True))
    dom, dow = fields[2], fields[4]
    if not dom.full and not dow.full and (dom.stepped_star or dow.stepped_star):
        raise ParameterError(
            f"cron {text!r}: with */n in one field of the day and something in the other, crons disagree whether both "
            "or either must fit; write the days out (1-31/2 or 2,4,6), then either is enough"
        )
    cron = Cron(" ".join(words), fields)
    if not next(cron.times(datetime.now(UTC)), None):
        raise ParameterError(f"cron {text!r}: never comes up; there is no such date")
    return cron


def _field(text: str, bounds: Bounds, whole: str) -> Field:
    values: set[int] = set()
    star = stepped = sevens = False
    for part in text.split(","):
        found = _part(part, bounds, whole)
        star |= part[:1] in ("*", "?")
        stepped |= part[:1] in ("*", "?") and "/" in part and not part.endswith("/1")
        # As a value or as a bound (4-7/2), KFP refuses it.
        sevens |= str(bounds.sunday) in part.partition("/")[0].split("-")
        values |= {0 if value == bounds.sunday else value for value in found}
    full = len(values) == bounds.high - bounds.low + 1
    if sevens:
        text = f"{bounds.low}-{bounds.high}" if full else ",".join(map(str, sorted(values)))
    return Field(text.lower(), frozenset(values), star, stepped, full)


def _part(part: str, bounds: Bounds, whole: str) -> range:
    """`*`, `5`, `1-5`, `mon-fri`, each with `/step`; `5/15` counts from 5 to the end."""
    shape = re.fullmatch(r"(?:[*?]|(?P<low>\w+)(?:-(?P<high>\w+))?)(?:/(?P<step>\d+))?", part)
    if not shape:
        raise ParameterError(
            f"cron {whole!r}: {part!r} in the field for the {bounds.name} is nothing that KFP's cron has"
        )
    step = int(shape["step"] or 1)
    if not step:
        raise ParameterError(f"cron {whole!r}: {part!r}: a step of 0 in the field for the {bounds.name}")
    if shape["low"] is None:
        return range(bounds.low, bounds.high + 1, step)
    low = _value(shape["low"], bounds, whole)
    high = _value(shape["high"], bounds, whole) if shape["high"] else max(low, bounds.high) if shape["step"] else low
    if low > high:
        wrapped = "; write a range over the end as two, such as fri-sat,sun-mon" if bounds.names else ""
        raise ParameterError(f"cron {whole!r}: {part!r} ends before it begins{wrapped}")
    return range(low, high + 1, step)


def _value(text: str, bounds: Bounds, whole: str) -> int:
    top = bounds.sunday or bounds.high
    if text.lower() in bounds.names:
        return bounds.low + bounds.names.index(text.lower())
    if not re.fullmatch(r"[0-9]{1,4}", text) or not bounds.low <= int(text) <= top:
        names = f" or {bounds.names[0]} to {bounds.names[-1]}" if bounds.names else ""
        raise ParameterError(
            f"cron {whole!r}: {text!r} is no {bounds.name}; allowed are {bounds.low} to {top}{names}, *, lists, ranges "
            "and steps"
        )
    return int(text)


def parse_interval(text: str) -> int:
    """Seconds of `30m`, `24h`, `7d`, `2w`.

    Raises:
        ParameterError: written in another way, or no time at all.
    """
    shape = re.fullmatch(r"([0-9]{1,5})([mhdw])", text.strip())
    if not shape or not int(shape[1]):
        raise ParameterError(f"{text!r}: write a number with m, h, d or w, such as 30m, 24h or 7d")
    return int(shape[1]) * UNITS[shape[2]]


def format_interval(seconds: int) -> str:
    """The interval as one writes it: 86400 -> 1d."""
    unit = next(unit for unit in ("w", "d", "h", "m", "s") if seconds % UNITS.get(unit, 1) == 0)
    return f"{seconds // UNITS.get(unit, 1)}{unit}"


@dataclass(frozen=True)
class Timing:
    """When a schedule runs: `cron` or `every` seconds, between `start` and `end` if given."""

    cron: Cron | None = None
    every: int | None = None
    start: datetime | None = None
    end: datetime | None = None

    def upcoming(self, now: datetime, zone: tzinfo, made: datetime | None = None) -> Iterator[datetime]:
        """The next times, in UTC.

        Args:
            zone: the one in which the server reads cron.
            made: when the schedule was, if it has been.
        """
        if self.cron:
            times = self.cron.times(max(now, self.start or now), zone)
        else:
            times = self._periods(now, self.start or made or now)
        for time in times:
            if self.end is not None and time > self.end:
                return
            yield time

    def would_catch_up(self, now: datetime, zone: tzinfo) -> bool:
        """Whether a schedule made now runs at once: KFP, even with no_catchup, makes up for the latest time missed."""
        if self.start is None:
            return False
        return next(self.upcoming(self.start, zone), now + timedelta(days=1)) <= now

    def _periods(self, now: datetime, base: datetime) -> Iterator[datetime]:
        # KFP counts from the start (else from when it was made), and the first run comes one interval after it.
        step = timedelta(seconds=self.every or 0)
        turn = max(1, (now - base) // step + 1)
        while True:
            yield base + turn * step
            turn += 1

    def __str__(self) -> str:
        when = f"cron {self.cron.text}" if self.cron else f"every {format_interval(self.every or 0)}"
        limits = [f", from {self.start:%Y-%m-%d %H:%M} UTC"] if self.start else []
        limits += [f", until {self.end:%Y-%m-%d %H:%M} UTC"] if self.end else []
        return when + "".join(limits)
