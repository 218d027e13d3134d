"""decision.html in a real browser: complete, without errors, accessible, and with a correct slider."""

import html
import json
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix

from tests.support import registration_case as case
from tests.support.tools.browser import BROWSER, PHONE, browsing, moved, width
from tests.unit.reporting.test_decision_page import CHAMPION, RECORDED, REFUSED, judged
from twofold.evaluation import gradcam
from twofold.model.classifier import build_classifier
from twofold.promotion.candidate import read_candidate
from twofold.promotion.gates import Minimum
from twofold.reporting import decision_page

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="needs chromium (Debian: apt install chromium)"),
]
ABOUT = {"backbone": "efficientnet_lite0", "mean": [0.5] * 3, "std": [0.5] * 3}
DARK = "--blink-settings=preferredColorScheme=0"
BUDGET = ("--dump-dom", "--virtual-time-budget=5000")
STOPS = [0.0, 0.2, 0.385, 0.461, 0.5, 0.999, 1.0]
# A frame that measures the page inside it, because the page's policy forbids scripts of the test. {} is the function.
MEASURED = """<link rel="icon" href="data:,"><iframe src="/decision.html" style="width:1200px;height:800px"
onload="document.title=JSON.stringify((page=>{{{}}})(this.contentDocument))"></iframe>"""
PICTURES = "return [...page.images].map(i=>[i.complete,i.naturalWidth,i.alt.length])"
# The contrast of every element with its own text to the first background behind it (WCAG 2.2).
CONTRAST = """
const parse=c=>c.match(/[\\d.]+/g).map(Number), view=page.defaultView;
const light=c=>{const f=c.slice(0,3).map(v=>(v/=255)<=.04045?v/12.92:((v+.055)/1.055)**2.4);
return .2126*f[0]+.7152*f[1]+.0722*f[2]};
const behind=e=>{for(;e;e=e.parentElement){const c=parse(view.getComputedStyle(e).backgroundColor);
if(c.length<4||c[3]>0)return c}return [255,255,255]};
const found=[];
for(const e of page.querySelectorAll('body *')){
if(e.closest('svg,script,style,noscript')||!e.checkVisibility())continue;
if(![...e.childNodes].some(n=>n.nodeType===3&&n.textContent.trim()))continue;
const [a,b]=[light(parse(view.getComputedStyle(e).color)),light(behind(e))].sort((x,y)=>y-x);
found.push([(a+.05)/(b+.05),e.textContent.trim().slice(0,30)])}
return [light(behind(page.body)),found]"""
# The elements that the tab key reaches, with their accessible names.
REACHED = """return [...page.querySelectorAll('a[href],button,input,[tabindex]')].filter(e=>e.checkVisibility()).map(
e=>[e.tagName,e.tabIndex,e.getAttribute('aria-label')||(e.labels&&e.labels[0]||e).textContent.trim()])"""

# After its link was followed: the place of the contents, whether the folded section is open, and where it begins.
CONTENTS = """const top=e=>Math.round(e.getBoundingClientRect().top), part=page.getElementById('lineage');
page.querySelector('nav a[href="#lineage"]').click();
return [top(page.querySelector('nav')),part.parentElement.open,top(part)]"""


@pytest.fixture(scope="module")
def judgement(tmp_path_factory):
    """A refusal with a gate of an extremely long name, and explanations by a network with random weights."""
    root = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        case.know_corner(patch)
        candidate = read_candidate(*case.make_candidate(root / "made", case.make_data(root)))
    torch.manual_seed(1)
    explained = gradcam.explain_answers(
        build_classifier("efficientnet_lite0", 0.5), ABOUT, candidate.test, candidate.labels, noise
    )
    gates = [Minimum(figure="accuracy", min=0.7), Minimum(figure="x" * 200, min=0.5)]
    return judged(replace(candidate, explained=explained), CHAMPION, gates)


def noise(sha256):
    return np.random.default_rng(int(sha256[:8], 16)).integers(0, 256, (96, 96, 1), np.uint8)


@pytest.fixture(scope="module")
def visit(judgement, tmp_path_factory):
    page = decision_page.render(judgement, REFUSED, RECORDED)
    pages = {
        "/decision.html": page,
        "/phone.html": PHONE.format("/decision.html"),
        "/moved.html": moved("/decision.html", STOPS),
        "/sandboxed.html": moved("/decision.html", [], 'sandbox="allow-same-origin"'),
        "/pictures.html": MEASURED.format(PICTURES),
        "/contrast.html": MEASURED.format(html.escape(CONTRAST)),
        "/reached.html": MEASURED.format(html.escape(REACHED)),
        "/contents.html": MEASURED.format(html.escape(CONTENTS)),
        "/phone-contents.html": MEASURED.format(html.escape(CONTENTS)).replace("width:1200px", "width:390px"),
    }
    with browsing(pages, tmp_path_factory.mktemp("profile")) as go:
        yield go


