"""The model card: in comes a judgement, out goes Markdown that is logged with the run and describes the version.

Its sections are those of Mitchell et al. 2019 ("Model Cards for Model Reporting"), in an order in which the front of it
alone can describe a version. It says what is known and nothing else: where Twofold does not know, it says that. It
names no version, being written before there is one.
"""

from collections.abc import Mapping, Sequence

from twofold.audit import summary
from twofold.data.decoding import FORMATS
from twofold.evaluation.slice_names import FEWEST
from twofold.promotion.judgement import Judgement
from twofold.reporting import data_summary, model_card_figures
from twofold.reporting.markdown import bullets, code, table, text
from twofold.reporting.model_card_figures import MOST_VALUES
from twofold.tracking.store import without_credentials

_BASES = {
    "resnet50": "ResNet-50 (torchvision)",
    "efficientnet_lite0": "EfficientNet-Lite0 (timm)",
}
LICENCES = {
    ("resnet50", "imagenet1k_v1"): "BSD-3-Clause (torchvision), trained on ImageNet",
    ("resnet50", "imagenet1k_v2"): "BSD-3-Clause (torchvision), trained on ImageNet",
    ("efficientnet_lite0", "packaged"): "Apache-2.0, trained on ImageNet",
}
_MOST_FILES = 5  # changed since the commit, that are named


def render(judgement: Judgement) -> str:
    """The card as Markdown."""
    sections = (
        _head,
        model_card_figures.figures,
        model_card_figures.gates,
        model_card_figures.beside,
        _use,
        _caveats,
        _audits,
        model_card_figures.slices,
        model_card_figures.calibration,
        _data,
        _details,
        _considerations,
    )
    return "\n".join(line for section in sections for line in section(judgement))


def _head(judgement: Judgement) -> list[str]:
    candidate, verdict = judgement.candidate, judgement.verdict
    negative, positive = map(text, candidate.labels)
    refusals = [f"Refused: {text(reason)}" for reason in verdict.reasons]
    return [
        f"# {judgement.name}: {positive} or {negative}?",
        "",
        f"Tells images of **{positive}** (the positive class) from images of **{negative}**. It answers with a "
        f"probability of {positive} and calls an image {positive} at {candidate.decision['threshold']:.4f} or above.",
        "",
        *(bullets(refusals) if refusals else ["Every gate that applies is passed.", ""]),
    ]


def _use(judgement: Judgement) -> list[str]:
    negative, positive = map(text, judgement.candidate.labels)
    limits = judgement.candidate.about["preprocess"]["pixels"]["limits"]
    kinds = ", ".join(name for name in FORMATS if name != "MPO")
    return [
        "## Intended use",
        "",
        *bullets(
            [
                f"It answers one question, {positive} or {negative}, for images of the kind that it was tested on (see "
                "Data). What the answer is used for is not known here.",
                f"Every image gets one of the two answers, also one that shows neither {positive} nor {negative}.",
                f"It takes the bytes of an image file ({kinds}), at most {limits['max_bytes']:,} bytes and "
                f"{limits['max_pixels']:,} pixels, no side below {limits['min_side']}; it refuses everything else, "
                "such as files of several pages and damaged ones.",
            ]
        ),
    ]


def _caveats(judgement: Judgement) -> list[str]:
    candidate = judgement.candidate
    few = [
        f"{text(column)} {text(value)}"
        for column, values in candidate.metrics["slices"].items()
        for value, own in values.items()
        if not own["judged"]
    ]
    groups = {group for group in candidate.test.group if group is not None}
    items = [
        "The figures hold for images of the kind that it was tested on: the same source, the same cameras, the same "
        "way of labelling. They measure agreement with the labels, not with the truth behind them.",
        "The intervals take the images as independent"
        + (
            f"; those of the test come from {len(groups)} groups, which makes the true intervals wider."
            if groups
            else ". The data name no groups; where several images show one thing, the true intervals are wider."
        ),
        "A test that models are changed for again and again has become something to learn from; its figures then "
        "flatter.",
    ]
    if few:
        words = ", ".join(few[:MOST_VALUES]) + (f" and {len(few) - MOST_VALUES} more" * (len(few) > MOST_VALUES))
        items.append(f"Too few test images (below {FEWEST}) to judge: {words}.")
    if judgement.vanished:
        items.append(
            f"{len(judgement.vanished)} test images of champions before are not in this test (vanished.csv lists them)."
        )
    return ["## Caveats", "", *bullets(items)]


