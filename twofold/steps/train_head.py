"""train_head: trains a classification head on features of the frozen, pretrained base.

Reads the prepared images. Writes the head's weights (`head.safetensors`), `history.csv`, `meta.json` with the SHA-256
of the base that they fit, and the audit of the labels, which uses the same features (see
`twofold/audit/label_issues.py`). The base processes each image once, and once more for each other cached view.
"""

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from twofold.audit.checks import PolicyOfAll
from twofold.core.params import Integer, Number, Section


class Audit(Section):
    # No quarantine: the splits are fixed by now, and the head and finetune_all must learn from the same images.
    label_issues: PolicyOfAll = Field(
        description="Labels that confident out-of-fold predictions contradict: ignore, warn, fail"
    )


class TrainHead(Section):
    # Other names could make timm read a file or an address.
    backbone: str = Field(
        description="Architecture of the pretrained base: resnet50, efficientnet_lite0, or timm/NAME (a model of timm)",
        pattern=r"^(resnet50|efficientnet_lite0|timm/\w+(\.\w+)?)$",
    )
    weights: str = Field(
        description="Weights of the base: imagenet1k_v1 or imagenet1k_v2 (resnet50), packaged (efficientnet_lite0), "
        "sha256:DIGEST of a file (timm/NAME; `twofold weights pin` sets it), or random (for tests)",
        pattern=r"^(imagenet1k_v1|imagenet1k_v2|packaged|random|sha256:[0-9a-f]{64})$",
    )
    flips: bool = Field(description="Whether to train on mirrored images too; the base then processes twice as many")
    orientation_free: bool = Field(
        description="Whether an image keeps its class when rotated by right angles; with flips, training uses its four "
        "rotations instead of mirrored images, and the base processes four times as many"
    )
    epochs: Integer = Field(description="Passes over the training images at most, 1 to 10000", ge=1, le=10000)
    patience: Integer = Field(
        description="Epochs without a lower validation log loss after which training stops, 1 to 10000", ge=1, le=10000
    )
    batch_size: Integer = Field(description="Images per step at most, 1 to 65536", ge=1, le=65536)
    learning_rate: Number = Field(description="AdamW's peak learning rate, above 0 to 1", gt=0, le=1)
    warmup_epochs: Number = Field(description="Epochs until the peak, 0 to 100; then cosine decay to 0", ge=0, le=100)
    weight_decay: Number = Field(description="AdamW's weight decay, not on biases, 0 to 1", ge=0, le=1)
    dropout: Number = Field(description="Dropout between the head's two dense layers, 0 to below 1", ge=0, lt=1)
    label_smoothing: Number = Field(description="Share of a label spread over both classes, 0 to 0.5", ge=0, le=0.5)
    class_weights: Literal["none", "balanced"] = Field(
        description="Class weights in the loss, also on validation: none, or balanced (half of the weight to a class)"
    )
    ema_decay: Number = Field(
        description="Decay of the moving average (EMA) of weights that is kept, 0 (off) to below 1", ge=0, lt=1
    )
    clip_norm: Number = Field(description="Largest norm of a step's gradient, above 0", gt=0)
    seed: Integer = Field(description="Seed of initial weights, order and dropout, 0 to 2147483647", ge=0, le=2**31 - 1)
    audit: Audit = Field(description="Checks of the labels, each with its policy")

    @field_validator("weights")
    @classmethod
    def _check_weights(cls, weights: str, info: ValidationInfo) -> str:
        known = {"resnet50": ("imagenet1k_v1", "imagenet1k_v2", "random"), "efficientnet_lite0": ("packaged", "random")}
        allowed = known.get(info.data.get("backbone", ""), ("sha256:DIGEST", "random"))
        if "backbone" in info.data and weights.partition(":")[0] not in [name.partition(":")[0] for name in allowed]:
            raise ValueError(f"{info.data['backbone']} has {', '.join(allowed)}")
        return weights


