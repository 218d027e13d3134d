import random
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

import pytest

from twofold.core.errors import ParameterError
from twofold.kubeflow.server.cron import Timing, format_interval, parse_cron, parse_interval

START = datetime(2026, 1, 31, 12, 34, 56, tzinfo=UTC)
BOUNDS = ((0, 59), (0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
MONTHS = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
DAYS = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]
NAMES = {name: number for number, name in enumerate(MONTHS, 1)} | {name: number for number, name in enumerate(DAYS)}


def robfig(text):
    """Parse six fields like the server (github.com/robfig/cron v1, Parse); a set and `star` per field."""
    parsed = []
    for field, (low, high) in zip(text.split(), BOUNDS, strict=True):
        values, star = set(), False
        for part in field.split(","):
            span, _, step = part.partition("/")
            first, dash, last = span.partition("-")
            if first in ("*", "?"):
                begin, end, star = low, high, True
            else:
                begin = NAMES.get(first, first)
                end = NAMES.get(last, last) if dash else high if step else begin
            begin, end = int(begin), int(end)
            assert low <= begin <= end <= high, f"the server refuses {part} in {text}"
            values |= set(range(begin, end + 1, int(step or 1)))
        parsed.append((values, star))
    return parsed


def times_by_robfig(text, after, count, zone=UTC):
    """The next times, by checking every minute."""
    second, minute, hour, dom, month, dow = robfig(text)
    assert second == ({0}, False)
    time, found = after.replace(second=0, microsecond=0) + timedelta(minutes=1), []
    while len(found) < count:
        local = time.astimezone(zone)
        in_dom, in_dow = local.day in dom[0], local.isoweekday() % 7 in dow[0]
        day = in_dom and in_dow if dom[1] or dow[1] else in_dom or in_dow
        if local.month not in month[0] or not day:
            time = (local.replace(hour=0, minute=0) + timedelta(days=1)).astimezone(UTC)
        elif local.hour in hour[0] and local.minute in minute[0]:
            found.append(time)
            time += timedelta(minutes=1)
        else:
            time += timedelta(minutes=1)
    return found


@pytest.mark.parametrize(
    ("text", "kfp"),
    [
        ("0 3 * * 1-5", "0 0 3 * * 1-5"),
        ("*/15 8-18/2 * * *", "0 */15 8-18/2 * * *"),
        ("5/20 * ? * MON", "0 5/20 * ? * mon"),
        ("0 0 1,15 JAN,jul *", "0 0 0 1,15 jan,jul *"),
        ("0 0 * * 7", "0 0 0 * * 0"),
        ("0 0 * * 5-7", "0 0 0 * * 0,5,6"),
        ("0 0 * * 4-7/2", "0 0 0 * * 4,6"),
        ("0 0 1 * 0-7", "0 0 0 1 * 0-6"),
        ("@daily", "0 0 0 * * *"),
        ("@Weekly", "0 0 0 * * 0"),
        ("@hourly", "0 0 * * * *"),
    ],
)
def test_five_fields_become_kfps_six(text, kfp):
    assert parse_cron(text).kfp == kfp
    robfig(kfp)


@pytest.mark.parametrize(
    "text",
    [
        "0 3 * * 1-5",
        "0 0 13 * 5",
        "0 0 1-31 * 1",
        "0 0 1 * 0-7",
        "30 4 ? 2 *",
        "0 0 */2 * *",
        "7 5 * * sun",
        "0 0 29 2 *",
    ],
)
def test_the_next_times_are_the_servers(text):
    cron = parse_cron(text)
    assert list(islice(cron.times(START), 4)) == times_by_robfig(cron.kfp, START, 4)


def test_the_next_times_are_the_servers_for_many_expressions():
    draw = random.Random(7)  # noqa: S311

    def field(low, high):
        first, second = sorted(draw.sample(range(low, high + 1), 2))
        span = f"{first}-{second}"
        return draw.choice(["*", "*", str(first), span, f"{first},{second}", f"{span}/2", f"{first}/3"])

    for _ in range(60):
        cron = parse_cron(" ".join([str(draw.randrange(60)), field(0, 23), field(1, 28), field(1, 12), field(0, 7)]))
        assert list(islice(cron.times(START), 3)) == times_by_robfig(cron.kfp, START, 3), cron.text


def test_times_follow_the_servers_time_zone():
    times = islice(parse_cron("0 3 28-30 3 *").times(START, ZoneInfo("Europe/Berlin")), 3)
    assert [f"{time:%d %H:%M}" for time in times] == ["28 02:00", "29 01:00", "30 01:00"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0 0 3 * * 1", "leave out the '0'"),
        ("0 3 * *", "4 fields, expected five"),
        ("", "0 fields"),
        ("@every 1h", "use --every 1h"),
        ("@reboot", "known are @yearly"),
        ("60 * * * *", "'60' is not a minute; allowed are 0 to 59"),
        ("0 0 0 * *", "'0' is not a day of month"),
        ("0 0 * * 8", "'8' is not a day of week; allowed are 0 to 7 or sun to sat"),
        ("0 0 * foo *", "'foo' is not a month"),
        ("0 0 L * *", "'L' is not a day of month"),
        ("0 0 * * 1#2", "is not supported by KFP's cron"),
        ("0 0 15W * *", "'15W' is not a day of month"),
        ("0 0 * * fri-mon", "ends before it begins"),
        ("*/0 * * * *", "a step of 0"),
        ("0 0 */2 * 1", "cron implementations disagree"),
        ("0 0 1 * */2", "cron implementations disagree"),
        ("0 0 30 2 *", "never matches"),
    ],
)
def test_what_the_server_would_refuse_or_misread_is_refused(text, words):
    with pytest.raises(ParameterError) as caught:
        parse_cron(text)
    assert words in str(caught.value)
    assert f"cron {text!r}" in str(caught.value)


