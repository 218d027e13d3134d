"""A candidate that is made in seconds and computed by hand: a model that reads an image's upper left pixel.

For an image with grey g there, the network's probability of `bad` is sigmoid(slope * g / 255 - slope / 2). On the test
split the good images have 10, 50, 90 and 150, the bad ones 125, 240 and 110; validation puts the threshold at 120. So
with slope 8, 2 of 3 bad images and 3 of 4 good ones are right: accuracy 5 / 7, ROC-AUC 10 / 12. The steps themselves
make the raw images, the prepared ones and the evaluation.
"""

import csv
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.support.makers import UNAUDITED, UNJUDGED, encode
from twofold.audit.checks import Check
from twofold.core import artifacts
from twofold.metrics.decision_threshold import MaxAccuracy
from twofold.model import classifier as models
from twofold.promotion.gates import Maximum, Minimum, NonInferior
from twofold.promotion.test_reuse import TestReuse
from twofold.reporting.audit_page import write_audit
from twofold.steps.evaluate import Evaluate, evaluate
from twofold.steps.ingest import Ingest, ingest
from twofold.steps.preprocess import Preprocess, preprocess
from twofold.steps.register import Register, register

SIZE = 32
IMAGES = [
    *(("train", grey, grey > 120) for grey in (0, 30, 200, 255)),
    *(("validation", grey, grey > 120) for grey in (20, 60, 100, 140, 180, 220)),
    *(("test", grey, False) for grey in (10, 50, 90, 150)),
    *(("test", grey, True) for grey in (125, 240, 110)),
]
# Seven images prove little: of two models with the same ranking, one may still be worse by 0.74.
GATES = [Minimum(figure="accuracy", min=0.7), NonInferior(figure="roc_auc", non_inferior_by=0.8)]
PARAMS = Register(
    experiment="trying",
    model_name="corner",
    gates=GATES,
    reference_since=1,
    test_reuse=TestReuse(candidates=0, error_rate=0.005),
    promotion="auto",
)
# The fields of an entry that do not depend on time and lock.
REPRODUCIBLE = ("number", "action", "version", "champion", "actor", "reason", "gates", "note")
A_RUN = re.compile(r"\b[0-9a-f]{32}\b")  # an id that MLflow draws
REFUSING = PARAMS.model_copy(update={"gates": [*GATES, Maximum(figure="brier", max=0.01)]})


class Paths(NamedTuple):
    """What register reads."""

    raw: Path
    data: Path
    head: Path
    model: Path
    evaluation: Path
    ingest_audit: Path
    preprocess_audit: Path
    train_head_audit: Path

    @property
    def metrics(self) -> Path:
        return self.evaluation / "metrics.json"


class Corner(nn.Module):
    """A backbone of one feature: the red of the upper left pixel."""

    def forward(self, images: Tensor) -> Tensor:
        return images[:, :1, 0, 0]


def know_corner(monkeypatch) -> None:
    """Add the backbone `corner` to this process; a fresh process does not have it."""
    corner = models.Backbone(features=1, mean=(0, 0, 0), std=(1, 1, 1), stages=(), make=Corner)
    monkeypatch.setitem(models.BACKBONES, "corner", corner)


def image(grey: int) -> bytes:
    """A PNG of noise, with `grey` in the upper left pixel."""
    pixels = np.random.default_rng(grey).integers(0, 256, (SIZE, SIZE), np.uint8)
    pixels[0, 0] = grey
    return encode(pixels)