def title(found):
    """The JSON that the page's script has written into its title."""
    assert found.complaints == []
    return json.loads(html.unescape(re.search(r"<title>(.*?)</title>", found.dom, re.DOTALL).group(1)))


def test_renders_without_errors_and_without_requests(visit):
    found = visit("/decision.html", "--dump-dom")
    assert found.complaints == []
    assert found.asked == ["/decision.html"]
    assert found.dom.count('role="img"') == 7
    assert "More details" in found.dom


def test_the_file_opens_without_a_server_and_its_script_runs(judgement, visit, tmp_path):
    path = tmp_path / "decision.html"
    path.write_text(decision_page.render(judgement, REFUSED, RECORDED), encoding="utf-8")
    found = visit(path.as_uri(), "--dump-dom")
    assert found.complaints == []
    assert found.asked == []
    assert re.search(r'<input id="threshold"[^>]*aria-valuetext="0\.\d{4}"', found.dom)


def test_every_picture_is_drawn_and_has_a_text_alternative(visit):
    found = title(visit("/pictures.html", *BUDGET))
    assert len(found) == (2 + 5) * 2 + 1  # errors and correct answers with their maps, and the legend
    assert all(complete and wide > 0 and words > 10 for complete, wide, words in found)


def test_the_slider_moves_the_matrix_to_what_scikit_learn_counts(judgement, visit):
    test = judgement.candidate.test
    first, *at, last = title(visit("/moved.html", *BUDGET))
    for stop, shown in zip(STOPS, at, strict=True):
        passed, alarms, missed, hits = confusion_matrix(test.target, test.probability >= stop).ravel()
        counts = {"true_positive": hits, "false_positive": alarms, "true_negative": passed, "false_negative": missed}
        assert {name: shown[name] for name in counts} == {name: str(value) for name, value in counts.items()}
        assert shown["threshold"] == f"{stop:.4f}"
    assert first == last
    assert first["true_positive"] == str(judgement.candidate.metrics["true_positive"])


def test_a_frame_without_scripts_shows_the_chosen_threshold(judgement, visit):
    found = visit("/sandboxed.html", *BUDGET)
    shown = json.loads(html.unescape(re.search(r"<title>(.*?)</title>", found.dom).group(1)))[0]
    metrics = judgement.candidate.metrics
    assert shown["true_positive"] == str(metrics["true_positive"])
    assert shown["threshold"] == f"{metrics['threshold']:.4f}"
    assert shown["accuracy"] is None  # hidden, because it needs the script


@pytest.mark.parametrize("flags", [(), (DARK,)])
def test_every_text_has_enough_contrast(visit, flags):
    ground, found = title(visit("/contrast.html", *BUDGET, *flags))
    assert (ground < 0.1) == (DARK in flags)
    assert len(found) > 200
    assert [(ratio, words) for ratio, words in found if ratio < 4.5] == []


def test_every_control_is_reached_by_keyboard_and_has_a_name(visit):
    found = title(visit("/reached.html", *BUDGET))
    tags = [tag for tag, _, _ in found]
    assert {"A", "BUTTON", "INPUT", "DIV"} == set(tags)  # and SUMMARY, which needs no tabindex
    assert all(place == 0 and name for _, place, name in found)


@pytest.mark.parametrize("path", ["/contents.html", "/phone-contents.html"])
def test_the_contents_stay_in_view_and_unfold_the_section_that_they_lead_to(visit, path):
    nav, unfolded, begins = title(visit(path, *BUDGET))
    assert nav == 0
    assert unfolded
    assert 40 < begins < 200  # below its heading, which is below the contents of a phone


def test_fits_a_phone_without_scrolling_sideways(visit):
    found = visit("/phone.html", *BUDGET)
    assert found.complaints == []
    wide, room = width(found)
    assert (room, wide <= room) == (390, True)


def test_prints(visit, tmp_path):
    target = tmp_path / "decision.pdf"
    visit("/decision.html", f"--print-to-pdf={target}", "--no-pdf-header-footer")
    pdf = target.read_bytes()
    assert pdf.startswith(b"%PDF")
    assert 5 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 12
