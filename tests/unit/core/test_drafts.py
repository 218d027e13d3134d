"""A full disk or a folder that may not be written is one line with its path, and no killed process leaves a draft."""

import os
import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.numpy
import torch
from PIL import Image
from requests import HTTPError

from twofold.cli.main import kfp_main, main
from twofold.core import drafts
from twofold.core.artifacts import publish, write_bytes, write_csv, write_json
from twofold.core.drafts import LEASE, draft, scratch_folder
from twofold.core.errors import ArtifactError, DataError, exit_with_message
from twofold.orchestration.params_file import load_yaml
from twofold.orchestration.step_cli import main as run_command
from twofold.orchestration.task import run_step
from twofold.training.checkpoint import Checkpoint

ROOT = Path(__file__).parents[3]
NOISE = np.random.default_rng(0).integers(0, 255, (400, 400), dtype=np.uint8)
ROOM = 1 << 14  # bytes


@contextmanager
def no_room():
    """Let the kernel refuse to write more than ROOM bytes into any file, as a full disk does."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def left(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def save_with_torch(path):
    with path.open("xb") as stream:
        torch.save({"a": torch.from_numpy(NOISE)}, stream)


def copy(path):
    source = path.parents[2] / "source"
    shutil.copyfile(source, path)


INSIDE = {
    "text": lambda path: path.write_text("a" * 100_000),
    "CSV": lambda path: write_csv(path, ("a",), ([number] for number in range(100_000))),
    "bytes": lambda path: write_bytes(path, NOISE.tobytes()),
    "a copy": copy,
    "PNG": lambda path: Image.fromarray(NOISE).save(path, "PNG"),
    "NumPy": lambda path: np.save(path.with_suffix(".npy"), NOISE),
    "Parquet": lambda path: pq.write_table(pa.table({"a": NOISE.ravel()}), path),
    "safetensors": lambda path: safetensors.numpy.save_file({"a": NOISE}, path),
    "torch": save_with_torch,
}


@pytest.mark.parametrize("kind", INSIDE)
@pytest.mark.parametrize("replaced", [False, True])
def test_a_full_disk_is_an_error_with_the_path_whichever_library_writes(kind, replaced, tmp_path):
    (tmp_path / "source").write_bytes(NOISE.tobytes())
    target = tmp_path / "out" / "thing"
    if replaced:
        with publish(target) as folder:
            (folder / "a").write_text("old")
    before = left(tmp_path)
    message = r"thing(/|\S*/file)?: cannot be written: (File too large|No space left on device)"
    with pytest.raises(ArtifactError, match=message) as caught, publish(target) as folder, no_room():
        INSIDE[kind](folder / "file")
    assert str(tmp_path) in str(caught.value)
    assert "/.thing" not in str(caught.value)
    assert [name for name in left(tmp_path) if name != "out"] == [name for name in before if name != "out"]


def save_checkpoint(path):
    checkpoint = Checkpoint("train_head", {"a": "1"})
    checkpoint.path = path
    checkpoint.save({"weights": torch.from_numpy(NOISE)})


def publish_nothing(path):
    with publish(path):
        pass


WRITERS = {
    "publish": publish_nothing,
    "write_bytes": lambda path: write_bytes(path, NOISE.tobytes()),
    "write_json": lambda path: write_json(path, {"a": "b" * 100_000}),
    "checkpoint": save_checkpoint,
}


@pytest.mark.parametrize("writer", [name for name in WRITERS if name != "publish"])
def test_a_file_that_finds_no_room_is_named_and_nothing_of_it_stays(writer, tmp_path):
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(ArtifactError, match=r"file: cannot be written: (File too large|No space left)"), no_room():
        WRITERS[writer](tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert left(tmp_path) == ["file"]


@pytest.mark.parametrize("writer", WRITERS)
@pytest.mark.parametrize("place", ["a file", "/sys", "/proc/self"])
def test_a_place_that_may_not_be_written_is_named(writer, place, tmp_path):
    (tmp_path / "a file").touch()
    path = tmp_path / place / "folder" / "thing"
    with pytest.raises(ArtifactError, match=r"thing: cannot be written: (Not a dir|Operation not|Permission|No such)"):
        WRITERS[writer](path)
    assert left(tmp_path) == ["a file"]


def test_an_error_of_something_else_is_not_taken_for_one_of_writing(tmp_path):
    for error in (
        DataError("x"),
        ValueError("x"),
        ConnectionResetError("gone"),
        HTTPError("500: No space left on device"),
        PermissionError(13, "no", "/data/source"),
    ):
        with pytest.raises(type(error)), publish(tmp_path / "thing"):
            raise error
    assert left(tmp_path) == []


def train_head(params, data, *, model):
    write_bytes(model, NOISE.tobytes())


PARAMS = ROOT / "params.yaml"
COMMANDS = {
    "twofold params set": lambda path: main(["params", "set", "train_head.epochs=7", "--params", str(path)]),
    "a step": lambda path: run_command(train_head, ["--params", str(PARAMS), "--data", "x", "--model", str(path)]),
    "a task": lambda path: run_step(train_head, load_yaml(PARAMS)["train_head"], {}, {}, data="x", model=str(path)),
    "twofold kfp": lambda path: kfp_main(["compile", "-o", str(path / "in a file")]),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_ends_with_one_line_that_names_the_file(name, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path.parent))
    monkeypatch.chdir(ROOT)
    path = tmp_path / "file"
    path.write_text(PARAMS.read_text() + f"#{'.' * ROOM}\n")
    before = path.read_bytes()
    with pytest.raises(SystemExit) as caught, no_room() if name != "twofold kfp" else nullcontext():
        COMMANDS[name](path)
    lines = capsys.readouterr().err.splitlines()
    assert caught.value.code == 1
    assert re.search(rf"^twofold\S* ?\S*: error: {path}\S*(/in a file)?: cannot be written: File ", lines[-1])
    assert "Traceback" not in "".join(lines)
    assert path.read_bytes() == before
    assert left(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(28, "No space left on device"), "[Errno 28] No space left on device"),
        (PermissionError(13, "Permission denied", "/a"), "[Errno 13] Permission denied: '/a'"),
        (OSError(30, "Read-only file system", "/a", None, "/b"), "[Errno 30] Read-only file system: '/a' -> '/b'"),
        (DataError("no images"), "no images"),
    ],
)
def test_an_error_of_the_system_is_one_line_with_its_path(error, line, capsys):
    with pytest.raises(SystemExit), exit_with_message("twofold x"):
        raise error
    assert capsys.readouterr().err == f"twofold x: error: {line}\n"


SLEEPER = """
import sys, time
from pathlib import Path
from twofold.core.drafts import draft, scratch_folder
from twofold.core.artifacts import publish
with publish(Path(sys.argv[1])) as folder, draft(Path(sys.argv[2])) as file, scratch_folder() as scratch:
    for path in (folder / "a", file, scratch / "a"):
        path.write_bytes(b"half")
    print("ready", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def start(tmp_path, monkeypatch):
    """Start a process that is writing a folder, a file and a scratch folder."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(drafts.tempfile, "tempdir", str(tmp_path / "tmp"))
    started = []

    def begin():
        words = [sys.executable, "-c", SLEEPER, str(tmp_path / "data" / "raw"), str(tmp_path / "data" / "raw.json")]
        env = os.environ | {"TMPDIR": str(tmp_path / "tmp"), "PYTHONPATH": str(ROOT)}
        started.append(subprocess.Popen(words, env=env, stdout=subprocess.PIPE))
        assert started[-1].stdout.readline() == b"ready\n"
        return started[-1]

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def drafts_of(process, folder):
    return [path for path in folder.rglob(".*") if f"-{process.pid}-" in path.name]


@pytest.mark.parametrize("reaped", [True, False], ids=["gone", "a zombie"])
def test_drafts_of_killed_processes_are_swept_by_the_next_run_and_those_of_living_ones_stay(start, tmp_path, reaped):
    living, *killed = start(), start(), start()
    for process in killed:
        process.kill()
        if reaped:
            process.wait()
    time.sleep(0.2)
    own = [".raw.keep", ".raw.0a1b2c3d-1", ".gitignore"]
    for name in own:
        (tmp_path / "data" / name).touch()
    assert [len(drafts_of(process, tmp_path)) for process in (living, *killed)] == [3, 3, 3]
    write_bytes(tmp_path / "data" / "other.json", b"")  # of another step of the same folder
    with scratch_folder():
        assert [len(drafts_of(process, tmp_path)) for process in (living, *killed)] == [3, 0, 0]
    assert {*own, "other.json"} <= {path.name for path in (tmp_path / "data").iterdir()}


@pytest.mark.parametrize("age", [LEASE - 100, LEASE + 100])
def test_a_draft_of_another_machine_is_swept_after_the_lease_only(age, tmp_path, monkeypatch):
    monkeypatch.setattr(drafts, "_machine", lambda: "0" * 8)
    with draft(tmp_path / "thing") as name:
        name.mkdir()
        (name / "a").touch()
        shutil.copytree(name, tmp_path / f"{name.name[:-1]}{'0' if name.name[-1] != '0' else '1'}")
    (found,) = tmp_path.iterdir()
    os.utime(found, (time.time() - age,) * 2)
    monkeypatch.setattr(drafts, "_machine", lambda: "1" * 8)
    write_bytes(tmp_path / "other", b"")
    assert found.exists() == (age < LEASE)


def test_a_living_process_renews_its_draft(tmp_path, monkeypatch):
    monkeypatch.setattr(drafts, "RENEWAL", 0.02)
    with draft(tmp_path / "thing") as name:
        name.mkdir()
        os.utime(name, (0, 0))
        time.sleep(0.3)
        assert time.time() - name.stat().st_mtime < LEASE


def test_a_folder_whose_replacement_was_killed_half_way_gets_its_name_back(tmp_path):
    killed = subprocess.Popen(["true"])
    killed.wait()
    old = tmp_path / f".raw.{drafts._machine()}-{killed.pid}-7-0123abcd.old"
    old.mkdir()
    (old / "a").write_text("the only copy")
    write_bytes(tmp_path / "other", b"")
    assert (tmp_path / "raw" / "a").read_text() == "the only copy"
    shutil.copytree(tmp_path / "raw", old)
    write_bytes(tmp_path / "other", b"")
    assert left(tmp_path) == ["other", "raw", "raw/a"]
