"""Tiny prepared images and trained models for tests of training, made by the steps themselves in seconds."""

from pathlib import Path
from typing import Any

from tests.support.makers import UNAUDITED, UNJUDGED, make_folder
from twofold.orchestration.params_file import load_yaml
from twofold.steps.finetune_all import FinetuneAll, finetune_all
from twofold.steps.ingest import Ingest, ingest
from twofold.steps.preprocess import Preprocess, preprocess
from twofold.steps.train_head import TrainHead, train_head
from twofold.training.train_step import TrainingConfig

PARAMS = load_yaml(Path(__file__).resolve().parents[1] / "params.yaml")
HEAD: dict[str, Any] = PARAMS["train_head"] | {
    "backbone": "efficientnet_lite0",
    "weights": "random",
    "orientation_free": False,
    "epochs": 4,
    "patience": 4,
    "batch_size": 8,
    "weight_decay": 0.05,
    "class_weights": "balanced",
    "ema_decay": 0.9,
}
FINETUNE: dict[str, Any] = PARAMS["finetune_all"] | {
    "epochs": 2,
    "batch_size": 8,
    "ema_decay": 0.9,
    "crop_min_area": 0.8,
    "brightness": 0.1,
    "contrast": 0.1,
    "views": 2,
}
CONFIG = TrainingConfig(
    epochs=3,
    patience=None,
    batch_size=5,
    warmup_epochs=0.0,
    label_smoothing=0.0,
    class_weights=None,
    ema_decay=0.0,
    clip_norm=1.0,
    frozen_norms=True,
    mixed_precision=False,
    select_by="log_loss",
    seed=0,
)


def make_prepared(root: Path, per_class: int = 15, size: int = 32) -> Path:
    """`data/prepared` of generated grey images of two classes; `bad` is the positive one."""
    taken = {"max_bytes": 1 << 20, "max_pixels": 1 << 20, "min_side": 8}
    allowed = {"max_refused_fraction": 0.0, "min_per_class": 2, "require_checksum": False}
    source = make_folder(root / "images", per_class, size)
    ingest(
        Ingest(source=str(source), positive="bad", audit=UNJUDGED, **taken, **allowed),
        raw=root / "raw",
        metrics=root / "ingest.json",
        audit=root / "audit-ingest",
    )
    drawn = {"test_fraction": 0.2, "validation_fraction": 0.3, "split_salt": "tests"}
    preprocess(
        Preprocess(image_size=size, fit="squash", audit=UNAUDITED, **drawn),
        root / "raw",
        data=root / "prepared",
        metrics=root / "preprocess.json",
        audit=root / "audit",
    )
    return root / "prepared"


def make_head(data: Path, root: Path, **changes: Any) -> Path:
    """A head trained by its step with `HEAD` and the changes."""
    written = {"model": root / "head", "metrics": root / "head.json", "audit": root / "audit"}
    train_head(TrainHead(**(HEAD | changes)), data, data.with_name("audit"), **written)
    return root / "head"


def make_finetuned(data: Path, head: Path, root: Path, **changes: Any) -> Path:
    """A model trained by its step with `FINETUNE` and the changes."""
    finetune_all(FinetuneAll(**(FINETUNE | changes)), data, head, model=root / "model", metrics=root / "model.json")
    return root / "model"
