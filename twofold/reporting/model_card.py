"""The model card: takes a judgement, returns Markdown that is logged with the run and describes the version.

Its sections are those of Mitchell et al. 2019 ("Model Cards for Model Reporting"), ordered so that the first ones alone
can describe a version. It contains facts only, and says so where Twofold does not know one. It names no version,
because it is written before the version exists.
"""

from collections.abc import Mapping

from twofold.audit import summary
from twofold.core.redaction import without_credentials
from twofold.data.decoding import FORMATS
from twofold.evaluation.slice_names import FEWEST
from twofold.promotion.judgement import Judgement
from twofold.reporting import data_summary, model_card_figures
from twofold.reporting.markdown import bullets, code, table, text
from twofold.reporting.model_card_figures import MOST_VALUES

_BACKBONES = {"resnet50": "ResNet-50 (torchvision)", "efficientnet_lite0": "EfficientNet-Lite0 (timm)"}
LICENCES = {
    ("resnet50", "imagenet1k_v1"): "BSD-3-Clause (torchvision), trained on ImageNet",
    ("resnet50", "imagenet1k_v2"): "BSD-3-Clause (torchvision), trained on ImageNet",
    ("efficientnet_lite0", "packaged"): "Apache-2.0, trained on ImageNet",
}
_MOST_FILES = 5  # changed files that are named


def render(judgement: Judgement) -> str:
    """Render the card as Markdown."""
    sections = (
        _summary,
        model_card_figures.format_metrics,
        model_card_figures.format_gates,
        model_card_figures.format_comparison,
        _intended_use,
        _caveats,
        _audits,
        model_card_figures.format_slices,
        model_card_figures.format_calibration,
        _data,
        _model_details,
        _considerations,
    )
    return "\n".join(line for section in sections for line in section(judgement))


def describe_model(judgement: Judgement) -> str:
    """Describe the registered model as Markdown: what it is, how to review a version, what Twofold keeps beside it."""
    negative, positive = map(text, judgement.candidate.labels)
    return f"""Tells images of **{positive}** from images of **{negative}**. Each version is a sealed model that has \
passed its gates; its description is its model card.

- **In use:** the version with the alias `champion`. A version with the alias `challenger` waits for review.
- **Review:** open the version's source run, and there `registration/decision.html` under Artifacts. Decide with \
`twofold models approve`, `reject` or `rollback`. Do not move an alias here: nothing is promoted until \
`twofold models history --repair` has put it back.
- **Tags:** `twofold.ledger…` record who decided what, when and why; `twofold models history` prints them. \
`twofold.judged` counts the candidates that each test has judged. Do not change or delete these tags.
- **Locks:** a registered model `twofold.lock.{judgement.name}.…` without versions lets one promotion run at a time.
- **Documentation:** `docs/concepts/gates.md` and `docs/guides/mlflow.md` of Twofold."""


def _summary(judgement: Judgement) -> list[str]:
    candidate, verdict = judgement.candidate, judgement.verdict
    negative, positive = map(text, candidate.labels)
    refusals = [f"Refused: {text(reason)}" for reason in verdict.reasons]
    return [
        f"# {judgement.name}: {positive} or {negative}?",
        "",
        f"Tells images of **{positive}** (the positive class) from images of **{negative}**. It answers with a "
        f"probability of {positive} and calls an image {positive} at {candidate.decision['threshold']:.4f} or above.",
        "",
        *(bullets(refusals) if refusals else ["The model passed every gate that applies.", ""]),
    ]


def _intended_use(judgement: Judgement) -> list[str]:
    negative, positive = map(text, judgement.candidate.labels)
    limits = judgement.candidate.about["preprocess"]["pixels"]["limits"]
    kinds = ", ".join(name for name in FORMATS if name != "MPO")
    return [
        "## Intended use",
        "",
        *bullets(
            [
                f"The model answers one question, {positive} or {negative}, for images of the kind that it was tested "
                "on (see Data). Twofold does not know what the answer is used for.",
                f"Every image gets one of the two answers, even if it shows neither {positive} nor {negative}.",
                f"The input is the bytes of an image file ({kinds}), at most {limits['max_bytes']:,} bytes and "
                f"{limits['max_pixels']:,} pixels, no side below {limits['min_side']}; the model refuses everything "
                "else, such as files with several pages and corrupt files.",
            ]
        ),
    ]


def _caveats(judgement: Judgement) -> list[str]:
    candidate = judgement.candidate
    metrics = candidate.metrics
    few = [
        f"{text(column)} {text(value)}"
        for column, values in candidate.metrics["slices"].items()
        for value, own in values.items()
        if not own["judged"]
    ]
    items = [
        "The metrics hold for images of the kind that the model was tested on: the same source, the same cameras, the "
        "same way of labelling. They measure agreement with the labels, which may be wrong.",
        f"The {metrics['n']} test images come from {metrics['n_units']} samples (images of one group, and near "
        f"duplicates, are one): the accuracy is as certain as on {metrics['n_effective']:.0f} independent images. The "
        "intervals allow for that."
        if metrics["n_units"] < metrics["n"]
        else "The intervals assume independent images: no two test images are of one group or near duplicates. Where "
        "several images show the same object, the true intervals are wider.",
        "If models are changed again and again until they do well on this test, its metrics become too optimistic.",
    ]
    if few:
        words = ", ".join(few[:MOST_VALUES]) + (f" and {len(few) - MOST_VALUES} more" * (len(few) > MOST_VALUES))
        items.append(f"Too few test images (below {FEWEST}) to judge: {words}.")
    if judgement.vanished:
        items.append(
            f"{len(judgement.vanished)} test images of earlier champions are not in this test (see vanished.csv)."
        )
    return ["## Caveats", "", *bullets(items)]