def make_data(root: Path, more: Sequence[tuple[str, int, bool]] = ()) -> tuple[Path, Path]:
    """Make `raw` and `data` with ingest and preprocess, of IMAGES and more."""
    source = root / "images"
    source.mkdir(parents=True)
    with (source / "labels.csv").open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(("path", "label", "split", "type"))
        for split, grey, bad in (*IMAGES, *more):
            (source / f"{grey}.png").write_bytes(image(grey))
            rows.writerow((f"{grey}.png", "bad" if bad else "good", split, "mono" if grey < 100 else "poly"))
    accepted = {"max_bytes": 1 << 20, "max_pixels": 1 << 20, "min_side": 8}
    allowed = {"max_refused_fraction": 0.0, "min_per_class": 2, "require_checksum": False}
    taken = Ingest(source=str(source), positive="bad", audit=UNJUDGED, **accepted, **allowed)
    ingest(taken, raw=root / "raw", metrics=root / "ingest.json", audit=root / "ingest-audit")
    shares = {"test_fraction": 0.3, "validation_fraction": 0.3}
    made = Preprocess(image_size=SIZE, fit="squash", split_salt="x", audit=UNAUDITED, **shares)
    preprocess(
        made, root / "raw", data=root / "data", metrics=root / "preprocess.json", audit=root / "preprocess-audit"
    )
    return root / "raw", root / "data"


def make_model(folder: Path, kind: str, slope: float, data: Path) -> Path:
    """Make a folder like that of train_head (`head`) or finetune_all (`model`), as if trained on that data."""
    folder.mkdir(parents=True)
    classifier = models.build_classifier("corner", 0.5)
    with torch.no_grad():
        for weight in classifier.parameters():
            weight.zero_()
        classifier.head[0].weight[0, 0] = 1.0
        classifier.head[3].weight[1, 0] = slope
        classifier.head[3].bias[1] = -slope / 2
    weights = {name: value.contiguous() for name, value in classifier.state_dict().items()}
    save_file(weights, folder / f"{kind}.safetensors")
    (folder / "history.csv").write_text(
        "epoch,lr,train_loss,validation_log_loss\n0,,,0.7\n1,0.001,0.6,0.5\n2,0.0005,0.5,0.4\n"
    )
    origin = {"backbone": "corner", "weights": "random", "base_sha256": "b" * 64, "data_digest": artifacts.digest(data)}
    pixels = {"dropout": 0.5, "image_size": SIZE, "channels": 1, "mean": [0.0] * 3, "std": [1.0] * 3}
    labels = {"labels": ["good", "bad"], "positive": "bad", "winner": "finetuned", "best_epoch": 2}
    params = {"validation": {"log_loss": 0.4}, "params": {"epochs": 2, "seed": slope}}
    artifacts.write_meta(folder, kind, 1, **origin, **pixels, **labels, **params)
    return folder


def make_audit(folder: Path, data: Path, checks: Sequence[Check] = ()) -> Path:
    """Make a folder like that of an audit by train_head on that data, with the given checks."""
    fingerprint = artifacts.read_json(data / "meta.json")["fingerprint"]
    write_audit(folder, "train_head", checks, fingerprint=fingerprint, statistics={}, pixels=lambda sha256: None)
    return folder


def places(root: Path, data: tuple[Path, Path], head: Path, model: Path) -> Paths:
    """The paths that register reads for a model in `root`, with the audits of its data but without evaluation."""
    audits = [data[0].with_name(f"{step}-audit") for step in ("ingest", "preprocess")]
    own = make_audit(root / "train_head-audit", data[1])
    return Paths(*data, head, model, root / "evaluation", *audits, own)


def make_candidate(root: Path, data: tuple[Path, Path], slope: float = 8.0) -> Paths:
    """Make everything that register reads for a model of this slope, with the evaluation."""
    model = make_model(root / "model", "model", slope, data[1])
    head = make_model(root / "head", "head", slope, data[1])
    paths = places(root, data, head, model)
    settings = {"views": 1, "precision": "float32", "batch_size": 4, "robustness": 7, "pictures": False}
    params = Evaluate(threshold=MaxAccuracy(policy="max_accuracy"), **settings)
    evaluate(params, paths.data, model, evaluation=paths.evaluation, metrics=root / "metrics.json")
    return paths


def make_candidates(root: Path, *slopes: float) -> list[Paths]:
    """Make the data, and candidates on it that differ only in their slopes, for a fixture that many tests share."""
    with pytest.MonkeyPatch.context() as patch:
        know_corner(patch)
        data = make_data(root / "data")
        return [make_candidate(root / f"candidate {slope}", data, slope) for slope in slopes]


