"""Step 4: every weight trains, from the head's.

In: prepared images and the trained head. Out: the whole model (`model.safetensors`) of the best epoch by validation,
`history.csv`, and in `meta.json` whether fine-tuning or the head alone won. A step that was killed goes on from its
last checkpoint, which is that of its last whole epoch (on a GPU, of up to 15 seconds before).
"""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator

from twofold.core.params import Integer, Number, Section


class ImageSize(Section):
    start: Integer = Field(description="pixels a side of the first epochs, 32 to below end", ge=32, le=1024)
    end: Integer = Field(description="pixels a side of the others: preprocess.image_size", ge=32, le=1024)
    at: Number = Field(description="share of the epochs that are small, above 0 to below 1", gt=0, lt=1)

    @field_validator("end", mode="after")
    @classmethod
    def _above_start(cls, end: int, info: ValidationInfo) -> int:
        if info.data.get("start", 0) >= end:
            raise ValueError(f"must be above start, which is {info.data['start']}")
        return end


def _kind(value: object) -> str | None:
    kinds: dict[type, str] = {str: "prepared", dict: "sizes", ImageSize: "sizes"}
    return kinds.get(type(value))


Sizes = Annotated[
    Annotated[Literal["prepared"], Tag("prepared")] | Annotated[ImageSize, Tag("sizes")],
    Discriminator(
        _kind,
        custom_error_type="sizes",
        custom_error_message="must be prepared, or a section that holds start, end and at",
    ),
]


class FinetuneAll(Section):
    epochs: Integer = Field(description="passes over the training images, 1 to 10000", ge=1, le=10000)
    batch_size: Integer = Field(description="images a step at most, 1 to 65536; 16 is best on a CPU", ge=1, le=65536)
    image_size: Sizes = Field(
        description="of training: prepared (as they are), or a section: {start: 160, end: 224, at: 0.75} scales them "
        "down in the first three quarters of the epochs, which is faster (docs/recipe.md)"
    )
    learning_rate: Number = Field(
        description="peak of AdamW's learning rate at the backbone's top stage, above 0 to 1", gt=0, le=1
    )
    stage_decay: Number = Field(
        description="factor of the learning rate from a stage to the one below it, above 0 to 1", gt=0, le=1
    )
    head_learning_rate: Number = Field(description="its peak for the head, above 0 to 1", gt=0, le=1)
    warmup_epochs: Number = Field(description="epochs until the peak, 0 to 100; then a cosine to 0", ge=0, le=100)
    weight_decay: Number = Field(description="AdamW's, not on norms and biases, 0 to 1", ge=0, le=1)
    clip_norm: Number = Field(description="greatest norm of a step's gradient, above 0", gt=0)
    dropout: Number = Field(description="between the head's two dense layers, 0 to below 1", ge=0, lt=1)
    label_smoothing: Number = Field(description="share of a label spread over both classes, 0 to 0.5", ge=0, le=0.5)
    class_weights: Literal["none", "balanced"] = Field(
        description="in the loss: none, or balanced (both classes weigh the same in sum)"
    )
    ema_decay: Number = Field(
        description="of the average of the weights that is judged and kept, 0 (none) to below 1", ge=0, lt=1
    )
    batch_norm: Literal["frozen", "live"] = Field(
        description="statistics of batch norm: as pretrained (frozen), or of each batch (live)"
    )
    flips: bool = Field(description="mirror training images left and right at random")
    orientation_free: bool = Field(
        description="an image may be turned by right angles and mirrored in every way without changing its class"
    )
    crop_min_area: Number = Field(
        description="share of the image that a random square crop keeps at least, 0.05 to 1 (no crop)", ge=0.05, le=1
    )
    brightness: Number = Field(description="greatest relative change at random, 0 to 1", ge=0, le=1)
    contrast: Number = Field(description="greatest relative change at random, 0 to 1", ge=0, le=1)
    views: Literal[1, 2, 4, 8] = Field(
        description="views of an image averaged on validation: 1; 2 (mirrored too; needs flips); "
        "4 (its rotations) or 8 (their mirror images too), which need orientation_free"
    )
    select_by: Literal["log_loss", "roc_auc", "accuracy"] = Field(
        description="validation figure by which the best epoch is chosen, the head alone being epoch 0"
    )
    seed: Integer = Field(description="of order, dropout and augmentation, 0 to 2147483647", ge=0, le=2147483647)

    @field_validator("views", mode="before")
    @classmethod
    def _as_trained(cls, views: object, info: ValidationInfo) -> object:
        if isinstance(views, bool):
            raise ValueError("1, 2, 4 or 8")
        number = int(views) if isinstance(views, float) and views.is_integer() else views
        free, flips = info.data.get("orientation_free"), info.data.get("flips")
        if number in (4, 8) and free is False:
            raise ValueError("4 and 8 need orientation_free: true")
        if number == 2 and flips is False and free is False:
            raise ValueError("2 needs flips: true or orientation_free: true")
        return number


