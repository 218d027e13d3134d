"""decision.html: in come a judgement and what followed from it, out goes the page on which a team decides.

The verdict and the gates come first; then the figures, the champion's beside them, a slider of the threshold, the
curves, the slices, how small changes of the images tell, the most confident errors with what the model looked at, what
the audits left of the data, and where all of it comes from.
"""

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twofold.audit import summary
from twofold.metrics.classification import METRICS
from twofold.metrics.temperature_scaling import apply_temperature
from twofold.promotion.judgement import Judgement, Outcome, headline, reasons
from twofold.promotion.verdict import GateResult
from twofold.reporting import charts, comparison_section, data_summary, html_page, plots, sections, threshold_slider
from twofold.reporting.comparison_section import TITLES
from twofold.reporting.html_page import Picture

STEPS = {"train_head": "The head, on the frozen base", "finetune_all": "The whole network"}


def render(judgement: Judgement, outcome: Outcome, recorded: Mapping[str, Any]) -> str:
    """The page as text.

    Args:
        judgement: what was judged.
        outcome: what followed.
        recorded: where: `run_id`, `experiment`, `tracking_uri`, `open`, and the training runs; see register.
    """
    candidate = judgement.candidate
    negative, positive = candidate.labels
    metrics = candidate.metrics
    head = headline(judgement, outcome)
    context = {
        "headline": head,
        "good": judgement.verdict.passed,
        "name": judgement.name,
        "positive": positive,
        "negative": negative,
        "n": metrics["n"],
        "n_positive": metrics["n_positive"],
        "consequence": _consequence(judgement, outcome),
        "reasons": reasons(judgement, outcome),
        "gates": [_gate(gate) for gate in judgement.verdict.gates],
        "champion": judgement.champion,
        "rows": _rows(judgement),
        "slider": threshold_slider.context(
            candidate.test.target, candidate.test.probability, candidate.decision["threshold"]
        ),
        "charts": _charts(judgement),
        "temperature": candidate.decision["temperature"],
        "views": candidate.decision["views"],
        "slices": sections.slice_tables(metrics["slices"]),
        "robustness": sections.robustness_rows(metrics.get("robustness")),
        "explained": candidate.explained,
        "data": data_summary.summarize_data(
            candidate.raw, candidate.prepared.directory, candidate.prepared.meta["counts"], (positive, negative)
        ),
        "audited": summary.group_by_outcome(candidate.audits),
        "trainings": [
            picture
            for step, folder in (("train_head", candidate.head), ("finetune_all", candidate.model))
            if (picture := draw_training(folder / "history.csv", STEPS[step], candidate.about[step]["best_epoch"]))
        ],
        "lineage": _lineage(judgement, recorded),
        "recorded": recorded,
        **comparison_section.context(judgement),
    }
    context["contents"] = _contents(context)
    return html_page.render(f"{judgement.name}: {head}", "decision.html", context, threshold_slider.SCRIPT)


