"""What a step finds where it runs: user, GPU, shared memory, folders, weights, S3, MLflow. No step runs for it.

In: what the run's configuration promises (`Promise`). Out: findings, printed for the log and written as a page. It runs
in two pods, on the images and in the places of `ingest` and `finetune_all`: what it sees, those steps will see.
"""

import os
import shutil
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import replace
from http.client import HTTPException
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from twofold.core.artifacts import file_sha256, write_bytes
from twofold.core.errors import DataError, WeightsError
from twofold.core.params import Integer, Section, check_section
from twofold.orchestration.preflight_findings import Finding, failure, in_log, markdown, ok, warning
from twofold.orchestration.preflight_services import mlflow, s3

ROOM = 2 << 30  # bytes: a checkpoint of ResNet-50 with its optimizer's state, a few times


class Expectations(Section):
    task: Literal["ingest", "finetune_all"] = Field(description="the step in whose place and image this runs")
    gpus: Integer = Field(description="GPUs that it was given, 0 or more", ge=0)
    shm: Integer = Field(description="size of /dev/shm that was asked for, bytes; 0: none was", ge=0)
    checkpoints: bool = Field(description="whether a place for checkpoints was asked for")
    source: str = Field(description="ingest.source: a folder that the pods see, s3://bucket/… or dvc+…@…:…")
    bucket: str = Field(description="a bucket to look at; empty: the one of ingest.source")
    backbone: str = Field(description="train_head.backbone")
    weights: str = Field(description="train_head.weights")


def run_preflight(promise: Mapping[str, Any], page: str) -> None:
    """Check everything, print each finding for the log as it comes, and write all as Markdown.

    Raises:
        ParameterError: the promise is not one.
    """
    asked = check_section(Expectations, "doctor", promise)
    findings = []
    for found in _checks(asked):
        findings.append(replace(found, check=f"{asked.task}: {found.check}"))
        print(in_log(findings[-1]), flush=True)
    write_bytes(Path(page), markdown(findings).encode())


def _checks(asked: Expectations) -> Iterator[Finding]:
    yield user()
    if asked.task == "ingest":
        yield source(asked.source)
    else:
        yield gpus(asked.gpus)
        yield shared_memory(asked.shm)
        if asked.checkpoints:
            yield checkpoints()
        yield weights(asked.backbone, asked.weights)
        yield from mlflow()
    yield s3(asked.bucket or bucket_of(asked.source))


def bucket_of(address: str) -> str | None:
    return address.removeprefix("s3://").split("/")[0] if address.startswith("s3://") else None


def user() -> Finding:
    name = "user in the pod"
    if os.getuid() == 0:
        return failure(name, "root", "set the security context in resources.yaml: run_as_non_root")
    return ok(name, f"uid {os.getuid()}, gid {os.getgid()}")


def gpus(asked: int) -> Finding:
    """Whether torch sees as many GPUs as were asked for."""
    import torch

    name, count = "GPU in the pod", torch.cuda.device_count() if torch.cuda.is_available() else 0
    names = ", ".join(torch.cuda.get_device_name(number) for number in range(count)) or "none"
    seen = f"torch {torch.__version__} sees {names}; asked for {asked}"
    if count < asked:
        return failure(name, seen, "the node's driver is older than torch's CUDA, or the device plugin is missing")
    return ok(name, seen)


def shared_memory(asked: int, place: Path = Path("/dev/shm")) -> Finding:  # noqa: S108  (not a temporary file)
    name = str(place)
    if not place.is_dir():
        return failure(name, "not there", "the image or the runtime leaves it out: mount it by resources.yaml (shm)")
    size = shutil.disk_usage(place).total
    seen = f"{size / 2**20:.0f} MiB, asked for {asked / 2**20:.0f} MiB"
    if size < asked:
        return failure(name, seen, "the volume for /dev/shm did not arrive: see the pod's volumes; raise its memory")
    return ok(name, seen)


