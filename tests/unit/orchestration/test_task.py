import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.support.makers import encode, make_folder, pixels
from twofold.core.artifacts import digest
from twofold.core.errors import SourceError
from twofold.orchestration import task
from twofold.orchestration.params_file import load_yaml
from twofold.orchestration.task import check_parameters_and_source, copy_output, digest_of, run_step, write_output
from twofold.sources.local_folder import FolderSource
from twofold.sources.version import read_source_version
from twofold.steps.ingest import Ingest, ingest
from twofold.steps.register import register
from twofold.steps.train_head import train_head

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def sections():
    return load_yaml(ROOT / "tests" / "params.yaml")


@pytest.fixture
def section(sections, alone):
    return sections["ingest"] | {"source": str(make_folder(alone / "images", per_class=10)), "positive": "bad"}


@pytest.fixture
def places(alone):
    return {name: str(alone / "out" / name) for name in ("raw", "metrics")}


@pytest.fixture
def audit(alone):
    return str(alone / "out" / "audit")


def as_kubeflow_sends_it(values):
    """Every number as a float, as in a protobuf Struct."""
    return json.loads(json.dumps(values), parse_int=float)


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    own = ("TWOFOLD_SOURCE_VERSION", "SOME_VARIABLE", "MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT")
    for name in ("KUBERNETES_SERVICE_HOST", "MLFLOW_TRACKING_URI", *own):
        # Set, then removed, so that monkeypatch restores what a task sets.
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_a_step_runs_on_whole_numbers_that_came_as_floats_and_returns_its_digest(section, places, audit):
    sent = as_kubeflow_sends_it(section)
    assert isinstance(sent["max_bytes"], float)
    found = run_step(ingest, sent, {}, {}, **places, audit=audit)
    assert found == digest(Path(places["raw"]))
    assert json.loads(Path(places["metrics"]).read_text())["images"] == 20


def test_the_audit_has_a_digest(section, places, audit):
    run_step(ingest, section, {}, {}, **places, audit=audit)
    assert digest_of(audit) == digest(Path(audit))


@pytest.mark.parametrize("value", [50_000_000.5, "50000000", True, float("nan"), None])
def test_an_invalid_number_fails_the_task_before_anything_is_written(section, places, audit, alone, capsys, value):
    with pytest.raises(SystemExit) as failed:
        run_step(ingest, section | {"max_bytes": value}, {}, {}, **places, audit=audit)
    assert failed.value.code == 1
    assert "twofold ingest: error: params.yaml:\n  ingest.max_bytes: found" in capsys.readouterr().err
    assert not (alone / "out").exists()


def test_no_allowed_whole_number_is_too_large_for_a_float():
    """Kubeflow sends floats, which hold whole numbers up to 2^53. `views` is one of four."""
    from twofold.orchestration.params_file import STEPS, section_model

    unbounded = set()
    for step in STEPS:
        for name, field in section_model(step).model_fields.items():
            if field.annotation is int:
                bounds = [found.le for found in field.metadata if hasattr(found, "le")]
                unbounded |= set() if bounds and max(bounds) <= 2**53 else {f"{step}.{name}"}
    assert unbounded == {"evaluate.views"}


def test_an_input_that_changed_since_it_was_written_is_refused(section, places, alone, capsys):
    (alone / "read").mkdir()
    (alone / "read" / "file").write_text("as it was")
    before = digest(alone / "read")

    def step(params, source, *, raw, metrics):
        """Read something."""
        raw.parent.mkdir()
        raw.write_text(source.name)
        metrics.write_text("{}")

    step.__name__ = "ingest"
    run_step(step, section, {"source": before}, {}, source=str(alone / "read"), **places)
    (alone / "read" / "file").write_text("as it is now")
    with pytest.raises(SystemExit):
        run_step(step, section, {"source": before}, {}, source=str(alone / "read"), **places)
    assert f"the task that wrote it returned {before}" in capsys.readouterr().err
    # The cache of Kubeflow does not notice that an artifact was deleted.
    (alone / "read" / "file").unlink()
    (alone / "read").rmdir()
    with pytest.raises(SystemExit):
        run_step(step, section, {"source": before}, {}, source=str(alone / "read"), **places)
    assert capsys.readouterr().err == (
        f"twofold ingest: error: source ({alone / 'read'}): deleted since an earlier run wrote it into the cache; run "
        "again with --force and a new text, which takes nothing from the cache\n"
    )


