"""evaluation.html in a real browser: it renders without errors, is self-contained and fits a phone."""

import re

import pytest

from tests.support.report_case import make_findings
from tests.support.tools.browser import BROWSER, PHONE, browsing, width
from twofold.reporting import evaluation_report

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="needs chromium (Debian: apt install chromium)"),
]


@pytest.fixture(scope="module")
def visit(tmp_path_factory):
    long = make_findings(labels=("x" * 120, "y" * 120), slices={"z" * 120: ["w" * 120] * 300})
    pages = {
        "/evaluation.html": evaluation_report.render(**make_findings()),
        "/long.html": evaluation_report.render(**long),
        "/phone-evaluation.html": PHONE.format("/evaluation.html"),
        "/phone-long.html": PHONE.format("/long.html"),
        "/broken.html": "<script>boom()</script>",
    }
    with browsing(pages, tmp_path_factory.mktemp("profile")) as go:
        yield go


def test_an_error_on_a_page_is_detected(visit):
    assert any("boom" in complaint for complaint in visit("/broken.html", "--dump-dom").complaints)


def test_renders_without_errors_and_without_requests(visit):
    found = visit("/evaluation.html", "--dump-dom")
    assert found.complaints == []
    assert found.asked == ["/evaluation.html"]
    assert found.dom.count('role="img"') == 5
    assert found.dom.count("<img") == (10 + 8) * 2 + 1  # errors, correct answers and their maps, and the legend
    assert "Technical details" in found.dom


@pytest.mark.parametrize("name", ["evaluation", "long"])
def test_fits_a_phone_without_scrolling_sideways(visit, name):
    found = visit(f"/phone-{name}.html", "--dump-dom", "--virtual-time-budget=5000")
    assert found.complaints == []
    wide, room = width(found)
    assert room == 390
    assert wide <= room


def test_prints(visit, tmp_path):
    target = tmp_path / "report.pdf"
    visit("/evaluation.html", f"--print-to-pdf={target}", "--no-pdf-header-footer")
    pdf = target.read_bytes()
    assert pdf.startswith(b"%PDF")
    assert 3 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 12
