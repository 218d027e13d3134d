"""The findings of the audits are in model card, decision page and verdict; an audit of other data is refused."""

import shutil
from dataclasses import replace

import pytest
from markdown_it import MarkdownIt

from tests.support import registration_case as case
from tests.support.makers import UNJUDGED, make_folder, make_raw
from tests.unit.core.test_markdown import HOSTILE, Elements
from tests.unit.reporting.test_decision_page import PROMOTED, RECORDED, judged
from twofold.audit import summary
from twofold.audit.checks import Check, Issue
from twofold.core.artifacts import read_json, write_json
from twofold.core.errors import ArtifactError
from twofold.promotion.candidate import read_candidate
from twofold.promotion.judgement import as_json, digest
from twofold.reporting import decision_page, model_card
from twofold.reporting import html_page as pages
from twofold.reporting.audit_page import write_audit

F = "f" * 64
DARK = [Issue("under_exposed", f"{number}" * 64, f"secret-{number}.png", "bad", "", "nearly black") for number in "12"]
RARE = Issue("imbalance", "", "", "bad", "", "3 of 70 images are bad: 4.3%")
CHECKS = [
    Check("imbalance", "warn", "Classes of very different size", "One class is rare.", [RARE]),
    Check("under_exposed", "quarantine", "Very dark", "Far darker than the others.", DARK),
    Check("blank", "warn", "Blank", "Of nearly one colour.", []),
    Check("blurred", "ignore", "Blurred", "Softer than the others.", []),
    Check("refused", "quarantine", "Refused", "Damaged.", DARK[:1], "ingest.max_refused_fraction"),
    Check("label_issues", "warn", "Wrong labels", "Suspicion.", [], impossible="4 images of class 'bad'."),
]


def written(folder, checks=CHECKS, step="ingest", fingerprint=F):
    write_audit(folder, step, checks, fingerprint=fingerprint, statistics={}, pixels=lambda sha256: None)
    return folder


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    return case.make_known(tmp_path_factory.mktemp("known"))[1]


@pytest.fixture(scope="module")
def candidate(known, tmp_path_factory):
    """A candidate whose images have the findings of CHECKS."""
    audits = summary.read_audits({"ingest": written(tmp_path_factory.mktemp("audit") / "ingest")}, F)
    return replace(read_candidate(*known), audits=audits)


@pytest.fixture(scope="module")
def section(candidate):
    card = model_card.render(judged(candidate))
    return card[card.index("## Data audit") : card.index("## Metrics by slice")]


def test_a_table_has_the_findings_with_step_policy_and_what_was_done(section):
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in section.splitlines() if "|" in line]
    assert rows[0] == ["check", "step", "found", "policy", "what was done"]
    assert rows[2:] == [
        ["Classes of very different size", "ingest", "1", "warn", "listed, nothing else was done"],
        ["Refused", "ingest", "1", "quarantine", "left out"],
        ["Very dark", "ingest", "2", "quarantine", "left out"],
    ]


def test_the_card_explains_findings_and_lists_checks_without_findings(section):
    assert (
        "- Classes of very different size (`ingest.audit.imbalance`): One class is rare. Here: 3 of 70 images are bad: "
        "4.3%." in section
    )
    assert "- Refused (`ingest.max_refused_fraction`): Damaged.\n" in section
    assert "Checks without findings: Blank.\n" in section
    assert "Checks that could not run: Wrong labels (4 images of class 'bad'.).\n" in section
    assert "Checks that are turned off (policy ignore): Blurred.\n" in section
    assert "secret" not in section
    assert "1111" not in section


@pytest.mark.parametrize(
    ("check", "line", "told"),
    [
        ("refused", "without findings: Blank; Refused (by preprocess)", "Refused (by ingest)<small>"),
        ("blank", "without findings: Blank (by ingest); Blank (by preprocess)", ""),
        (
            "blurred",
            "(policy ignore): Blurred (by ingest); Blurred (by preprocess)",
            "Blurred (by ingest), Blurred (by",
        ),
        ("label_issues", "could not run: Wrong labels (by ingest) (4 images", "Wrong labels (by preprocess) could not"),
    ],
)
def test_no_title_is_listed_twice_a_check_of_two_steps_has_its_step(candidate, check, line, told):
    again = tuple(one._replace(step="preprocess", found=0) for one in candidate.audits if one.check == check)
    both = replace(candidate, audits=candidate.audits + again)
    assert line in model_card.render(judged(both))
    assert told in pages.render("x", "audit_summary.html", {"audited": summary.group_by_outcome(both.audits)})


def test_no_findings_are_reported_as_such(candidate):
    quiet = tuple(one for one in candidate.audits if not one.found)
    for audits in ((), quiet):
        card = model_card.render(judged(replace(candidate, audits=audits)))
        assert "## Data audit\n\nNo findings.\n" in card
        html = pages.render("x", "audit_summary.html", {"audited": summary.group_by_outcome(audits)})
        assert "<p>The audits of the data found nothing.</p>" in html


