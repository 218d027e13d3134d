from twofold.orchestration.preflight_findings import (
    MARK,
    Finding,
    failed,
    failure,
    from_log,
    in_log,
    lines,
    markdown,
    not_checked,
    ok,
    warning,
)

ALL = [
    ok("server", "2.17.0"),
    warning("image", "a tag", "name the digest"),
    failure("secret", "not there", "make it"),
    not_checked("GPU", "from a laptop", "--in-cluster"),
]


def test_each_finding_is_a_line_with_its_remedy_below_and_the_counts_at_the_end():
    assert lines(ALL) == [
        "ok                     server  2.17.0",
        "warning                image   a tag",
        "                               -> name the digest",
        "failure                secret  not there",
        "                               -> make it",
        "not checked from here  GPU     from a laptop",
        "                               -> --in-cluster",
        "1 ok, 1 warning, 1 failure, 1 not checked from here",
    ]


def test_only_a_failure_fails():
    assert failed(ALL)
    assert not failed([each for each in ALL if each.level != "failure"])
    assert not failed([])


def test_findings_are_read_back_from_a_log_and_nothing_else():
    odd = Finding("ünïcode | pipe", "warning", 'two\nlines and "quotes"', "")
    log = "\n".join(
        [
            "I1122 22:00:00 launcher.go:100] starting",
            *(f"time=2026-01-01 {in_log(each)}" for each in [*ALL, odd]),
            MARK + '{"check": "cut sho',
            MARK + '{"check": "x", "level": "splendid", "seen": "", "remedy": ""}',
            MARK + '{"check": "x", "level": "ok"}',
            MARK + "[1]",
        ]
    )
    assert from_log(log) == [*ALL, odd]
    assert from_log("") == []


def test_special_characters_do_not_break_the_table():
    page = markdown([Finding("a|b", "ok", "two\nlines")])
    assert page.splitlines() == [
        "|  | check | found | what to do |",
        "| --- | --- | --- | --- |",
        "| ok | a\\|b | two lines |  |",
    ]
