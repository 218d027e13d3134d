"""The model card: in comes a judgement, out goes Markdown that is logged with the run and describes the version.

It says what the model is for, what it was made from, how well it does and where that knowledge ends. It names no
version, being written before there is one.
"""

from collections.abc import Mapping
from typing import Any

from twofold.intervals import Interval, mcnemar
from twofold.judgement import Judgement
from twofold.metrics import FIGURES
from twofold.slice_names import in_order

_BASES = {
    "resnet50": "ResNet-50 (torchvision)",
    "efficientnet_lite0": "EfficientNet-Lite0 (timm)",
}


def render(judgement: Judgement) -> str:
    """The card as Markdown, below 5,000 characters for ordinary data."""
    candidate = judgement.candidate
    negative, positive = candidate.labels
    about, metrics, decision = candidate.about, candidate.metrics, candidate.decision
    model, data = about["finetune_all"], about["preprocess"]
    trained = "the whole network, fine-tuned" if model["winner"] == "finetuned" else "the head alone (the base frozen)"
    figures = [
        f"| {name} | {metrics[name]:.4f} | {_ends(candidate.intervals.get(name))} |"
        for name in FIGURES
        if name in metrics
    ]
    gates = [f"- {_mark(gate.applies, gate.passed)} {gate.name}: {gate.detail}" for gate in judgement.verdict.gates]
    counts = [
        f"| {split} | {data['counts'][split][positive]} | {data['counts'][split][negative]} |"
        for split in ("train", "validation", "test")
    ]
    lines = [
        f"# {judgement.name}: {positive} or {negative}?",
        "",
        f"Tells images of **{positive}** (the positive class) from images of **{negative}**. It answers with a "
        f"probability of {positive} and calls an image {positive} at {decision['threshold']:.4f} or above.",
        "",
        "## Figures",
        "",
        f"On {metrics['n']} test images ({metrics['n_positive']} {positive}) that neither training nor the threshold "
        "has seen:",
        "",
        "| figure | value | 95 % interval |",
        "|---|---|---|",
        *figures,
        "",
        f"As the network gave the probabilities, ece was {metrics['ece_uncalibrated']:.4f}.",
        "",
        *_slices(judgement),
        *_beside(judgement),
        "## Gates",
        "",
        *(gates or ["none"]),
        "",
        "## How it was made",
        "",
        f"- Network: {_BASES.get(model['backbone'], model['backbone'])}, weights `{model['weights']}` "
        f"(SHA-256 `{model['base_sha256']}`); trained: {trained}, epoch {model['best_epoch']}.",
        f"- Input: the bytes of an image file, resized to {data['image_size']} x {data['image_size']} pixels "
        f"({data['pixels']['fit']}); probabilities averaged over {decision['views']} view(s), in float32.",
        f"- Probabilities: calibrated by the temperature {decision['temperature']:.4f}. Threshold: by "
        f"`{decision['policy']}`. Both fitted on {decision['chosen_on']['n']} validation images.",
        f"- Data: fingerprint `{decision['fingerprint']}`.",
        f"- Code: git commit `{judgement.provenance.get('git.commit', 'unknown')}`, changed files: "
        f"{judgement.provenance.get('git.changed', 'unknown')}.",
        f"- Model: SHA-256 `{candidate.digests['finetune_all']}`.",
        "",
        f"| split | {positive} | {negative} |",
        "|---|---|---|",
        *counts,
        "",
        "## What it does not say",
        "",
        "The figures hold for images of the kind that it was tested on: the same source, the same cameras, the same "
        "way of labelling. They measure agreement with the labels, not with the truth behind them.",
        "",
    ]
    return "\n".join(lines)


def _slices(judgement: Judgement) -> list[str]:
    lines = []
    for column, values in judgement.candidate.metrics["slices"].items():
        shown = [(value, values[value]) for value in in_order(column, values)[:10]]
        words = [f"{value} {own['accuracy']:.3f} ({_slice_ends(own)}; {_n(own)})" for value, own in shown]
        lines += [f"Accuracy by {column}: {', '.join(words)}.", ""]
    return lines


def _slice_ends(own: Mapping[str, Any]) -> str:
    """The interval of a slice's accuracy, in words."""
    ends = own["intervals"].get("accuracy")
    return f"{ends['low']:.3f} to {ends['high']:.3f}" if ends else "none"


def _n(own: Mapping[str, Any]) -> str:
    return f"n = {own['n']}" + ("" if own["judged"] else ", too few to judge")


def _ends(ends: Interval | None) -> str:
    return "none" if ends is None else f"{ends.low:.4f} to {ends.high:.4f}"


def _beside(judgement: Judgement) -> list[str]:
    """How it compares with the champion that it was held against."""
    champion = judgement.champion
    if champion is None or champion.problem:
        return []
    only = [len(champion.only_right(candidate)) for candidate in (True, False)]
    rows = [
        f"| {name} | {champion.figures[name]:.4f} | {ends.estimate:+.4f} | {ends.low:+.4f} to {ends.high:+.4f} |"
        for name, ends in champion.differences.items()
    ]
    left_out = sum(champion.left_out.values())
    return [
        f"## Beside version {champion.version}",
        "",
        f"On {len(champion.test)} test images that neither model learned from ({left_out} left out), fingerprint "
        f"`{champion.fingerprint}`:",
        "",
        f"| figure | version {champion.version} | difference | 95 % interval |",
        "|---|---|---|---|",
        *rows,
        "",
        f"This model alone is right on {only[0]} images, version {champion.version} alone on {only[1]} (McNemar: p = "
        f"{mcnemar(*only):.3f}).",
        "",
    ]


def _mark(applies: bool, passed: bool) -> str:
    return ("passed:" if passed else "**failed**:") if applies else "not applied:"