def test_a_step_that_does_not_write_every_output_fails(section, places, capsys):
    def step(params, *, raw, metrics):
        """Forget the metrics."""
        raw.parent.mkdir()
        raw.write_text("there")

    step.__name__ = "ingest"
    with pytest.raises(SystemExit):
        run_step(step, section, {}, {}, **places)
    assert "ended without having written metrics" in capsys.readouterr().err


def test_the_pods_own_variables_take_precedence(section, places, monkeypatch):
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    seen = {}

    def step(params: Ingest, *, raw, metrics):
        """Record the environment."""
        seen.update(os.environ)
        raw.parent.mkdir()
        raw.write_text("a")
        metrics.write_text("b")

    step.__name__ = "ingest"
    run_step(step, section, {}, {"SOME_VARIABLE": "given", "EMPTY_VARIABLE": ""}, **places)
    assert (seen["SOME_VARIABLE"], seen["OMP_WAIT_POLICY"]) == ("given", "ACTIVE")
    assert "EMPTY_VARIABLE" not in seen


@pytest.mark.parametrize("step", [train_head, register])
def test_in_a_pod_a_tracking_server_is_required(sections, step, monkeypatch, capsys):
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    with pytest.raises(SystemExit):
        run_step(step, sections[step.__name__], {}, {})
    assert "MLFLOW_TRACKING_URI is not set in this pod" in capsys.readouterr().err


def test_ingest_needs_no_mlflow_in_a_pod(section, places, audit, monkeypatch):
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", "10.0.0.1")
    assert run_step(ingest, section, {}, {}, **places, audit=audit)


def test_a_mistake_in_the_last_section_fails_the_first_task(sections, capsys):
    sent = as_kubeflow_sends_it(sections)
    sent["register"]["gates"] = []
    sent["finetune_all"]["epochs"] = 0.0
    with pytest.raises(SystemExit):
        check_parameters_and_source(**sent)
    errors = capsys.readouterr().err
    assert "twofold source_version: error: params.yaml:" in errors
    assert "register.gates" in errors
    assert "finetune_all.epochs" in errors


def test_the_first_task_returns_the_sources_version_the_experiment_and_the_address(sections, section, capsys):
    sent = as_kubeflow_sends_it(sections | {"ingest": section})
    version, experiment, source = check_parameters_and_source(**sent)
    assert version == read_source_version(FolderSource(Path(section["source"])), 10**6)
    assert (experiment, source) == (sections["register"]["experiment"], section["source"])
    assert f"source_version: {version[:12]} of {source}" in capsys.readouterr().err


def test_a_source_that_cannot_be_read_fails_the_first_task(sections, section, capsys):
    with pytest.raises(SystemExit):
        check_parameters_and_source(**(sections | {"ingest": section | {"source": "/nowhere"}}))
    assert "twofold source_version: error: /nowhere: no such folder" in capsys.readouterr().err


