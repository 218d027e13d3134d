"""The commands that `twofold forget` prints remove an image from DVC's cache and remote as well."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.makers import make_folder
from twofold.cli.forget import forget
from twofold.data.prepared import PreparedDataset

ROOT = Path(__file__).resolve().parents[2]
KEY = "bad/00003.png"
PIPELINE = """
stages:
  ingest:
    cmd: python -c "from tests.support.makers import *; make_raw(Path('images'), Path('data/raw'))"
    deps: [images]
    outs: [data/raw]
  preprocess:
    cmd: >-
      python -c "from tests.support.makers import *; make_prepared(Path('data/raw'), Path('data/prepared'));
      Path('reports/audit').mkdir(parents=True, exist_ok=True);
      Path('data/prepared.audit').rename('reports/audit/preprocess')"
    deps: [data/raw]
    outs: [data/prepared, reports/audit/preprocess]
"""


@pytest.mark.slow
@pytest.mark.parametrize("tracked", [False, True], ids=["plain folder", "dvc add"])
def test_gone_from_cache_and_remote(tmp_path, tracked):
    project = tmp_path / "project"
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path), "DVC_NO_ANALYTICS": "1"}

    def run(*words):
        subprocess.run(words, cwd=project, env=environment, check=True, capture_output=True)

    make_folder(project / "images", per_class=15, size=16)
    (project / "params.yaml").write_text("ingest:\n  source: images\n")
    (project / "dvc.yaml").write_text(PIPELINE)
    run("git", "init", "-q")
    run("dvc", "init", "-q")
    run("dvc", "remote", "add", "-d", "store", str(tmp_path / "remote"))
    if tracked:
        run("dvc", "add", "images")
    run("dvc", "repro")
    run("dvc", "push")
    data = (project / "images" / KEY).read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    prepared = PreparedDataset.open(project / "data" / "prepared")
    row = prepared.pixels([list(prepared.sha256).index(sha256)]).tobytes()

    def files_with_image(*places):
        files = [file for place in places for file in place.rglob("*") if file.is_file()]
        return [file for file in files if any(needle in file.read_bytes() for needle in (data, row, sha256.encode()))]

    assert files_with_image(project / ".dvc" / "cache")
    assert files_with_image(tmp_path / "remote")
    printed = forget(sha256, project)
    assert set(files_with_image(project)) == {project / "images" / KEY, *files_with_image(project / ".dvc" / "cache")}
    (project / "images" / KEY).unlink()
    assert "twofold run" in printed
    run("dvc", "repro")  # what it does with every step
    for command in ("dvc gc --workspace --force", "dvc gc --workspace --cloud --force"):
        assert command in printed
        run(*command.split())
    assert files_with_image(project, tmp_path / "remote") == []
