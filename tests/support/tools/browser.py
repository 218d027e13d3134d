"""Opens pages in a real browser, headless Chromium, served from this machine.

Takes pages by path; yields a function that visits one and returns the final document, the console's messages, and the
paths that the browser requested.
"""

import re
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"]
FLAGS += ["--disable-component-update", "--disable-sync", "--hide-scrollbars", "--enable-logging=stderr"]
# A page in a frame of a phone's width; the frame's script measures it. {} is the page's path.
PHONE = """<link rel="icon" href="data:,"><body style="margin:0">
<iframe src="{}" style="border:0;width:390px;height:800px"
onload="const d=this.contentDocument.documentElement;document.title=d.scrollWidth+' '+d.clientWidth"></iframe>"""


class Visit(NamedTuple):
    """The result of a visit: the final document, the console's messages, the requested paths."""

    dom: str
    complaints: list[str]
    asked: list[str]


@contextmanager
def browsing(pages: Mapping[str, str], profile: Path) -> Iterator[Callable[..., Visit]]:
    """Serve pages, and yield `visit(path, *flags)`; `profile` is an empty folder for the browser."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            body = pages.get(self.path, "").encode()
            self.send_response(200 if body else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()

    def visit(path: str, *flags: str) -> Visit:
        assert BROWSER is not None, "no browser here: scripts/install-test-tools"
        asked.clear()
        address = f"http://127.0.0.1:{server.server_port}{path}" if path.startswith("/") else path
        command = [BROWSER, *FLAGS, f"--user-data-dir={profile}", *flags, address]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        return Visit(done.stdout, re.findall(r'CONSOLE.*?"(.*?)", source', done.stderr), list(asked))

    try:
        yield visit
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def width(found: Visit) -> tuple[int, int]:
    """The width of a page in PHONE and the available width, in pixels."""
    measured = re.search(r"<title>(\d+) (\d+)</title>", found.dom)
    assert measured, found.dom[:200]
    return int(measured.group(1)), int(measured.group(2))


def moved(path: str, stops: list[float], frame: str = "") -> str:
    """A page that moves the slider of the page in its frame to each stop; its title becomes the readings as JSON.

    A reading is {name: text} of all elements with `data-at`. The first one is taken before any move, the last one after
    pressing the reset button. `frame` holds more attributes of the frame.
    """
    return f"""<link rel="icon" href="data:,"><script>
const read = frame => {{
  const page = frame.contentDocument, slider = page.getElementById("threshold");
  const reading = () => Object.fromEntries([...page.querySelectorAll("[data-at]")].map(
    cell => [cell.dataset.at, cell.checkVisibility() ? cell.textContent.trim() : null]));
  const found = [reading()];
  for (const stop of {stops}) {{
    slider.value = stop;
    slider.dispatchEvent(new Event("input", {{bubbles: true}}));
    found.push(reading());
  }}
  page.getElementById("threshold-back").click();
  found.push(reading());
  document.title = JSON.stringify(found);
}};
</script>
<iframe src="{path}" {frame} style="width:1200px;height:800px" onload="read(this)"></iframe>"""