def _audits(judgement: Judgement) -> list[str]:
    """Findings in the data, what was done about them and what they mean, without naming an image."""
    kinds = summary.group_by_outcome(judgement.candidate.audits)
    rows = [(text(one.title), one.step, f"{one.found:,}", one.policy, one.done) for one in kinds.raised]
    meanings = [
        f"{text(one.title)} ({code(one.set_by)}): {text(one.meaning)}"
        + (f" Here: {'; '.join(map(text, one.told))}." if one.told else "")
        for one in kinds.raised
    ]
    rest = {
        "Checks without findings": [text(one.title) for one in kinds.quiet],
        "Checks that could not run": [f"{text(one.title)} ({text(one.impossible)})" for one in kinds.impossible],
        "Checks that are turned off (policy ignore)": [text(one.title) for one in kinds.ignored],
    }
    return [
        "## Data audit",
        "",
        *(table(["check", "step", "found", "policy", "what was done"], rows) if rows else ["No findings.", ""]),
        *(bullets(meanings) if meanings else []),
        *(line for words, names in rest.items() if names for line in (f"{words}: {'; '.join(names)}.", "")),
    ]


def _data(judgement: Judgement) -> list[str]:
    candidate = judgement.candidate
    data, labels = candidate.about["preprocess"], list(reversed(candidate.labels))
    counted = data_summary.summarize_data(candidate.raw, candidate.prepared.directory, data["counts"], labels)
    removed = [
        f"{title}: {n}" + (f" ({'; '.join(f'{text(reason)}: {times}' for reason, times in reasons)})" if n else "")
        for title, n, reasons in counted["removed"]
    ]
    return [
        "## Data",
        "",
        f"Fingerprint {code(candidate.decision['fingerprint'])}. Trained on train; temperature, threshold and epoch "
        "chosen on validation; evaluated on test.",
        "",
        *table(["split", *map(text, labels)], [(split, *numbers) for split, numbers in counted["splits"]]),
        *bullets(removed),
        "The audit pages, which lie with the data, show the images of the findings.",
        "",
    ]


def _model_details(judgement: Judgement) -> list[str]:
    candidate, origin = judgement.candidate, judgement.provenance
    data, model = candidate.about["preprocess"], candidate.about["finetune_all"]
    trained = "the whole network, fine-tuned" if model["winner"] == "finetuned" else "the head alone (the base frozen)"
    libraries = [f"{key.partition('.')[2]} {value}" for key, value in origin.items() if key.startswith("library.")]
    optional = {"Image": "image", "Pipeline run": "pipeline_run", "DVC experiment": "dvc_experiment"}
    return [
        "## Model details",
        "",
        *bullets(
            [
                f"Network: {_BACKBONES.get(model['backbone'], text(model['backbone']))} and a head of two classes; "
                f"trained: {trained}, epoch {model['best_epoch']}.",
                f"Initial weights: {code(model['weights'])}, SHA-256 {code(model['base_sha256'])}.",
                f"Input: resized to {data['image_size']} x {data['image_size']} pixels ({data['pixels']['fit']}); "
                f"test-time augmentation: {candidate.decision['views']} view(s); computed in "
                f"{candidate.decision['precision']}.",
                f"Model: SHA-256 {code(candidate.digests['finetune_all'])}; decision: SHA-256 "
                f"{code(candidate.digests['decision'])}.",
                f"Code: git commit {code(origin.get('git.commit', 'unknown'))}, changed files: {_changed(origin)}.",
                *([f"Libraries: {text(', '.join(libraries))}."] if libraries else []),
                *(
                    f"{title}: {code(without_credentials(origin[key]))}."
                    for title, key in optional.items()
                    if key in origin
                ),
            ]
        ),
    ]


def _considerations(judgement: Judgement) -> list[str]:
    model = judgement.candidate.about["finetune_all"]
    licence = LICENCES.get((model["backbone"], model["weights"]), "unknown to Twofold")
    return [
        "## Licences and ethical considerations",
        "",
        *bullets(
            [
                f"Licence of the initial weights: {'none were used' if model['weights'] == 'random' else licence}.",
                "Licence of the images, and whether they show people: unknown to Twofold; ask the owner of the source.",
                "Who is harmed by an error was not examined. The rule of the threshold states how the two kinds of "
                "errors were weighed; Metrics by slice shows for which images they are more frequent.",
            ]
        ),
    ]


def _changed(origin: Mapping[str, str]) -> str:
    names = origin.get("git.changed", "unknown").split(", ")
    more = f" and {len(names) - _MOST_FILES} more" if len(names) > _MOST_FILES else ""
    return ", ".join(map(text, names[:_MOST_FILES])) + more