def finetune_all(params: FinetuneAll, data: Path, head: Path, *, model: Path, metrics: Path) -> None:
    """Train the whole network from the head's weights, and keep what is best on validation."""
    import math
    from contextlib import ExitStack

    import torch
    from safetensors.torch import save_file

    from twofold.core.artifacts import digest, publish, read_meta, write_json, write_meta
    from twofold.core.errors import ArtifactError, ParameterError, WeightsError
    from twofold.core.progress import say
    from twofold.data.prepared import PreparedDataset
    from twofold.model.classifier import BACKBONES, KIND, SCHEMA_VERSION, copy_weights
    from twofold.model.device import device, has_bf16, inference_batch_size, make_deterministic
    from twofold.model.inference import probabilities
    from twofold.model.torch_compile import compiled, should_compile
    from twofold.tracking.live_run import live_run
    from twofold.training.augmentation import Augmentation
    from twofold.training.checkpoint import Checkpoint, dependencies
    from twofold.training.conv_bn_folding import depthwise_in_float32, folded_batchnorm
    from twofold.training.data_loader import ProgressiveResizing, TrainingBatches
    from twofold.training.history import Figures, format_metrics, validation_figures, write_history
    from twofold.training.loop import SHARED, TrainingConfig, class_weights, train
    from twofold.training.optimizer import layer_decay_groups
    from twofold.training.pretrained_weights import pretrained

    make_deterministic()
    where = device()
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
    architecture = BACKBONES[start["backbone"]]
    classifier, base = pretrained(start["backbone"], start["weights"], params.dropout)
    if base != start["base_sha256"]:
        raise WeightsError(f"{head}: fits the base {start['base_sha256']}, found {base}; run train_head again")
    copy_weights(classifier.head, head / "head.safetensors")
    classifier.to(where).to(memory_format=torch.channels_last)

    rows, judged = images.rows("train"), images.rows("validation")
    targets, truth = images.target[rows], images.target[judged]
    shown = TrainingBatches(
        classifier,
        images,
        rows,
        Augmentation(**params.model_dump(include=set(Augmentation.__dataclass_fields__))),
        mean=architecture.mean,
        std=architecture.std,
        batch_size=params.batch_size,
        resolution=ProgressiveResizing(**sizes.model_dump(), epochs=params.epochs) if sizes else None,
    )

    def judge() -> Figures:
        size = (
            params.batch_size
            if where.type == "cpu"
            else max(params.batch_size, inference_batch_size(where, images.size))
        )
        batches = (images.pixels(judged[i : i + size]) for i in range(0, len(judged), size))
        found = probabilities(
            classifier,
            batches,
            mean=architecture.mean,
            std=architecture.std,
            views=params.views,
            precision="bfloat16" if has_bf16(where) else "float32",
        )
        return validation_figures(truth, found)

    plan = TrainingConfig(
        **params.model_dump(include=SHARED),
        patience=None,
        class_weights=class_weights(params.class_weights, targets),
        frozen_norms=params.batch_norm == "frozen",
        mixed_precision=True,
        select_by=params.select_by,
    )
    steps = params.epochs * math.ceil(len(rows) / params.batch_size)
    fuse = should_compile(where, steps, params.batch_size, images.size)
    rates = layer_decay_groups(
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
        # It may have learned from what is a test image here.
        raise ArtifactError(f"{head}: trained on other data than {data}, or on other splits; run train_head again")
    with live_run("finetune_all", values, resume_key=checkpoint.key) as run, ExitStack() as arithmetic:
        if plan.frozen_norms:
            arithmetic.enter_context(folded_batchnorm(classifier.backbone))
        if where.type == "cpu":
            arithmetic.enter_context(depthwise_in_float32(classifier.backbone))
        outcome = train(
            classifier,
            shown.inputs,
            targets,
            rates,
            plan,
            judge=judge,
            label="fine-tuning",
            forward=compiled(shown.forward, "fine-tuning") if fuse else shown.forward,
            checkpoint=checkpoint,
            log=run.log,
        )
        figures = {
            "head_only": outcome.figures(0),
            "finetuned": outcome.figures(outcome.best_after(1, params.select_by)),
        }
        winner = "finetuned" if outcome.best_epoch else "head_only"
        with publish(model) as draft:
            save_file({n: t.cpu().contiguous() for n, t in outcome.best.items()}, draft / "model.safetensors")
            write_history(draft / "history.csv", outcome.history)
            write_meta(
                draft,
                KIND,
                SCHEMA_VERSION,
                **{key: start[key] for key in _FROM_HEAD},
                data_digest=checkpoint.parts["data"],
                dropout=params.dropout,
                winner=winner,
                best_epoch=outcome.best_epoch,
                validation=figures,
                params=values,
            )
        run.finish(digest(model))
    checkpoint.remove()
    write_json(metrics, {"winner": winner, "best_epoch": outcome.best_epoch, "validation": figures})
    for name, found in figures.items():
        say(f"{name.replace('_', ' ')}: {format_metrics(found)}")
    say(f"kept: {winner.replace('_', ' ')}, epoch {outcome.best_epoch} of {outcome.epoch}, by {params.select_by}")


_FROM_HEAD = (
    "backbone",
    "weights",
    "base_sha256",
    "image_size",
    "channels",
    "mean",
    "std",
    "labels",
    "positive",
)


if __name__ == "__main__":
    from twofold.orchestration.step_cli import main

    main(finetune_all)