def checkpoints() -> Finding:
    """Whether a fine-tuning's checkpoints would outlive its pod."""
    name, given = "checkpoints", os.environ.get("TWOFOLD_CHECKPOINTS")
    if not given:
        remedy = "mount a volume for checkpoints in resources.yaml"
        return failure(name, "TWOFOLD_CHECKPOINTS is not set: a retry would begin from nothing", remedy)
    place = Path(given)
    try:
        place.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=place) as stream:
            stream.write(b"twofold")
            stream.flush()
    except OSError as error:
        remedy = "let the pods' group write there: fsGroup, or the volume's own permissions"
        return failure(name, f"{place}: {error.strerror or error}", remedy)
    free = shutil.disk_usage(place).free
    seen = f"{place}: writable, {free / 2**30:.1f} GiB free"
    if free < ROOM:
        return warning(name, seen, "make the volume larger: a checkpoint takes up to half a gigabyte, twice")
    return ok(name, seen)


def source(address: str) -> Finding:
    """Whether `ingest` will find its images."""
    name = "ingest.source"
    if bucket_of(address):
        return ok(name, f"{address}: see S3")
    if address.startswith("dvc+"):
        return _version(name, address)
    place = Path(address)
    try:
        holds = any(place.iterdir())
    except OSError as error:
        remedy = "mount the volume with the images in resources.yaml and name its folder: -p ingest.source=/…"
        return failure(name, f"{address}: {error.strerror or error}", remedy)
    if not holds:
        return failure(name, f"{address}: empty", "copy the images onto the volume")
    return ok(name, f"{address}: a folder with content")


def _version(name: str, address: str) -> Finding:
    """Whether Git and DVC give the listing of that version; the images' own objects are not asked for."""
    from twofold.sources.factory import open_source

    try:
        found = len(open_source(address).listing().entries)
    except DataError as error:
        remedy = "correct the address, or give the pods Git's and the DVC remote's credentials by a secret"
        return failure(name, str(error), remedy)
    return ok(name, f"{address}: {found} images are listed there")


def weights(backbone: str, name: str) -> Finding:
    """Whether the pretrained weights are at hand without a network."""
    import torch

    from twofold.training.pretrained_weights import RANDOM, fetch_weights
    from twofold.training.pretrained_weights import weights_source as entry

    check_name = f"weights {backbone} {name}"
    if name == RANDOM:
        return ok(check_name, "random: no file is needed")
    try:
        wanted = entry(backbone, name)
        if wanted.package or not wanted.url:
            return ok(check_name, str(fetch_weights(backbone, name)))
    except WeightsError as error:
        return failure(check_name, str(error).splitlines()[0], "install that package in the image")
    places = [Path(torch.hub.get_dir()) / "checkpoints" / wanted.file]
    if given := os.environ.get("TWOFOLD_WEIGHTS"):
        places.insert(0, Path(given) / wanted.file if Path(given).is_dir() else Path(given))
    for place in places:
        if place.is_file():
            found = file_sha256(place)
            if found.startswith(wanted.sha256):
                return ok(check_name, f"{place}, SHA-256 as published")
            remedy = f"put the right file there: its SHA-256 begins with {wanted.sha256[:16]}"
            return failure(check_name, f"{place}: another file, SHA-256 {found}", remedy)
    looked = " nor ".join(map(str, places))
    remedy = "build the image with the weights in it, or mount a volume and set TWOFOLD_WEIGHTS to its folder"
    if reason := _out_of_reach(wanted.url):
        return failure(check_name, f"neither at {looked}, and {wanted.url} is out of reach: {reason}", remedy)
    return warning(check_name, f"not at {looked}: every run will download them from {wanted.url}", remedy)


def _out_of_reach(url: str) -> str:
    """Why an address does not answer; empty if it does."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=8):  # noqa: S310
            return ""
    except urllib.error.HTTPError as error:
        error.close()
        return f"HTTP {error.code}"
    except (OSError, HTTPException) as error:
        return str(error)
