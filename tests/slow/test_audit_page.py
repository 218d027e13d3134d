"""audit.html in a real browser: the label issues are filtered without a script."""

import html
import json
import re

import numpy as np
import pytest

from tests.support.tools.browser import BROWSER, PHONE, browsing, width
from twofold.audit.checks import Check, Issue
from twofold.reporting.audit_page import write_audit

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="needs chromium (Debian: apt install chromium)"),
]
# The number of visible pictures: at first, without one class, and without a split too.
FILTERED = """<link rel="icon" href="data:,"><iframe src="/audit.html" style="width:1200px;height:800px" onload="
const page=this.contentDocument, seen=()=>[...page.querySelectorAll('figure')].filter(e=>e.checkVisibility()).length;
const found=[seen()];for(const box of ['.of-label1','.of-test']){page.querySelector(box).click();found.push(seen())}
document.title=JSON.stringify(found)"></iframe>"""


def test_label_issues_are_filtered_by_label_and_split(tmp_path):
    of = [("bad", "train"), ("bad", "test"), ("good", "train"), ("good", "train"), ("good", "test")]
    found = [
        Issue("label_issues", f"{n:064x}", f"{'long/' * 30}{n}.png", label, split, "x", command=f"mv {'y' * 90}")
        for n, (label, split) in enumerate(of)
    ]
    check = Check("label_issues", "warn", "Label issues", "x", found)
    shown = {"statistics": {}, "pixels": lambda sha256: np.zeros((9, 9, 1), np.uint8)}
    write_audit(tmp_path / "audit", "train_head", [check], fingerprint="f" * 64, **shown)
    page = (tmp_path / "audit" / "audit.html").read_text()
    pages = {"/audit.html": page, "/filtered.html": FILTERED, "/phone.html": PHONE.format("/audit.html")}
    with browsing(pages, tmp_path / "profile") as visit:
        filtered = visit("/filtered.html", "--dump-dom", "--virtual-time-budget=5000")
        phone = visit("/phone.html", "--dump-dom", "--virtual-time-budget=5000")
    assert filtered.complaints == []
    assert json.loads(html.unescape(re.search(r"<title>(.*?)</title>", filtered.dom).group(1))) == [5, 3, 2]
    wide, room = width(phone)
    assert wide <= room == 390
