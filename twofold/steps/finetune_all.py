"""finetune_all: trains all weights of the network, starting from the trained head.

Reads the prepared images and the trained head. Writes the whole model of the epoch that is best on validation
(`model.safetensors`), `history.csv`, and `meta.json`, which says whether fine-tuning or the head alone was better. A
killed step continues from its last checkpoint: the last whole epoch, or on a GPU one that is up to 15 seconds older.
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator

from twofold.core.params import Integer, Number, Section

_FROM_HEAD = ("backbone", "weights", "base_sha256", "image_size", "channels", "mean", "std", "labels", "positive")


class ImageSize(Section):
    start: Integer = Field(description="Side in the first epochs, pixels, 32 to below end", ge=32, le=1024)
    end: Integer = Field(description="Side in the other epochs, pixels: preprocess.image_size", ge=32, le=1024)
    at: Number = Field(description="Share of the epochs with small images, above 0 to below 1", gt=0, lt=1)

    @field_validator("end", mode="after")
    @classmethod
    def _check_above_start(cls, end: int, info: ValidationInfo) -> int:
        if info.data.get("start", 0) >= end:
            raise ValueError(f"must be above start, which is {info.data['start']}")
        return end


def _size_tag(value: object) -> str | None:
    return "prepared" if isinstance(value, str) else "sizes" if isinstance(value, dict | ImageSize) else None


Sizes = Annotated[
    Annotated[Literal["prepared"], Tag("prepared")] | Annotated[ImageSize, Tag("sizes")],
    Discriminator(
        _size_tag,
        custom_error_type="sizes",
        custom_error_message="must be prepared, or a section that holds start, end and at",
    ),
]


class FinetuneAll(Section):
    epochs: Integer = Field(description="Passes over the training images, 1 to 10000", ge=1, le=10000)
    batch_size: Integer = Field(description="Images per step at most, 1 to 65536; 16 is best on a CPU", ge=1, le=65536)
    image_size: Sizes = Field(
        description="Size of the training images: prepared (as they are), or a section: {start: 160, end: 224, "
        "at: 0.75} scales them to 160 px in the first 75 % of the epochs, which is faster (docs/guides/training.md)"
    )
    learning_rate: Number = Field(
        description="AdamW's peak learning rate for the backbone's top stage, above 0 to 1", gt=0, le=1
    )
    stage_decay: Number = Field(
        description="Factor of the learning rate from a backbone stage to the one below it, above 0 to 1", gt=0, le=1
    )
    head_learning_rate: Number = Field(description="AdamW's peak learning rate for the head, above 0 to 1", gt=0, le=1)
    warmup_epochs: Number = Field(description="Epochs until the peak, 0 to 100; then cosine decay to 0", ge=0, le=100)
    weight_decay: Number = Field(description="AdamW's weight decay, not on norms and biases, 0 to 1", ge=0, le=1)
    clip_norm: Number = Field(description="Largest norm of a step's gradient, above 0", gt=0)
    dropout: Number = Field(description="Dropout between the head's two dense layers, 0 to below 1", ge=0, lt=1)
    label_smoothing: Number = Field(description="Share of a label spread over both classes, 0 to 0.5", ge=0, le=0.5)
    class_weights: Literal["none", "balanced"] = Field(
        description="Class weights in the loss, also on validation: none, or balanced (half of the weight to a class)"
    )
    ema_decay: Number = Field(
        description="Decay of the moving average (EMA) of weights that is kept, 0 (off) to below 1", ge=0, lt=1
    )
    batch_norm: Literal["frozen", "live"] = Field(
        description="Batch-norm statistics: frozen (as pretrained) or live (of each batch)"
    )
    flips: bool = Field(description="Whether training images are mirrored left to right at random")
    orientation_free: bool = Field(
        description="Whether rotation by right angles and mirroring keep the class; training then does both at random"
    )
    crop_min_area: Number = Field(
        description="Smallest share of an image that a random square crop keeps, 0.05 to 1 (no crop)", ge=0.05, le=1
    )
    brightness: Number = Field(description="Largest relative change of brightness at random, 0 to 1", ge=0, le=1)
    contrast: Number = Field(description="Largest relative change of contrast at random, 0 to 1", ge=0, le=1)
    views: Literal[1, 2, 4, 8] = Field(
        description="Test-time augmentation on validation: views of an image that are averaged: 1; 2 (mirrored; needs "
        "flips or orientation_free); 4 (rotations by right angles) or 8 (mirrored too), which need orientation_free"
    )
    select_by: Literal["log_loss", "roc_auc", "accuracy"] = Field(
        description="Validation metric that selects the epoch: log_loss, roc_auc, accuracy; epoch 0 is the head alone"
    )
    seed: Integer = Field(description="Seed of order, dropout and augmentation, 0 to 2147483647", ge=0, le=2147483647)

    @field_validator("views", mode="before")
    @classmethod
    def _check_views(cls, views: object, info: ValidationInfo) -> object:
        if isinstance(views, bool):
            raise ValueError("must be 1, 2, 4 or 8")
        free, flips = info.data.get("orientation_free"), info.data.get("flips")
        if views in (4, 8) and free is False:
            raise ValueError("4 and 8 need orientation_free: true")
        if views == 2 and flips is False and free is False:
            raise ValueError("2 needs flips: true or orientation_free: true")
        return views


def finetune_all(params: FinetuneAll, data: Path, head: Path, *, model: Path, metrics: Path) -> None:
    """Train the whole network from the head's weights, and keep the epoch that is best on validation.

    Raises:
        ArtifactError: the head was trained on other data, on other splits or for another image size.
        ParameterError: image_size.end is not the size of the prepared images, or the backbone takes one size only.
        WeightsError: the pretrained base is not the one that the head was trained on.
    """
    import math
    from contextlib import ExitStack

    import torch
    from safetensors.torch import save_file

    from twofold.core.artifacts import digest, publish, read_meta, write_json, write_meta
    from twofold.core.errors import ArtifactError, ParameterError, WeightsError
    from twofold.core.progress import say
    from twofold.data.prepared import PreparedDataset
    from twofold.model.classifier import KIND, SCHEMA_VERSION, copy_weights, find_backbone
    from twofold.model.device import device, has_bf16, inference_batch_size, make_deterministic
    from twofold.model.inference import probabilities
    from twofold.model.torch_compile import compiled, should_compile
    from twofold.tracking.live_run import live_run
    from twofold.training.augmentation import Augmentation
    from twofold.training.checkpoint import Checkpoint, dependencies
    from twofold.training.conv_bn_folding import depthwise_in_float32, folded_batchnorm
    from twofold.training.data_loader import ProgressiveResizing, TrainingBatches
    from twofold.training.history import Metrics, format_metrics, validation_metrics, write_history
    from twofold.training.loop import SHARED, class_weights, train
    from twofold.training.optimizer import layer_decay_groups
    from twofold.training.pretrained_weights import pretrained
    from twofold.training.train_step import TrainingConfig

    make_deterministic()
    target_device = device()
    images = PreparedDataset.open(data)
    start = read_meta(head, "head", 1)
    if start["image_size"] != images.size:
        raise ArtifactError(
            f"{head}: made for images of {start['image_size']} px, {data} has {images.size}; run train_head again"
        )
    sizes = None if params.image_size == "prepared" else params.image_size
    if sizes and sizes.end != images.size:
        raise ParameterError(
            f"finetune_all.image_size.end: found {sizes.end}; {data} has images of {images.size} px: set it to that"
        )
    architecture = find_backbone(start["backbone"], images.size)
    classifier, base = pretrained(start["backbone"], start["weights"], params.dropout, images.size)
    if base != start["base_sha256"]:
        raise WeightsError(f"{head}: fits the base {start['base_sha256']}, found {base}; run train_head again")
    if sizes and getattr(classifier.backbone, "pretrained_cfg", {}).get("fixed_input_size"):
        raise ParameterError(
            f"finetune_all.image_size: {start['backbone']} takes images of one size; set it to prepared"
        )
    copy_weights(classifier.head, head / "head.safetensors")
    classifier.to(target_device).to(memory_format=torch.channels_last)

    rows, validation_rows = images.rows("train"), images.rows("validation")
    targets = images.target[rows]
    weights = class_weights(params.class_weights, targets)
    batches = TrainingBatches(
        classifier,
        images,
        rows,
        Augmentation(**params.model_dump(include=set(Augmentation.__dataclass_fields__))),
        mean=architecture.mean,
        std=architecture.std,
        batch_size=params.batch_size,
        resolution=ProgressiveResizing(**sizes.model_dump(), epochs=params.epochs) if sizes else None,
    )

    def validate() -> Metrics:
        size = params.batch_size
        if target_device.type != "cpu":
            size = max(size, inference_batch_size(target_device, images.size))
        starts = range(0, len(validation_rows), size)
        found = probabilities(
            classifier,
            (images.pixels(validation_rows[i : i + size]) for i in starts),
            mean=architecture.mean,
            std=architecture.std,
            views=params.views,
            precision="bfloat16" if has_bf16(target_device) else "float32",
        )
        return validation_metrics(images.target[validation_rows], found, weights)

    config = TrainingConfig(
        **params.model_dump(include=SHARED),
        patience=None,
        class_weights=weights,
        frozen_norms=params.batch_norm == "frozen",
        mixed_precision=True,
        select_by=params.select_by,
    )
    steps = params.epochs * math.ceil(len(rows) / params.batch_size)
    compiles = should_compile(target_device, steps, params.batch_size, images.size)
    groups = layer_decay_groups(
        classifier,
        architecture.stages,
        learning_rate=params.learning_rate,
        head_learning_rate=params.head_learning_rate,
        stage_decay=params.stage_decay,
        weight_decay=params.weight_decay,
    )
    values = params.model_dump(mode="json")
    checkpoint = Checkpoint("finetune_all", dependencies("finetune_all", values, data=data, head=head))
    if start.get("data_digest") != checkpoint.parts["data"]:
        # Its training images may include test images of this data.
        raise ArtifactError(f"{head}: trained on other data than {data}, or on other splits; run train_head again")
    with live_run("finetune_all", values, resume_key=checkpoint.key) as run, ExitStack() as arithmetic:
        if config.frozen_norms:
            arithmetic.enter_context(folded_batchnorm(classifier.backbone))
        if target_device.type == "cpu":
            arithmetic.enter_context(depthwise_in_float32(classifier.backbone))
        outcome = train(
            classifier,
            batches.inputs,
            targets,
            groups,
            config,
            judge=validate,
            label="fine-tuning",
            forward=compiled(batches.forward, "fine-tuning") if compiles else batches.forward,
            checkpoint=checkpoint,
            log=run.log,
        )
        best_finetuned = outcome.best_after(1, params.select_by)
        validation = {"head_only": outcome.metrics(0), "finetuned": outcome.metrics(best_finetuned)}
        winner = "finetuned" if outcome.best_epoch else "head_only"
        results = {"winner": winner, "best_epoch": outcome.best_epoch, "validation": validation}
        with publish(model) as draft:
            save_file({n: t.cpu().contiguous() for n, t in outcome.best.items()}, draft / "model.safetensors")
            write_history(draft / "history.csv", outcome.history)
            write_meta(
                draft,
                KIND,
                SCHEMA_VERSION,
                **{key: start[key] for key in _FROM_HEAD},
                **results,
                data_digest=checkpoint.parts["data"],
                dropout=params.dropout,
                params=values,
            )
        run.finish(digest(model))
    checkpoint.remove()
    write_json(metrics, results)
    for name, found in validation.items():
        say(f"{name.replace('_', ' ')}: {format_metrics(found)}")
    say(f"kept: {winner.replace('_', ' ')}, epoch {outcome.best_epoch} of {outcome.epoch}, by {params.select_by}")


if __name__ == "__main__":
    from twofold.orchestration.step_cli import main

    main(finetune_all)