@pytest.mark.parametrize(("text", "seconds"), [("30m", 1800), ("24h", 86400), ("7d", 604800), ("2w", 1209600)])
def test_an_interval_is_read(text, seconds):
    assert parse_interval(text) == seconds


@pytest.mark.parametrize("text", ["0h", "5", "h", "1h30m", "-1h", "1.5h", "30s", "1y"])
def test_an_interval_in_another_format_is_refused(text):
    with pytest.raises(ParameterError, match="30m, 24h or 7d"):
        parse_interval(text)


@pytest.mark.parametrize(("seconds", "text"), [(5400, "90m"), (86400, "1d"), (90, "90s"), (1209600, "2w")])
def test_an_interval_is_written_in_its_largest_unit(seconds, text):
    assert format_interval(seconds) == text


def upcoming(timing, now=START, **more):
    return [f"{time:%d %H:%M}" for time in islice(timing.upcoming(now, UTC, **more), 3)]


def test_every_counts_from_its_start_or_from_its_creation():
    assert upcoming(Timing(every=3600)) == ["31 13:34", "31 14:34", "31 15:34"]
    assert upcoming(Timing(every=3600), created=START - timedelta(minutes=90)) == ["31 13:04", "31 14:04", "31 15:04"]
    assert upcoming(Timing(every=86400, start=START + timedelta(days=2))) == ["03 12:34", "04 12:34", "05 12:34"]


def test_nothing_comes_after_the_end_or_before_the_start():
    end = START + timedelta(hours=26)
    assert upcoming(Timing(every=43200, end=end)) == ["01 00:34", "01 12:34"]
    assert upcoming(Timing(cron=parse_cron("0 3 * * *"), end=end)) == ["01 03:00"]
    assert upcoming(Timing(cron=parse_cron("0 3 * * *"), start=end)) == ["02 03:00", "03 03:00", "04 03:00"]


@pytest.mark.parametrize(
    "text", ["30 2 * * *", "30 2,3 * * *", "*/30 2 * * *", "0 * * * *", "0 2 * * *", "30 0-3 * * 0"]
)
@pytest.mark.parametrize("after", ["2027-03-27T12:00+00:00", "2027-10-30T12:00+00:00"])
def test_when_the_clock_changes_a_skipped_time_is_left_out_and_a_repeated_one_runs_twice(text, after):
    berlin, begin = ZoneInfo("Europe/Berlin"), datetime.fromisoformat(after)
    cron = parse_cron(text)
    expected, time = [], begin
    while len(expected) < 6:  # check every minute
        time += timedelta(minutes=1)
        local = time.astimezone(berlin)
        values = (local.minute, local.hour, local.day, local.month, local.isoweekday() % 7)
        if all(value in field.values for value, field in zip(values, cron.fields, strict=True)):
            expected.append(time)
    assert list(islice(cron.times(begin, berlin), 6)) == expected
