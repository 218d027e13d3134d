"""Prepared images and trained heads for tests of training: tiny, and made by the steps themselves.

In: a folder. Out: `data/prepared` of generated images, and parameters that train on it in seconds.
"""

from pathlib import Path
from typing import Any

from tests.support.makers import UNAUDITED, UNJUDGED, make_folder
from twofold.steps.finetune_all import FinetuneAll, finetune_all
from twofold.steps.ingest import Ingest, ingest
from twofold.steps.preprocess import Preprocess, preprocess
from twofold.steps.train_head import TrainHead, train_head

HEAD: dict[str, Any] = {
    "backbone": "efficientnet_lite0",
    "weights": "random",
    "flips": True,
    "orientation_free": False,
    "epochs": 4,
    "patience": 4,
    "batch_size": 8,
    "learning_rate": 0.001,
    "warmup_epochs": 1.0,
    "weight_decay": 0.05,
    "dropout": 0.5,
    "label_smoothing": 0.05,
    "class_weights": "balanced",
    "ema_decay": 0.9,
    "clip_norm": 1.0,
    "seed": 0,
    "audit": {"label_issues": "warn"},
}
FINETUNE: dict[str, Any] = {
    "epochs": 2,
    "batch_size": 8,
    "image_size": "prepared",
    "learning_rate": 0.0002,
    "stage_decay": 0.8,
    "head_learning_rate": 0.0002,
    "warmup_epochs": 0.5,
    "weight_decay": 0.05,
    "clip_norm": 1.0,
    "dropout": 0.5,
    "label_smoothing": 0.05,
    "class_weights": "none",
    "ema_decay": 0.9,
    "batch_norm": "frozen",
    "flips": True,
    "orientation_free": True,
    "crop_min_area": 0.8,
    "brightness": 0.1,
    "contrast": 0.1,
    "views": 2,
    "select_by": "log_loss",
    "seed": 0,
}


def make_prepared(root: Path, per_class: int = 15, size: int = 32) -> Path:
    """`data/prepared` of generated grey images of two classes, `bad` being the positive one."""
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
    """A head trained by its step, with `HEAD` but for the changes."""
    written = {"model": root / "head", "metrics": root / "head.json", "audit": root / "audit"}
    train_head(TrainHead(**(HEAD | changes)), data, **written)
    return root / "head"


def make_finetuned(data: Path, head: Path, root: Path, **changes: Any) -> Path:
    """A model trained by its step, with `FINETUNE` but for the changes."""
    finetune_all(FinetuneAll(**(FINETUNE | changes)), data, head, model=root / "model", metrics=root / "model.json")
    return root / "model"
