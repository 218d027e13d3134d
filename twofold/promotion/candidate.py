"""The candidate: a trained model and everything known about it, read from the artifacts of the steps.

Reads the paths of all artifacts; returns one object whose parts are checked to belong together, and its key: the digest
of model, decision and test images by which a registry recognises it.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twofold.audit.summary import AuditSummary, read_audits
from twofold.core.artifacts import digest, file_sha256, read_json, read_meta
from twofold.core.errors import ArtifactError
from twofold.data.prepared import VERSION as PREPARED_VERSION
from twofold.data.prepared import PreparedDataset
from twofold.data.raw import RawDataset
from twofold.data.splits import SPLITS
from twofold.evaluation.explanations import EXPLANATIONS, Explanations
from twofold.evaluation.explanations import read as read_explanations
from twofold.evaluation.predictions import PREDICTIONS, Predictions, fingerprint
from twofold.evaluation.predictions import read as read_predictions
from twofold.metrics.classification import METRICS_FILE, classification_metrics
from twofold.metrics.decision_threshold import DECISION
from twofold.metrics.influence import ModelOutputs
from twofold.metrics.metric_intervals import effective_images

KINDS = {
    "ingest": ("raw", 1),
    "preprocess": ("prepared", PREPARED_VERSION),
    "train_head": ("head", 1),
    "finetune_all": ("model", 1),
    "evaluate": ("evaluation", 5),
}


@dataclass(frozen=True)
class Candidate:
    """A model to be judged.

    Attributes:
        raw, head, model, evaluation: folders of the artifacts.
        about: each step's meta.json, by the step's name.
        metrics: metrics.json.
        decision: decision.json.
        explained: explanations of some test images.
        test: evaluate's predictions on the test images, in the order of `rows`.
        rows: of the test images in `prepared`.
        digests: SHA-256 of `train_head` and `finetune_all` (folders) and `decision` (file).
        test_fingerprint: SHA-256 over the sorted (sha256, label) rows of the test images.
        audits: the results of the data audits, check by check.
    """

    raw: Path
    head: Path
    model: Path
    evaluation: Path
    prepared: PreparedDataset
    about: Mapping[str, dict[str, Any]]
    metrics: dict[str, Any]
    decision: dict[str, Any]
    explained: Explanations
    test: Predictions
    rows: NDArray[np.int64]
    digests: Mapping[str, str]
    test_fingerprint: str
    audits: tuple[AuditSummary, ...]

    @property
    def key(self) -> str:
        """SHA-256 over model, decision and test images, which identifies the candidate."""
        parts = (self.digests["finetune_all"], self.digests["decision"], self.test_fingerprint)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    @property
    def labels(self) -> tuple[str, str]:
        """(negative, positive)."""
        negative, positive = self.decision["labels"]
        return negative, positive

    @property
    def splits(self) -> dict[str, frozenset[str]]:
        """The SHA-256 of the images of each split, which are sealed with the model."""
        sha256, split_of = self.prepared.sha256, self.prepared.split
        return {split: frozenset(sha256[split_of == split].tolist()) for split in SPLITS}

    @property
    def params(self) -> dict[str, Any]:
        """Every earlier step's section of parameters, by the step's name."""
        return {step: meta["params"] for step, meta in self.about.items()}

    def read_files(self, sha256: Iterable[str]) -> Iterator[bytes]:
        """Yield the bytes of image files by their SHA-256."""
        raw = RawDataset.open(self.raw)
        images = {image.sha256: image for image in raw.images}
        for each in sha256:
            yield raw.read(images[each])


def read_candidate(
    raw: Path,
    data: Path,
    head: Path,
    model: Path,
    evaluation: Path,
    ingest_audit: Path,
    preprocess_audit: Path,
    train_head_audit: Path,
) -> Candidate:
    """Read all artifacts and check that they were made from each other.

    Raises:
        ArtifactError: an artifact is missing, or belongs to other data, another model or another decision.
    """
    folders = {"ingest": raw, "preprocess": data, "train_head": head, "finetune_all": model, "evaluate": evaluation}
    about = {step: read_meta(folders[step], *kind) for step, kind in KINDS.items()}
    path = evaluation / DECISION
    decision, measured = read_json(path), read_json(evaluation / METRICS_FILE)
    digests = {"train_head": digest(head), "finetune_all": digest(model), "decision": file_sha256(path)}
    data_fingerprint, base = about["ingest"]["fingerprint"], about["finetune_all"]["base_sha256"]
    _check_same(data, "the data's fingerprint", about["preprocess"]["fingerprint"], data_fingerprint, "preprocess")
    _check_same(path, "the data's fingerprint", decision["fingerprint"], data_fingerprint, "evaluate")
    _check_same(path, "the model's digest", decision["model_digest"], digests["finetune_all"], "evaluate")
    _check_same(head, "the base weights' SHA-256", about["train_head"]["base_sha256"], base, "the training")
    audits = {"ingest": ingest_audit, "preprocess": preprocess_audit, "train_head": train_head_audit}
    checks = read_audits(audits, data_fingerprint)
    prepared = PreparedDataset.open(data)
    test = read_predictions(evaluation / PREDICTIONS).of("test")
    rows = prepared.rows("test")
    expected = list(zip(prepared.sha256[rows], prepared.target[rows], strict=True))
    if list(zip(test.sha256, test.target, strict=True)) != expected:
        raise ArtifactError(f"{evaluation / PREDICTIONS}: its test images are not those of {data}; run evaluate again")
    recomputed = classification_metrics(test.target, test.probability, decision["threshold"])
    recomputed |= {key: decision[key] for key in ("platt_slope", "platt_intercept", "threshold")} | {"n": len(test)}
    outputs = ModelOutputs(test.probability, decision["threshold"])
    recomputed |= zip(
        ("n_units", "n_effective"), effective_images(test.target, outputs, test.unit.tolist()), strict=True
    )
    for name, value in recomputed.items():
        found = measured.get(name)
        if not isinstance(found, int | float) or not math.isclose(found, value, rel_tol=1e-9, abs_tol=1e-9):
            raise ArtifactError(
                f"{evaluation / METRICS_FILE}: {name} is {found}, the predictions give {value}; run evaluate again"
            )
    return Candidate(
        raw=raw,
        head=head,
        model=model,
        evaluation=evaluation,
        prepared=prepared,
        about=about,
        metrics=measured,
        decision=decision,
        explained=read_explanations(evaluation / EXPLANATIONS),
        test=test,
        rows=rows,
        digests=digests,
        test_fingerprint=fingerprint(prepared.sha256[rows], prepared.column("label")[rows]),
        audits=checks,
    )


def sample_files(candidate: Candidate, most: int) -> tuple[list[bytes], NDArray[np.float64]]:
    """Return the file bytes of up to `most` test images, spread evenly over all, and evaluate's probability of each."""
    chosen = np.unique(np.linspace(0, len(candidate.rows) - 1, most).astype(int))
    return list(candidate.read_files(candidate.test.sha256[chosen])), candidate.test.probability[chosen]


def _check_same(path: Path, what: str, found: Any, expected: Any, step: str) -> None:
    if found != expected:
        raise ArtifactError(f"{path}: {what} is {found}, expected {expected}; run {step} again")