def _contents(context: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The parts that the page has: (anchor, words)."""
    parts = {
        "gates": ("Gates", True),
        "figures": ("Figures", True),
        "champion": ("Beside the champion", context["beside"]),
        "gone": ("Vanished test images", context["vanished"]),
        "line": ("Threshold", True),
        "curves": ("Curves", True),
        "slices": ("Slices", context["slices"]),
        "robustness": ("Changed pictures", context["robustness"]),
        "errors": ("Errors", True),
        "data": ("Data", True),
        "training": ("Training", context["trainings"]),
        "lineage": ("Lineage", True),
    }
    return [(anchor, words) for anchor, (words, there) in parts.items() if there]


def draw_training(history: Path, title: str, best: int) -> tuple[str, Picture] | None:
    """A training's loss over its epochs, from history.csv; None if it holds no validation loss."""
    with history.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    columns = {"train_loss": "on the training images", "validation_log_loss": "on the validation images"}
    series = {
        words: [float(row[name]) if row[name] else None for row in rows]
        for name, words in columns.items()
        if rows and name in rows[0] and any(row[name] for row in rows)
    }
    if columns["validation_log_loss"] not in series:
        return None
    return title, charts.draw_history([int(row["epoch"]) for row in rows], series, "loss (log loss, nats)", best)


def _consequence(judgement: Judgement, outcome: Outcome) -> str:
    stays = (
        f"Version {outcome.champion} stays the champion."
        if outcome.champion is not None
        else "There is still no champion."
    )
    if judgement.dvc_experiment:
        return f"This was the DVC experiment “{judgement.dvc_experiment}”. An experiment never moves an alias. {stays}"
    if outcome.promoted and outcome.nothing_new:
        return f"Version {outcome.version} of “{judgement.name}” holds this very model and is the champion."
    if outcome.promoted and judgement.champion is None:
        return f"It is the first champion of “{judgement.name}”."
    if outcome.promoted and judgement.champion is not None:
        return f"It takes the place of version {judgement.champion.version} of “{judgement.name}”."
    if outcome.version is not None:
        return f"Version {outcome.version} of “{judgement.name}” holds this model. {stays}"
    return f"No version was made. {stays}"


def _gate(gate: GateResult) -> dict[str, Any]:
    word = ("passed" if gate.passed else "failed") if gate.applies else "does not apply"
    held = gate.value if gate.bound is None else gate.bound
    return {
        "name": gate.name,
        "value": gate.value,
        "bound": gate.bound,
        "limit": gate.limit,
        "n": gate.n,
        "word": word,
        "tone": ("good" if gate.passed else "bad") if gate.applies else "quiet",
        # Numbers beside their limit need no words.
        "detail": "" if gate.applies and gate.limit is not None and held is not None else gate.detail,
    }


def _rows(judgement: Judgement) -> list[dict[str, Any]]:
    metrics, intervals = judgement.candidate.metrics, judgement.candidate.intervals
    rows = []
    for name in (*METRICS, "threshold"):
        ends = intervals.get(name)
        rows.append(
            {
                "key": name,
                "title": TITLES.get(name, "Threshold"),
                "own": metrics.get(name),
                "interval": None if ends is None else f"{ends.low:.3f} to {ends.high:.3f}",
            }
        )
    return rows


def _charts(judgement: Judgement) -> dict[str, Picture]:
    candidate = judgement.candidate
    uncalibrated = apply_temperature(candidate.test.probability, 1 / candidate.decision["temperature"])
    return plots.draw_plots(candidate.test, uncalibrated, candidate.metrics, candidate.labels)


def _lineage(judgement: Judgement, recorded: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, Any]]]]:
    candidate, origin = judgement.candidate, judgement.provenance
    code = html_page.code_markup

    def starting(prefix: str) -> str:
        return ", ".join(
            f"{key.removeprefix(prefix)} {value}" for key, value in origin.items() if key.startswith(prefix)
        )

    model = candidate.about["finetune_all"]
    made = [
        ("Git commit", code(origin.get("git.commit", "unknown"))),
        ("Files changed since that commit", origin.get("git.changed", "unknown")),
        ("Network and start weights", f"{model['backbone']}, {model['weights']}"),
        ("Start weights, SHA-256", code(model["base_sha256"])),
        ("Libraries", starting("library.")),
        ("Hardware of this step", starting("hardware.")),
    ]
    optional = {"Image": "image", "Pipeline run": "pipeline_run", "DVC experiment": "dvc_experiment"}
    made += [(title, code(origin[key])) for title, key in optional.items() if key in origin]
    digests: list[tuple[str, Any]] = [
        ("Data, fingerprint", code(candidate.decision["fingerprint"])),
        ("Test images, fingerprint", code(candidate.test_fingerprint)),
        ("Model, SHA-256", code(candidate.digests["finetune_all"])),
        ("Decision, SHA-256", code(candidate.digests["decision"])),
    ]
    rehearsed = recorded.get("rehearsal")
    if recorded.get("seal"):
        digests.append(("Seal of the logged model, SHA-256", code(recorded["seal"])))
    if rehearsed:
        words = (
            f"loaded in a fresh process, pickles forbidden; on {rehearsed['images']} test images its probabilities "
            f"differ from the evaluation's by at most {rehearsed['largest_difference']} (allowed: "
            f"{rehearsed['tolerance']:g})"
        )
        digests.append(("Rehearsal of the logged model", words))
    places = [
        ("Store", code(recorded["tracking_uri"])),
        ("Experiment", recorded["experiment"]),
        ("Run", code(recorded["run_id"])),
        ("Logged model", code(recorded.get("model_id") or "none")),
    ]
    places += [(f"Training run of {step}", code(run)) for step, run in recorded["training_runs"].items()]
    return [("What it was made with", made), ("What was judged", digests), ("Where it is recorded", places)]
