"""decision.html in a real browser: it renders, complains of nothing, asks for nothing, fits a phone and prints."""

import functools
import re
import subprocess
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests import registration_case as case
from tests.slow.test_report_browser import BROWSER, FLAGS
from tests.unit.test_decision_page import CHAMPION, RECORDED, REFUSED, judged
from twofold import decision_page
from twofold.candidate import read
from twofold.gates import Minimum

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="needs chromium (Debian: apt install chromium)"),
]
# The frame's own script measures: the page's content policy lets none run inside it.
PHONE = """<body style="margin:0"><iframe src="/decision.html" style="border:0;width:390px;height:800px"
onload="const d=this.contentDocument.documentElement;document.title=d.scrollWidth+' '+d.clientWidth"></iframe>"""


@pytest.fixture(scope="module")
def visit(tmp_path_factory):
    """Serves the page of a refusal with a gate of an unlikely name; gives (page, complaints, what was asked for)."""
    root = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        case.know_corner(patch)
        candidate = read(*case.make_candidate(root / "made", case.make_data(root)))
    gates = [Minimum(figure="accuracy", min=0.7), Minimum(figure="x" * 200, min=0.5)]
    html = decision_page.render(judged(candidate, CHAMPION, gates), REFUSED, RECORDED)
    pages = root / "pages"
    pages.mkdir()
    (pages / "decision.html").write_text(html)
    (pages / "phone.html").write_text(PHONE)
    asked = []

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *words):
            asked.append(self.path)

    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(pages)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()

    def go(path, *flags):
        asked.clear()
        profile = f"--user-data-dir={root / 'profile'}"
        command = [BROWSER, *FLAGS, profile, *flags, f"http://127.0.0.1:{server.server_port}{path}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        return done.stdout, re.findall(r'CONSOLE.*?"(.*?)", source', done.stderr), list(asked)

    yield go
    server.shutdown()
    thread.join()
    server.server_close()


def test_renders_without_a_complaint_and_without_a_request(visit):
    dom, complaints, asked = visit("/decision.html", "--dump-dom")
    assert complaints == []
    assert asked == ["/decision.html"]
    assert dom.count('role="img"') == 5
    assert "To look further" in dom


def test_fits_a_phone_without_scrolling_sideways(visit):
    dom, complaints, _ = visit("/phone.html", "--dump-dom", "--virtual-time-budget=5000")
    assert complaints == []
    width, room = map(int, re.search(r"<title>(\d+) (\d+)</title>", dom).groups())
    assert (room, width <= room) == (390, True)


def test_prints(visit, tmp_path):
    target = tmp_path / "decision.pdf"
    visit("/decision.html", f"--print-to-pdf={target}", "--no-pdf-header-footer")
    pdf = target.read_bytes()
    assert pdf.startswith(b"%PDF")
    assert 2 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 7
