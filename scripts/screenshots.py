"""Takes the README's pictures of the demo's pages with headless Chromium: `make screenshots`, after `make demo`.

Writes small WebP files into docs/pictures: the decision page in light and dark, thumbnails of an audit, the evaluation
and the registered version in the MLflow UI.
"""

import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
DEMO, PICTURES = ROOT / "demo", ROOT / "docs" / "pictures"
FLAGS = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run")
DARK, LIGHT = 0, 1  # Chromium's preferredColorScheme


class Shot(NamedTuple):
    """A picture: its name, the page in the demo or the MLflow UI, the window, the width of the file, the colour scheme.

    Of a window that is wider than `keep`, the right side is cut off: the MLflow UI has its assistant there.
    """

    name: str
    page: str
    window: tuple[int, int]
    width: int
    scheme: int = LIGHT
    keep: int = 10_000


SHOTS = (
    Shot("decision-light", "reports/registration/decision.html", (1000, 760), 1000),
    Shot("decision-dark", "reports/registration/decision.html", (1000, 760), 1000, DARK),
    Shot("audit", "reports/audit/ingest/audit.html", (1000, 800), 520),
    Shot("evaluation", "reports/evaluation/evaluation.html", (1000, 800), 520),
    Shot("mlflow", "#/models/twofold/versions/1?workflowType=machine_learning", (1500, 880), 520, keep=1100),
)


def main() -> None:
    """Take all pictures; the MLflow UI runs only as long as its picture needs it."""
    if not (DEMO / "reports").is_dir():
        sys.exit(f"screenshots: {DEMO}/reports: not found; run `make demo` first")
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        sys.exit("screenshots: no Chromium found; run scripts/install-test-tools")
    PICTURES.mkdir(exist_ok=True)
    with mlflow_ui() as ui:
        for shot in SHOTS:
            address = f"{ui}/{shot.page}" if shot.page.startswith("#") else (DEMO / shot.page).as_uri()
            print(f"{take(browser, shot, address).relative_to(ROOT)}: {shot.page}")


def take(browser: str, shot: Shot, address: str) -> Path:
    """Take one picture and scale it to its width; return the file."""
    with tempfile.TemporaryDirectory() as scratch:
        raw = Path(scratch) / "raw.png"
        size = ",".join(map(str, shot.window))
        words = [*FLAGS, f"--user-data-dir={scratch}/profile", f"--window-size={size}", f"--screenshot={raw}"]
        words += [f"--blink-settings=preferredColorScheme={shot.scheme}", "--virtual-time-budget=20000", address]
        subprocess.run([browser, *words], capture_output=True, timeout=180, check=True)
        with Image.open(raw) as picture:
            kept = picture.convert("RGB").crop((0, 0, min(shot.keep, picture.width), picture.height))
            height = round(kept.height * shot.width / kept.width)
            small = kept.resize((shot.width, height), Image.Resampling.LANCZOS)
    path = PICTURES / f"{shot.name}.webp"
    small.save(path, quality=80, method=6)
    return path


@contextmanager
def mlflow_ui() -> Iterator[str]:
    """Run the MLflow UI on the demo's store; yield its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "mlflow", "ui", "--backend-store-uri", "sqlite:///mlflow.db", "--port", str(port)]
    server = subprocess.Popen(words, cwd=DEMO, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(120):
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=2):
                break
            time.sleep(1)
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait(30)


if __name__ == "__main__":
    main()
