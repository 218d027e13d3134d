"""Step 3: a head on the frozen, pretrained base.

In: prepared images. Out: the head's weights (`head.safetensors`), `history.csv`, and in `meta.json` the SHA-256 of the
base that they fit. The base sees every image once (and each cached mirror image of it); the head trains on what it saw.
"""

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from twofold.params import Integer, Number, Section


class TrainHead(Section):
    backbone: Literal["resnet50", "efficientnet_lite0"] = Field(description="architecture of the pretrained base")
    weights: Literal["imagenet1k_v1", "imagenet1k_v2", "packaged", "random"] = Field(
        description="of the base: imagenet1k_v1 or imagenet1k_v2 for resnet50, packaged for efficientnet_lite0; "
        "random for tests"
    )
    flips: bool = Field(description="train on mirror images too: the base sees twice as many images")
    orientation_free: bool = Field(
        description="an image may be turned by right angles without changing its class: with flips, its rotations are "
        "trained on instead, and the base sees four times as many"
    )
    epochs: Integer = Field(description="passes over the training images at most, 1 to 10000", ge=1, le=10000)
    patience: Integer = Field(
        description="stop after this many epochs without a lower log loss on validation, 1 to 10000", ge=1, le=10000
    )
    batch_size: Integer = Field(description="images a step at most, 1 to 65536", ge=1, le=65536)
    learning_rate: Number = Field(description="peak of AdamW's learning rate, above 0 to 1", gt=0, le=1)
    warmup_epochs: Number = Field(description="epochs until that peak, 0 to 100; then a cosine to 0", ge=0, le=100)
    weight_decay: Number = Field(description="AdamW's, not on biases, 0 to 1", ge=0, le=1)
    dropout: Number = Field(description="between the head's two dense layers, 0 to below 1", ge=0, lt=1)
    label_smoothing: Number = Field(description="share of a label spread over both classes, 0 to 0.5", ge=0, le=0.5)
    class_weights: Literal["none", "balanced"] = Field(
        description="in the loss: none, or balanced (both classes weigh the same in sum)"
    )
    ema_decay: Number = Field(description="of the average of the weights that is kept, 0 (none) to below 1", ge=0, lt=1)
    clip_norm: Number = Field(description="greatest norm of a step's gradient, above 0", gt=0)
    seed: Integer = Field(description="of the start, the order and dropout, 0 to 2147483647", ge=0, le=2147483647)

    @field_validator("weights")
    @classmethod
    def _of_the_backbone(cls, weights: str, info: ValidationInfo) -> str:
        known = {"resnet50": ("imagenet1k_v1", "imagenet1k_v2", "random"), "efficientnet_lite0": ("packaged", "random")}
        allowed = known.get(info.data.get("backbone", ""), (weights,))
        if weights not in allowed:
            raise ValueError(f"{info.data['backbone']} has {', '.join(allowed)}")
        return weights


def train_head(params: TrainHead, data: Path, *, model: Path, metrics: Path) -> None:
    """Train the head on features of the frozen base, until validation stops getting better."""
    import numpy as np
    import numpy.typing as npt
    import torch
    from safetensors.torch import save_file

    from twofold.artifacts import digest, publish, write_json, write_meta
    from twofold.checkpoint import Checkpoint, dependencies
    from twofold.features import extract
    from twofold.model import BACKBONES, make_head
    from twofold.numerics import device, settle
    from twofold.optimisation import groups
    from twofold.predicting import VIEWS
    from twofold.prepared import Prepared
    from twofold.progress import say
    from twofold.tracking import live_run
    from twofold.training import (
        SHARED,
        Figures,
        Plan,
        class_weights,
        told,
        train,
        validation_figures,
        write_history,
    )
    from twofold.weights import pretrained

    settle()
    where = device()
    images = Prepared.open(data)
    architecture = BACKBONES[params.backbone]
    classifier, base = pretrained(params.backbone, params.weights, params.dropout)
    classifier.to(where).to(memory_format=torch.channels_last)

    ways = VIEWS[1 if not params.flips else 4 if params.orientation_free else 2]

    def features(split: str, number: int) -> torch.Tensor:
        rows = images.rows(split)
        return torch.from_numpy(extract(classifier, params.backbone, base, images, rows, number)).to(where)

    seen = torch.stack([features("train", number) for number in ways])  # (views, N, F)
    judged = features("validation", 0)
    targets, truth = (images.target[images.rows(split)] for split in ("train", "validation"))

    with torch.random.fork_rng():
        torch.manual_seed(params.seed)
        head = make_head(architecture.features, params.dropout)
    head.to(where)

    def inputs(chosen: npt.NDArray[np.int64], random: torch.Generator) -> torch.Tensor:
        numbers = torch.randint(len(seen), (len(chosen),), generator=random)
        return seen[numbers.to(where), torch.from_numpy(chosen).to(where)]

    def judge() -> Figures:
        head.eval()
        with torch.inference_mode():
            return validation_figures(truth, head(judged).double().softmax(dim=1)[:, 1].cpu().numpy())

    plan = Plan(
        **params.model_dump(include=SHARED),
        patience=params.patience,
        class_weights=class_weights(params.class_weights, targets),
        frozen_norms=True,
        mixed_precision=False,
        select_by="log_loss",
    )
    values = params.model_dump(mode="json")
    # Seconds of work: a killed step finds its features in the memo and trains anew. The key ties the live run together.
    checkpoint = Checkpoint("train_head", dependencies("train_head", values, data=data))
    with live_run("train_head", values, resume_key=checkpoint.key) as run:
        rates = groups(list(head.parameters()), params.learning_rate, params.weight_decay)
        outcome = train(head, inputs, targets, rates, plan, judge=judge, label="head", log=run.log)
        figures = outcome.figures(outcome.best_epoch)
        with publish(model) as draft:
            save_file({n: t.cpu().contiguous() for n, t in outcome.best.items()}, draft / "head.safetensors")
            write_history(draft / "history.csv", outcome.history)
            write_meta(
                draft,
                "head",
                1,
                backbone=params.backbone,
                weights=params.weights,
                base_sha256=base,
                data_digest=checkpoint.parts["data"],
                image_size=images.size,
                channels=images.meta["channels"],
                mean=list(architecture.mean),
                std=list(architecture.std),
                labels=images.meta["labels"],
                positive=images.meta["positive"],
                best_epoch=outcome.best_epoch,
                validation=figures,
                params=values,
            )
        run.finish(digest(model))
    write_json(metrics, {"best_epoch": outcome.best_epoch, "epochs": outcome.epoch, "validation": figures})
    say(f"head: epoch {outcome.best_epoch} of {outcome.epoch} kept, {told(figures)}")


if __name__ == "__main__":
    from twofold.runner import main

    main(train_head)
