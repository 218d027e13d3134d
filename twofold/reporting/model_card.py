"""The model card: takes a judgement, returns Markdown that is logged with the run and describes the version.

Its sections are those of Mitchell et al. 2019 ("Model Cards for Model Reporting"), ordered so that the first ones alone
can describe a version. It contains facts only, and says so where Twofold does not know one. It names no version,
because it is written before the version exists. The text is in `templates/model_card.md`; this module prepares its
values.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from twofold.audit import summary
from twofold.core import markdown
from twofold.core.redaction import without_credentials
from twofold.data.decoding import FORMATS
from twofold.evaluation.slice_names import FEWEST, in_order
from twofold.metrics.classification import LOSSES, METRICS, ConfusionMatrix
from twofold.metrics.confidence_intervals import mcnemar
from twofold.metrics.decision_threshold import BY_THEORY, describe_rule
from twofold.metrics.metric_intervals import METHODS
from twofold.metrics.number_format import interval_text
from twofold.metrics.platt_scaling import WHY, recorded_scaling
from twofold.promotion.judgement import Judgement
from twofold.reporting import data_summary
from twofold.reporting.html_page import TEMPLATES

_BACKBONES = {"resnet50": "ResNet-50 (torchvision)", "efficientnet_lite0": "EfficientNet-Lite0 (timm)"}
LICENCES = {
    ("resnet50", "imagenet1k_v1"): "BSD-3-Clause (torchvision), trained on ImageNet",
    ("resnet50", "imagenet1k_v2"): "BSD-3-Clause (torchvision), trained on ImageNet",
    ("efficientnet_lite0", "packaged"): "Apache-2.0, trained on ImageNet",
}
_METHOD_NAMES = {
    "wilson_or_exact": "Wilson or Clopper-Pearson",
    "score": "score",
    "logit": "logit",
    "log": "logarithm",
    "binned_score": "score interval over the bins",
}
_MOST_FILES = 5  # changed files that are named
_MOST_VALUES = 10  # values of a slice column that the card lists; slices.csv has all


def render(judgement: Judgement) -> str:
    """Render the card as Markdown."""
    candidate, origin, champion = judgement.candidate, judgement.provenance, judgement.champion
    negative, positive = candidate.labels
    metrics, decision, about = candidate.metrics, candidate.decision, candidate.about
    model, slices = about["finetune_all"], metrics["slices"].items()
    licence = LICENCES.get((model["backbone"], model["weights"]), "unknown to Twofold")
    if model["backbone"].startswith("timm/"):
        from timm import get_pretrained_cfg

        known = getattr(get_pretrained_cfg(model["backbone"].removeprefix("timm/")), "license", None) or "unknown"
        licence = f"{known}, as timm records it for the weights that it publishes; see the model's page there"
    context = {
        "judgement": judgement,
        "candidate": candidate,
        "champion": champion,
        "metrics": metrics,
        "decision": decision,
        "positive": positive,
        "negative": negative,
        "rows": _rows(metrics),
        "losses": LOSSES,
        "interval": interval_text,
        "undefined": [f"{name}: {why}" for name, why in metrics.get("undefined", {}).items()],
        "measured": [
            f"{name.replace('_', ' ')}: {value:,.{0 if value == int(value) else 1}f}"
            for name, value in sorted(judgement.measured.items())
        ],
        "only": [len(champion.only_right(own)) for own in (True, False)] if champion else [],
        "mcnemar": mcnemar,
        "formats": ", ".join(name for name in FORMATS if name != "MPO"),
        "limits": about["preprocess"]["pixels"]["limits"],
        "few": [f"{column} {value}" for column, own in slices for value in own if not own[value]["judged"]],
        "fewest": FEWEST,
        "most": _MOST_VALUES,
        "audited": summary.group_by_outcome(candidate.audits),
        "shown": ("accuracy", "recall", "specificity"),
        "slices": [
            (column, [(value, own[value]) for value in in_order(column, own)[:_MOST_VALUES]], len(own) - _MOST_VALUES)
            for column, own in slices
        ],
        "scaling": recorded_scaling(decision),
        "bound_reached": WHY.get(recorded_scaling(decision).slope),
        "rule": describe_rule(decision),
        "by_theory": decision["policy"] in BY_THEORY,
        "data": data_summary.summarize_data(
            candidate.raw, candidate.prepared.directory, about["preprocess"]["counts"], (positive, negative)
        ),
        "network": _BACKBONES.get(model["backbone"], model["backbone"]),
        "model": model,
        "prepared": about["preprocess"],
        "origin": {key: without_credentials(value) for key, value in origin.items()},
        "changed": origin.get("git.changed", "unknown").split(", "),
        "most_files": _MOST_FILES,
        "libraries": [f"{key.partition('.')[2]} {origin[key]}" for key in origin if key.startswith("library.")],
        "licence": "none were used" if model["weights"] == "random" else licence,
    }
    return _fill("model_card.md", context)


def describe_model(judgement: Judgement) -> str:
    """Describe the registered model as Markdown: what it is, how to review a version, what Twofold keeps beside it."""
    negative, positive = judgement.candidate.labels
    values = {"name": judgement.name, "negative": negative, "positive": positive}
    return _fill("registered_model.md", values).rstrip("\n")


def _fill(template: str, context: Mapping[str, Any]) -> str:
    """Fill a Markdown template; every value is escaped, except what a filter has made Markdown."""
    environment = Environment(  # noqa: S701  (the result is no HTML)
        loader=FileSystemLoader(TEMPLATES),
        finalize=lambda value: value if isinstance(value, Markup) else markdown.text(value),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )

    def joined(items: Iterable[str], separator: str = "; ") -> Markup:
        return Markup(separator.join(map(markdown.text, items)))  # noqa: S704

    environment.filters.update(code=lambda value: Markup(markdown.code(value)), joined=joined)  # noqa: S704
    return environment.get_template(template).render(context)


def _rows(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The metrics that have a value, each with the images it was measured on and the method of its interval."""
    counts = ConfusionMatrix(*(metrics[name] for name in ConfusionMatrix._fields))
    images = {"precision": counts.called, "recall": counts.positive, "specificity": counts.negative}
    images["f1"] = counts.called + counts.false_negative
    methods = {name: _METHOD_NAMES[METHODS[name].single] for name in metrics["intervals"] if name in METHODS}
    found = (name for name in METRICS if name in metrics)
    return [{"name": name, "n": images.get(name, counts.n), "method": methods.get(name, "")} for name in found]