def _audits(judgement: Judgement) -> list[str]:
    """What was found in the data, what was done about it, and what it means; nothing that names an image."""
    kinds = summary.group_by_outcome(judgement.candidate.audits)
    rows = [(text(one.title), one.step, f"{one.found:,}", one.policy, one.done) for one in kinds.raised]
    meanings = [
        f"{text(one.title)} ({code(one.set_by)}): {text(one.meaning)}"
        + (f" Here: {'; '.join(map(text, one.told))}." if one.told else "")
        for one in kinds.raised
    ]
    rest = {
        "Looked for and not found": [_named(one, kinds.raised) for one in kinds.quiet],
        "Could not be looked for": [f"{text(one.title)} ({text(one.impossible)})" for one in kinds.impossible],
        "Not looked for, by their policies": [text(one.title) for one in kinds.ignored],
    }
    return [
        "## What the audits found",
        "",
        *(table(["check", "step", "found", "policy", "what was done"], rows) if rows else ["Nothing.", ""]),
        *(bullets(meanings) if meanings else []),
        *(line for words, names in rest.items() if names for line in (f"{words}: {'; '.join(names)}.", "")),
    ]


def _named(check: summary.AuditSummary, raised: Sequence[summary.AuditSummary]) -> str:
    """A check's title, and its step where another one of that title found something."""
    return text(check.title) + (f" (by {check.step})" if check.title in {one.title for one in raised} else "")


def _data(judgement: Judgement) -> list[str]:
    candidate = judgement.candidate
    data, labels = candidate.about["preprocess"], list(reversed(candidate.labels))
    found = data_summary.summarize_data(candidate.raw, candidate.prepared.directory, data["counts"], labels)
    removed = [
        f"{words}: {n}" + (f" ({'; '.join(f'{text(reason)}: {times}' for reason, times in reasons)})" if n else "")
        for words, n, reasons in found["removed"]
    ]
    return [
        "## Data",
        "",
        f"Fingerprint {code(candidate.decision['fingerprint'])}. Trained on train; temperature, threshold and epoch "
        "chosen on validation; judged on test.",
        "",
        *table(["split", *map(text, labels)], [(split, *numbers) for split, numbers in found["splits"]]),
        *bullets(removed),
        "The audits' pages, which lie beside the data, show the images that they found.",
        "",
    ]


def _details(judgement: Judgement) -> list[str]:
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
                f"Network: {_BASES.get(model['backbone'], text(model['backbone']))} and a head of two classes; "
                f"trained: {trained}, epoch {model['best_epoch']}.",
                f"Start weights: {code(model['weights'])}, SHA-256 {code(model['base_sha256'])}.",
                f"Input: resized to {data['image_size']} x {data['image_size']} pixels ({data['pixels']['fit']}); "
                f"probabilities averaged over {candidate.decision['views']} view(s), computed in "
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
    if model["weights"] == "random":
        start = "none were taken."
    else:
        start = f"{LICENCES.get((model['backbone'], model['weights']), 'not known here')}."
    return [
        "## Licences, and what nobody has looked at",
        "",
        *bullets(
            [
                f"Licence of the start weights: {start}",
                "Licence of the images, and whether they show persons: not known here; whoever owns the source knows.",
                "Whom an error harms was not examined. The threshold's rule says what the two errors were held to be "
                "worth; Factors shows for which images there are more of them.",
            ]
        ),
    ]


def _changed(origin: Mapping[str, str]) -> str:
    names = origin.get("git.changed", "unknown").split(", ")
    more = f" and {len(names) - _MOST_FILES} more" if len(names) > _MOST_FILES else ""
    return ", ".join(map(text, names[:_MOST_FILES])) + more