@pytest.mark.parametrize("change", ["label", "content", "new", "gone"])
def test_a_source_that_changes_before_ingest_reads_it_fails_the_run(section, places, audit, alone, capsys, change):
    folder = Path(section["source"])
    first = folder / "bad" / "00000.png"
    version = read_source_version(FolderSource(folder), section["max_bytes"])
    if change == "label":
        first.rename(folder / "good" / "other.png")
    elif change == "gone":
        first.unlink()
    else:
        before = first.stat()
        (first if change == "content" else folder / "bad" / "new.png").write_bytes(
            encode(255 - pixels(np.random.default_rng(1), 64, bad=True))
        )
        os.utime(first, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(SystemExit):
        run_step(ingest, section, {}, {"TWOFOLD_SOURCE_VERSION": version}, **places, audit=audit)
    assert f"error: {folder}: changed after this run had started" in capsys.readouterr().err
    assert not (alone / "out" / "raw").exists()


def test_an_unchanged_source_is_ingested_refused_files_included(section, places, audit):
    folder = Path(section["source"])
    (folder / "bad" / "broken.png").write_bytes(b"no image")
    (folder / "bad" / "large.png").write_bytes(bytes(2_000_000))
    section |= {"max_bytes": 1_000_000, "max_refused_fraction": 0.5}
    version = read_source_version(FolderSource(folder), section["max_bytes"])
    assert run_step(ingest, section, {}, {"TWOFOLD_SOURCE_VERSION": version}, **places, audit=audit)


def failing(errors):
    """A step that raises one error after the other, then succeeds; and the seconds that it was waited for."""

    def step(params, *, raw, metrics):
        """Fail, or write something."""
        if errors:
            raise errors.pop(0)
        raw.parent.mkdir()
        raw.write_text("there")
        metrics.write_text("{}")

    step.__name__ = "ingest"
    return step


@pytest.fixture
def waits(monkeypatch):
    seconds = []
    monkeypatch.setattr(task.time, "sleep", seconds.append)
    return seconds


FULL = "CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 79.25 GiB."


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (SourceError("s3://images: it is busy\nlook there", transient=True), "s3://images: it is busy"),
        (torch.OutOfMemoryError(FULL), f"the GPU's memory is full: {FULL}; free it"),
        (
            RuntimeError("CUDA error: out of memory\nCompile with"),
            "the GPU's memory is full: CUDA error: out of memory;",
        ),
    ],
)
def test_a_transient_error_is_told_and_the_step_is_tried_again(section, places, capsys, waits, error, message):
    expected = run_step(failing([]), section, {}, {}, **places)
    for path in places.values():
        Path(path).unlink()
    Path(places["raw"]).parent.rmdir()
    assert run_step(failing([error, error]), section, {}, {}, **places) == expected
    lines = capsys.readouterr().err.splitlines()
    assert [line.startswith(f"twofold ingest: {message}") for line in lines] == [True, True]
    assert lines[0].endswith("; trying again in 10 s (try 2 of 5)")
    assert lines[1].endswith("; trying again in 20 s (try 3 of 5)")
    assert waits == [10, 20]


def test_after_five_tries_a_transient_error_ends_the_task(section, places, capsys, waits):
    errors = [SourceError("s3://images: it is busy", transient=True)] * 6
    with pytest.raises(SystemExit) as failed:
        run_step(failing(errors), section, {}, {}, **places)
    assert failed.value.code == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == "twofold ingest: error: after 5 tries: s3://images: it is busy"
    assert (len(lines), len(errors), waits) == (5, 1, [10, 20, 40, 80])


@pytest.mark.parametrize("error", [SourceError("s3://images: no such bucket"), RuntimeError("a bug")])
def test_another_error_is_not_tried_again(section, places, waits, error):
    with pytest.raises((SystemExit, RuntimeError)):
        run_step(failing([error]), section, {}, {}, **places)
    assert waits == []


def test_what_a_failed_try_held_on_the_gpu_is_freed_before_the_next(section, places, monkeypatch, waits):
    freed = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: freed.append(len(waits)))
    run_step(failing([torch.OutOfMemoryError(FULL)]), section, {}, {}, **places)
    assert freed == [0]


def test_pages_are_copied_whole_or_not_at_all(alone, capsys):
    write_output(str(alone / "deep" / "page"), "Größe")
    copy_output(str(alone / "deep" / "page"), str(alone / "other" / "page"))
    assert (alone / "other" / "page").read_text(encoding="utf-8") == "Größe"
    with pytest.raises(SystemExit):
        copy_output(str(alone / "none"), str(alone / "third" / "page"))
    assert f"No such file or directory: '{alone}/none'" in capsys.readouterr().err
    assert not (alone / "third").exists()