def make_known(root: Path) -> tuple[tuple[Path, Path], Paths]:
    """Make the data and one candidate."""
    (known,) = make_candidates(root, 8.0)
    return known[:2], known


def run(paths: Paths, root: Path, params: Register = PARAMS) -> dict:
    """Register the candidate and return the verdict."""
    written = {"registration": root / "registration", "verdict": root / "registration.json"}
    register(params, *paths, **written, index=root / "index.html")
    return artifacts.read_json(root / "registration.json")


def copy(paths: Paths, root: Path) -> Paths:
    """Copy the candidate's own artifacts, not its data, into another folder, so that a test can alter them."""
    return Paths(*paths[:2], *(Path(shutil.copytree(path, root / path.name)) for path in paths[2:]))


class Killed(Exception):  # noqa: N818
    """Raised by a test instead of a write."""


class Watched:
    """An MLflow client that counts its writes and can die before one of them."""

    READS = ("get_", "search_", "list_", "download_")

    def __init__(self, client, kill_before: int | None = None) -> None:
        self._client = client
        self._kill_before = kill_before
        self.writes: list[str] = []

    def __getattr__(self, name: str) -> Callable:
        method = getattr(self._client, name)
        if name.startswith(self.READS):
            return method

        def write(*args, **kwargs):
            if len(self.writes) == self._kill_before:
                raise Killed(name)
            self.writes.append(name)
            return method(*args, **kwargs)

        return write


def watch(monkeypatch, kill_before: int | None = None) -> Watched:
    """Make every new connection use one watched client."""
    from twofold.tracking import store as tracking

    watched = Watched(tracking._client(tracking.address()), kill_before)
    monkeypatch.setattr(tracking, "_client", lambda uri: watched)
    return watched


def hurry(monkeypatch) -> list[int]:
    """Skip the smoke test in a fresh process, which tests/slow covers, and the page's charts; both take seconds.

    Returns:
        A list to which every smoke test adds its number of images.
    """
    from twofold.registry import registration
    from twofold.reporting import decision_page

    know_corner(monkeypatch)
    counts: list[int] = []

    def run_smoke_test(model, images, expected, *, threshold, labels, precision):
        assert (model / "MLmodel").is_file()
        counts.append(len(images))
        return 0.0

    monkeypatch.setattr(registration, "run_smoke_test", run_smoke_test)
    monkeypatch.setattr(decision_page, "render", lambda judged, outcome, recorded: "<h1>the page</h1>")
    return counts


def state() -> dict:
    """The result of a registration without ids and times, for comparison with another one."""
    from twofold.registry import ledger
    from twofold.tracking import store as tracking
    from twofold.tracking.runs import RUN_KEY
    from twofold.tracking.store import DIGEST

    client = tracking.connect().client
    (place,) = [found.experiment_id for found in client.search_experiments() if found.name == "trying"]
    runs = sorted(client.search_runs([place]), key=lambda run: run.data.tags.get(RUN_KEY) or run.data.tags[DIGEST])
    own = {"mlflow.runName", "twofold.model_id"}
    return {
        "runs": [
            (
                run.info.status,
                run.data.params,
                run.data.metrics,
                {key: A_RUN.sub("a run", value) for key, value in run.data.tags.items() if key not in own},
                [(data.dataset.digest, data.tags[0].value) for data in run.inputs.dataset_inputs],
                sorted(info.path for info in client.list_artifacts(run.info.run_id)),
                len(run.outputs.model_outputs),
                sum(len(client.get_metric_history(run.info.run_id, key)) for key in run.data.metrics),
            )
            for run in runs
        ],
        "models": sorted(
            (str(model.status), sorted(model.tags.items()), sorted((m.key, m.value) for m in model.metrics))
            for model in client.search_logged_models([place])
        ),
        "versions": [
            (v.version, {key: A_RUN.sub("a run", value) for key, value in v.tags.items()}, v.description)
            for v in client.search_model_versions("name = 'corner'")
        ],
        "aliases": client.get_registered_model("corner").aliases,
        "ledger": [
            [getattr(entry, field) for field in REPRODUCIBLE]
            for entry in ledger.read(client.get_registered_model("corner").tags).entries
        ],
    }
