"""Step 3: a head on the frozen, pretrained base.

In: prepared images. Out: the head's weights (`head.safetensors`), `history.csv`, and in `meta.json` the SHA-256 of the
base that they fit. The base sees every image once (and each cached mirror image of it); the head trains on what it saw.
Beside it the audit's page: labels that may be wrong, by the same features (see `twofold/audit/label_issues.py`).
"""

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationInfo, field_validator

from twofold.audit.checks import PolicyOfAll
from twofold.core.params import Integer, Number, Section


class Audit(Section):
    # Nothing can be left out any more: the splits are drawn, and the head and finetune_all learn from the same images.
    label_issues: PolicyOfAll = Field(
        description="labels that may be wrong, by predictions of heads that did not see the image: ignore, warn, "
        "or fail"
    )


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
    audit: Audit = Field(description="what is looked for in the data, and what is done about it")

    @field_validator("weights")
    @classmethod
    def _of_the_backbone(cls, weights: str, info: ValidationInfo) -> str:
        known = {"resnet50": ("imagenet1k_v1", "imagenet1k_v2", "random"), "efficientnet_lite0": ("packaged", "random")}
        allowed = known.get(info.data.get("backbone", ""), (weights,))
        if weights not in allowed:
            raise ValueError(f"{info.data['backbone']} has {', '.join(allowed)}")
        return weights


def train_head(params: TrainHead, data: Path, *, model: Path, metrics: Path, audit: Path) -> None:
    """Train the head on features of the frozen base, until validation stops getting better.

    Raises:
        DataError: labels may be wrong, and the policy is `fail`; the audit is written, the model is not.
    """
    from collections.abc import Iterator

    import numpy as np
    import numpy.typing as npt
    import torch
    from safetensors.torch import save_file

    from twofold.audit import label_issues
    from twofold.audit.checks import PAGE, enforce_policies
    from twofold.core.artifacts import digest, publish, write_json, write_meta
    from twofold.core.progress import say
    from twofold.data.prepared import PreparedDataset
    from twofold.model.classifier import BACKBONES, make_head
    from twofold.model.device import device, make_deterministic, to_device
    from twofold.model.inference import VIEWS
    from twofold.reporting.audit_page import write_audit
    from twofold.tracking.live_run import live_run
    from twofold.training.checkpoint import Checkpoint, dependencies
    from twofold.training.feature_extraction import extract_features
    from twofold.training.history import Figures, format_metrics, validation_figures, write_history
    from twofold.training.loop import SHARED, Epoch, TrainingConfig, class_weights, train
    from twofold.training.optimizer import decay_groups
    from twofold.training.pretrained_weights import pretrained

    make_deterministic()
    where = device()
    images = PreparedDataset.open(data)
    architecture = BACKBONES[params.backbone]
    classifier, base = pretrained(params.backbone, params.weights, params.dropout)
    classifier.to(where).to(memory_format=torch.channels_last)

    ways = VIEWS[1 if not params.flips else 4 if params.orientation_free else 2]

    def features(split: str, number: int) -> npt.NDArray[np.float32]:
        return extract_features(classifier, params.backbone, base, images, images.rows(split), number)

    # Each view straight into its place: a list of them beside their stack would be all of it twice.
    train_views = np.empty((len(ways), len(images.rows("train")), architecture.features), np.float32)
    for place, number in enumerate(ways):
        train_views[place] = features("train", number)
    validation = features("validation", 0)
    known = {"train": train_views[0], "validation": validation}  # view 0 is the first way of all
    check, found = label_issues.check_labels(
        params.audit.label_issues, images, lambda split: known[split] if split in known else features(split, 0)
    )
    row_of = {sha256: row for row, sha256 in enumerate(images.sha256)}
    of = images.meta["fingerprint"]
    show = lambda sha256: images.pixels([row_of[sha256]])[0]  # noqa: E731
    write_audit(audit, "train_head", [check], fingerprint=of, figures=found, pixels=show)
    if check.found:
        say(f"head: {len(check.found)} labels may be wrong; see {audit / PAGE}")
    enforce_policies("train_head", [check], audit / PAGE)

    seen = torch.from_numpy(train_views).to(where)  # (views, N, F)
    judged = torch.from_numpy(validation).to(where)
    targets, truth = (images.target[images.rows(split)] for split in ("train", "validation"))

    with torch.random.fork_rng():
        torch.manual_seed(params.seed)
        head = make_head(architecture.features, params.dropout)
    head.to(where)

    def inputs(epoch: Epoch) -> Iterator[tuple[torch.Tensor]]:
        for step, chosen in enumerate(epoch.batches):
            numbers = torch.randint(len(seen), (len(chosen),), generator=epoch.random(step))
            yield (seen[to_device(numbers, where), to_device(torch.from_numpy(chosen), where)],)

    def judge() -> Figures:
        head.eval()
        with torch.inference_mode():
            return validation_figures(truth, head(judged).double().softmax(dim=1)[:, 1].cpu().numpy())

    plan = TrainingConfig(
        **params.model_dump(include=SHARED),
        patience=params.patience,
        class_weights=class_weights(params.class_weights, targets),
        frozen_norms=True,
        mixed_precision=False,
        select_by="log_loss",
    )
    # What makes the model: the audit's policy is not in it, or a change of policy would train everything anew.
    values = params.model_dump(mode="json", exclude={"audit"})
    # Seconds of work: a killed step finds its features in the memo and trains anew. The key ties the live run together.
    checkpoint = Checkpoint("train_head", dependencies("train_head", values, data=data))
    with live_run("train_head", values, resume_key=checkpoint.key) as run:
        rates = decay_groups(list(head.parameters()), params.learning_rate, params.weight_decay)
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
    say(f"head: epoch {outcome.best_epoch} of {outcome.epoch} kept, {format_metrics(figures)}")


if __name__ == "__main__":
    from twofold.orchestration.step_cli import main

    main(train_head)
