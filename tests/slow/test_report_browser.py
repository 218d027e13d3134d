"""evaluation.html in a real browser: it renders, complains of nothing, asks for nothing, and fits a phone."""

import re
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.unit.report_case import make_findings
from twofold import report

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--no-first-run",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="needs chromium (Debian: apt install chromium)"),
]


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Serves the report, and a frame of a phone's width around it that measures it; records what is asked for."""
    html = report.render(make_findings())
    # The frame's own script measures: the report's content policy lets none run inside it.
    frame = """<body style="margin:0"><iframe src="/{}.html" style="border:0;width:390px;height:800px"
    onload="const d=this.contentDocument.documentElement;document.title=d.scrollWidth+' '+d.clientWidth"></iframe>"""
    frames = {f"/phone-{name}.html": frame.format(name) for name in ("evaluation", "long")}
    long = report.render(make_findings(labels=("x" * 120, "y" * 120), slices={"z" * 120: ["w" * 120] * 300}))
    answers = {"/evaluation.html": html, "/long.html": long, **frames, "/broken.html": "<script>boom()</script>"}
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            body = answers.get(self.path, "").encode()
            self.send_response(200 if body else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    profile = tmp_path_factory.mktemp("profile")

    def visit(path, *flags):
        address = f"http://127.0.0.1:{server.server_port}{path}"
        asked.clear()
        command = [BROWSER, *FLAGS, f"--user-data-dir={profile}", *flags, address]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        return done.stdout, re.findall(r'CONSOLE.*?"(.*?)", source', done.stderr), list(asked)

    yield visit
    server.shutdown()
    thread.join()
    server.server_close()


def test_an_error_on_a_page_would_be_seen(pages):
    _, complaints, _ = pages("/broken.html", "--dump-dom")
    assert any("boom" in complaint for complaint in complaints)


def test_renders_without_a_complaint_and_without_a_request(pages):
    dom, complaints, asked = pages("/evaluation.html", "--dump-dom")
    assert complaints == []
    assert asked == ["/evaluation.html"]
    assert dom.count('role="img"') == 4
    assert dom.count("<img") == 10
    assert "Technical details" in dom


@pytest.mark.parametrize("name", ["evaluation", "long"])
def test_fits_a_phone_without_scrolling_sideways(pages, name):
    dom, complaints, _ = pages(f"/phone-{name}.html", "--dump-dom", "--virtual-time-budget=5000")
    assert complaints == []
    width, room = map(int, re.search(r"<title>(\d+) (\d+)</title>", dom).groups())
    assert room == 390
    assert width <= room


def test_prints(pages, tmp_path):
    target = tmp_path / "report.pdf"
    pages("/evaluation.html", f"--print-to-pdf={target}", "--no-pdf-header-footer")
    pdf = target.read_bytes()
    assert pdf.startswith(b"%PDF")
    assert 3 <= len(re.findall(rb"/Type\s*/Page\b", pdf)) <= 9