def test_the_decision_page_has_the_findings(candidate):
    page = decision_page.render(judged(candidate), PROMOTED, RECORDED)
    table = page.partition('<table id="audit-table"')[2].partition("</table>")[0]
    words = " ".join(table.split())
    assert "Very dark<small>ingest.audit.under_exposed: quarantine</small>" in words
    assert "<strong>3 of 70 images are bad: 4.3%.</strong> One class is rare." in words
    assert words.count("<tr>") == 4
    assert "Wrong labels could not be checked: 4 images of class" in page
    assert "secret" not in table


def test_the_verdict_has_the_counts_and_another_finding_changes_its_digest(candidate):
    values = as_json(judged(candidate), PROMOTED)
    assert values["audits"][-1] == {"step": "ingest", "check": "under_exposed", "policy": "quarantine", "found": 2}
    assert values["raised"] == summary.group_by_outcome(candidate.audits).found
    assert "Very dark (2)" in values["raised"]
    fewer = as_json(judged(replace(candidate, audits=candidate.audits[1:])), PROMOTED)
    assert digest(fewer) != digest(values)


@pytest.mark.parametrize("words", HOSTILE)
def test_hostile_classes_stay_text(candidate, words, tmp_path):
    issue = Issue("imbalance", "", "", words, "", f"3 of 70 images are {words}")
    checks = [
        Check("imbalance", "warn", "Size", "Rare.", [issue]),
        Check("label_issues", "warn", "Labels", "x", [], impossible=f"4 images of class {words}."),
    ]
    hostile = replace(candidate, audits=summary.read_audits({"ingest": written(tmp_path / "a", checks)}, F))
    markdown = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
    table = pages.render("x", "audit_summary.html", {"audited": summary.group_by_outcome(hostile.audits)})
    for html in (markdown.render(model_card.render(judged(hostile))), table):
        elements = Elements(html)
        assert not {"b", "i", "img", "script", "a", "em", "s"} & set(elements.found)
        assert f"3 of 70 images are {' '.join(words.split())}" in " ".join("".join(elements.text).split())


def test_register_reads_the_audits_that_the_steps_wrote(known):
    found = {(one.step, one.check): one for one in read_candidate(*known).audits}
    assert found["ingest", "exact_duplicates"].policy == "ignore"
    assert {step for step, _ in found} == {"ingest", "preprocess"}
    assert found["ingest", "refused"].set_by == "ingest.max_refused_fraction"


UNKNOWN = dict.fromkeys(("title", "meaning", "set_by"), "x") | {
    "policy": "hope",
    "found": 0,
    "told": [],
    "impossible": "",
}


def altered(folder, file, **values):
    write_json(folder / file, read_json(folder / file) | values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (shutil.rmtree, r"meta\.json: no such file"),
        (lambda folder: altered(folder, "meta.json", fingerprint="0"), "the fingerprint 0, expected f+; run ingest"),
        (lambda folder: altered(folder, "meta.json", step="preprocess"), "the step preprocess, expected ingest"),
        (lambda folder: altered(folder, "meta.json", schema_version=1), "make this artifact again"),
        (lambda folder: altered(folder, "audit.json", checks={"blank": {}}), "not written by an audit"),
        (lambda folder: altered(folder, "audit.json", checks=[1]), "not written by an audit"),
        (
            lambda folder: altered(folder, "audit.json", checks={"x": UNKNOWN}),
            "policies are ignore, warn, quarantine, fail, found",
        ),
        (
            lambda folder: written(folder, [CHECKS[0]._replace(policy="fail")]),
            r"found issues whose policy is fail \(ingest\.audit\.imbalance\), so ingest failed",
        ),
    ],
)
def test_an_invalid_audit_is_refused(tmp_path, change, message):
    folder = written(tmp_path / "audit")
    change(folder)
    with pytest.raises(ArtifactError, match=message):
        summary.read_audits({"ingest": folder}, F)


def test_an_audit_of_other_images_is_refused_by_register(known, tmp_path):
    other = make_raw(make_folder(tmp_path / "images", per_class=3), tmp_path / "raw")
    with pytest.raises(ArtifactError, match=r"it is an audit of the fingerprint .*run ingest again"):
        read_candidate(*known._replace(ingest_audit=other.with_suffix(".audit")))


def test_the_fingerprint_of_the_audit_is_that_of_the_remaining_images(tmp_path):
    source = make_folder(tmp_path / "images", per_class=12)
    (source / "good" / "same.png").write_bytes((source / "bad" / "00003.png").read_bytes())
    raw = make_raw(source, tmp_path / "raw", audit=UNJUDGED | {"both_labels": "quarantine"})
    about = read_json(raw / "meta.json")
    assert about["n"] == 23
    assert read_json(raw.with_suffix(".audit") / "meta.json")["fingerprint"] == about["fingerprint"]
