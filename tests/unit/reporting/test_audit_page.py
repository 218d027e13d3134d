"""The audit of a step: written atomically, with the same bytes every time, and safe with untrusted names."""

import csv
import json
from typing import get_args

import numpy as np
import pytest

from twofold.audit.checks import OF_ALL, Check, Issue, describe_findings, enforce_policies, next_step
from twofold.core.errors import DataError
from twofold.reporting.audit_page import PICTURES, write_audit
from twofold.steps import ingest, preprocess, train_head

HOSTILE = '=cmd|"<script>alert(1)</script>"'


def check(name, policy, count, **values):
    found = [Issue(name, f"{n:064x}", f"bad/{n}.png", "bad", "train", f"found {n}", **values) for n in range(count)]
    return Check(name, policy, name.title(), f"What {name} means.", found)


def picture(sha256):
    return np.full((300, 200, 1), int(sha256[-1], 16) * 16, np.uint8)


def write(directory, checks, figures=None, pixels=picture):
    write_audit(directory, "ingest", checks, fingerprint="f" * 64, statistics=figures or {}, pixels=pixels)
    return (directory / "audit.html").read_text()


def rows(directory):
    with (directory / "findings.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_checks_with_and_without_findings_are_on_the_page_and_in_the_files(tmp_path):
    figures = {"images": 1234, "classes": {"bad": {"images": 3, "mode": "L"}, "good": {"images": 4}}}
    checks = [
        check("blurred", "warn", 3, value=0.123456789),
        check("blank", "quarantine", 0),
        check("dark", "ignore", 0),
    ]
    html = write(tmp_path / "audit", checks, figures)
    assert "3 findings in 1\ncheck" in html
    assert html.count("<img ") == 3
    assert html.index("Checks without findings") < html.index("What blank means.")
    assert "Dark." in html[html.index("Checks that are turned off") :]
    assert "1,234" in html
    summary = json.loads((tmp_path / "audit" / "audit.json").read_text())
    assert summary["checks"]["blurred"] == {
        "policy": "warn",
        "found": 3,
        "title": "Blurred",
        "meaning": "What blurred means.",
        "set_by": "ingest.audit.blurred",
        "told": [],
        "impossible": "",
    }
    assert summary["figures"] == figures
    assert [row["value"] for row in rows(tmp_path / "audit")] == ["0.123457"] * 3
    about = json.loads((tmp_path / "audit" / "meta.json").read_text())
    assert (about["step"], about["fingerprint"]) == ("ingest", "f" * 64)


def test_the_same_audit_has_the_same_bytes(tmp_path):
    for name in "ab":
        write(tmp_path / name, [check("blurred", "warn", 3)])
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


def test_pairs_are_side_by_side_and_only_the_first_are_shown(tmp_path):
    html = write(tmp_path / "audit", [check("near_duplicates", "warn", 40, of="f" * 64)])
    assert html.count("<img ") == 2 * PICTURES
    assert "And 28 more" in html
    assert len(rows(tmp_path / "audit")) == 40
    assert len(html) < 500_000


def test_all_label_issues_are_shown_and_can_be_filtered_without_a_script(tmp_path):
    found = [
        Issue("label_issues", f"{n:064x}", f"{label}/{n}.png", label, split, "doubtful", command=f"mv {n}")
        for n, (label, split) in enumerate([("bad", "train"), ("good", "test"), ("bad", "test")] * 20)
    ]
    html = write(tmp_path / "audit", [Check("label_issues", "warn", "Label issues", "x", found)])
    assert html.count("<img ") == 60
    assert html.count('<figure class="label1 train">') == html.count('<figure class="label2 test">') == 20
    assert html.count('<input type="checkbox"') == 4
    assert "bad\n(40)</label>" in html
    assert '<code class="copy line">mv 59</code>' in html
    assert "By label: 40 bad, 20 good." in html
    assert "<script" not in html


def test_what_all_images_of_a_check_have_in_common_and_what_to_do_is_said(tmp_path):
    dark = check("under_exposed", "warn", 13)._replace(title="Under-exposed images")
    html = write(tmp_path / "audit", [dark])
    assert "All 13 under-exposed images are bad." in html
    assert '<code class="copy">twofold params set ingest.audit.under_exposed=quarantine</code>' in html
    assert f'<code class="copy line">twofold forget {12:064x}</code>' not in html  # the thirteenth is not shown
    assert f'<code class="copy line">twofold forget {11:064x}</code>' in html
    assert (dark._replace(found=dark.found[:4]).same_label, dark._replace(found=dark.found[:5]).same_label) == (
        "",
        "All 5 under-exposed images are bad",
    )
    assert next_step("leaks", "quarantine", "p.audit.leaks") == (
        "To stop at such a finding",
        "twofold params set p.audit.leaks=fail",
    )
    assert next_step("imbalance", "fail", "i.audit.imbalance")[1] == "twofold params set i.audit.imbalance=warn"
    assert next_step("refused", "quarantine", "ingest.max_refused_fraction")[1] == "twofold run"


def test_a_command_sets_a_policy_that_the_check_allows():
    fields = ingest.Audit.model_fields | preprocess.Audit.model_fields | train_head.Audit.model_fields
    assert {name for name, field in fields.items() if "quarantine" not in get_args(field.annotation)} == {*OF_ALL}
    for name, field in fields.items():
        for policy in get_args(field.annotation):
            assert next_step(name, policy, f"x.audit.{name}")[1].rpartition("=")[2] in get_args(field.annotation)


def test_names_are_escaped_on_the_page_and_are_no_formula_in_the_csv(tmp_path):
    found = [Issue("blurred", "0" * 64, HOSTILE, HOSTILE, "", HOSTILE), Issue("blurred", "", "", "", "", HOSTILE)]
    html = write(
        tmp_path / "audit", [Check("blurred", "warn", "Blurred", "x", found)], {HOSTILE: {HOSTILE: {HOSTILE: 1}}}
    )
    assert "<script" not in html
    assert rows(tmp_path / "audit")[0]["key"] == "'" + HOSTILE


def test_an_image_without_pixels_is_no_error(tmp_path):
    assert "no picture" in write(tmp_path / "audit", [check("blurred", "warn", 1)], pixels=lambda _: None)


def test_a_check_that_could_not_run_is_not_listed_as_one_without_findings(tmp_path):
    html = write(tmp_path / "audit", [check("blank", "warn", 0)._replace(impossible="There are <4> images.")])
    assert "There are &lt;4&gt; images." in html[html.index("Checks that could not run") :]
    assert "Checks without findings" not in html


def test_the_policy_fail_names_the_findings(tmp_path):
    checks = [check("blurred", "fail", 12), check("blank", "warn", 3), check("dark", "fail", 0)]
    with pytest.raises(DataError) as caught:
        enforce_policies("ingest", checks, tmp_path / "audit.html")
    said = str(caught.value)
    assert "Blurred: 12 found, and ingest.audit.blurred is fail" in said
    assert "bad/0.png: found 0" in said
    assert "… and 2 more" in said
    assert "blank" not in said
    assert "audit.html" in said
    enforce_policies("ingest", checks[1:], tmp_path / "audit.html")


def test_findings_are_summarized_in_one_line():
    one = Issue("any", "0" * 64, "k", "bad", "", "dark")
    counts = {"under_exposed": 2, "blank": 0, "leaks": 1}
    checks = [Check(name, "warn", "", "", [one] * count) for name, count in counts.items()]
    assert describe_findings(checks) == "under exposed (2), leaks (1)"
    assert describe_findings(checks[1:2]) == "nothing"