def train_head(
    params: TrainHead, data: Path, preprocess_audit: Path, *, model: Path, metrics: Path, audit: Path
) -> None:
    """Train the head on features of the frozen base, until the validation log loss stops improving.

    Raises:
        DataError: the audit found label issues, and its policy is `fail`; the audit is written, the model is not.
    """
    from collections.abc import Iterator

    import numpy as np
    import numpy.typing as npt
    import torch
    from safetensors.torch import save_file

    from twofold.audit import label_issues
    from twofold.audit.checks import PAGE, enforce_policies
    from twofold.audit.summary import read_names
    from twofold.core.artifacts import digest, publish, write_json, write_meta
    from twofold.core.progress import say
    from twofold.data.prepared import PreparedDataset
    from twofold.model.classifier import find_backbone, make_head
    from twofold.model.device import device, make_deterministic, to_device
    from twofold.model.inference import VIEWS
    from twofold.reporting.audit_page import write_audit
    from twofold.tracking.live_run import live_run
    from twofold.training.checkpoint import Checkpoint, dependencies
    from twofold.training.feature_extraction import extract_features
    from twofold.training.history import Metrics, format_metrics, validation_metrics, write_history
    from twofold.training.loop import SHARED, Epoch, class_weights, train
    from twofold.training.optimizer import decay_groups
    from twofold.training.pretrained_weights import pretrained
    from twofold.training.train_step import TrainingConfig

    make_deterministic()
    target_device = device()
    images = PreparedDataset.open(data)
    names = read_names(preprocess_audit, images.meta["fingerprint"])
    architecture = find_backbone(params.backbone, images.size)
    classifier, base = pretrained(params.backbone, params.weights, params.dropout, images.size)
    classifier.to(target_device).to(memory_format=torch.channels_last)

    def features(split: str, view: int) -> npt.NDArray[np.float32]:
        return extract_features(classifier, params.backbone, base, images, images.rows(split), view)

    views = VIEWS[1 if not params.flips else 4 if params.orientation_free else 2]
    # Each view is written straight into its place: a list of them beside their stack would need twice the memory.
    train_views = np.empty((len(views), len(images.rows("train")), architecture.features), np.float32)
    for place, view in enumerate(views):
        train_views[place] = features("train", view)
    validation = features("validation", 0)
    known = {"train": train_views[0], "validation": validation}  # the first view is view 0, the image as it is
    check, statistics = label_issues.check_labels(
        params.audit.label_issues,
        images,
        lambda split: known[split] if split in known else features(split, 0),
        names,
    )
    row_of = {sha256: row for row, sha256 in enumerate(images.sha256)}
    write_audit(
        audit,
        "train_head",
        [check],
        fingerprint=images.meta["fingerprint"],
        statistics=statistics,
        pixels=lambda sha256: images.pixels([row_of[sha256]])[0],
    )
    if check.found:
        say(f"head: {len(check.found)} labels may be wrong; see {audit / PAGE}")
    enforce_policies("train_head", [check], audit / PAGE)

    train_features = torch.from_numpy(train_views).to(target_device)  # (views, N, F)
    validation_features = torch.from_numpy(validation).to(target_device)
    targets, validation_targets = (images.target[images.rows(split)] for split in ("train", "validation"))
    weights = class_weights(params.class_weights, targets)

    with torch.random.fork_rng():
        torch.manual_seed(params.seed)
        head = make_head(architecture.features, params.dropout)
    head.to(target_device)

    def inputs(epoch: Epoch) -> Iterator[tuple[torch.Tensor]]:
        for step, rows in enumerate(epoch.batches):
            drawn = torch.randint(len(views), (len(rows),), generator=epoch.random(step))
            yield (train_features[to_device(drawn, target_device), to_device(torch.from_numpy(rows), target_device)],)

    def validate() -> Metrics:
        head.eval()
        with torch.inference_mode():
            probability = head(validation_features).double().softmax(dim=1)[:, 1].cpu().numpy()
            return validation_metrics(validation_targets, probability, weights)

    config = TrainingConfig(
        **params.model_dump(include=SHARED),
        patience=params.patience,
        class_weights=weights,
        frozen_norms=True,
        mixed_precision=False,
        select_by="log_loss",
    )
    # The parameters that determine the model. The audit's policy does not: changing it must not start a new training.
    values = params.model_dump(mode="json", exclude={"audit"})
    # Training takes seconds and writes no checkpoint: a killed step finds its features in the cache. Only the key is
    # used, to continue the same live run.
    checkpoint = Checkpoint("train_head", dependencies("train_head", values, data=data))
    with live_run("train_head", values, resume_key=checkpoint.key) as run:
        groups = decay_groups(list(head.parameters()), params.learning_rate, params.weight_decay)
        outcome = train(head, inputs, targets, groups, config, judge=validate, label="head", log=run.log)
        best = outcome.metrics(outcome.best_epoch)
        results = {"best_epoch": outcome.best_epoch, "validation": best}
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
                mean=list(architecture.mean),
                std=list(architecture.std),
                **{key: images.meta[key] for key in ("channels", "labels", "positive")},
                **results,
                params=values,
            )
        run.finish(digest(model))
    write_json(metrics, {**results, "epochs": outcome.epoch})
    say(f"head: epoch {outcome.best_epoch} of {outcome.epoch} kept, {format_metrics(best)}")


if __name__ == "__main__":
    from twofold.orchestration.step_cli import main

    main(train_head)
