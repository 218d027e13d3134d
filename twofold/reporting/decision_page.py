"""decision.html, the page on which a team decides: from a judgement and its outcome to one self-contained HTML file.

The verdict and the gates come first; then the metrics, the champion, a slider of the decision threshold, curves,
slices, robustness, the most confident errors with Grad-CAM maps, the data and their audits, and the lineage.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from twofold.audit import summary
from twofold.core.artifacts import read_csv
from twofold.metrics.classification import METRICS
from twofold.metrics.number_format import detection_sentence, interval_text, weakest_slice
from twofold.metrics.platt_scaling import recorded_scaling
from twofold.promotion.judgement import Judgement, Outcome, headline, reasons
from twofold.promotion.test_reuse import ERROR_RATE, confidence_text
from twofold.promotion.verdict import GateResult, format_value
from twofold.reporting import charts, comparison_section, data_summary, html_page, plots, sections, threshold_slider
from twofold.reporting.html_page import Picture
from twofold.reporting.wording import METHODS, TITLES

STEPS = {"train_head": "The head, on the frozen base", "finetune_all": "The whole network"}


def render(judgement: Judgement, outcome: Outcome, recorded: dict[str, Any]) -> str:
    """Render the page.

    Args:
        judgement: the candidate and its verdict.
        outcome: what register did with the candidate.
        recorded: where it is recorded: `run_id`, `experiment`, `tracking_uri`, `open`, and the training runs; and
            `decided`, when and by whom; see register.
    """
    candidate = judgement.candidate
    negative, positive = candidate.labels
    test, decision, metrics = candidate.test, candidate.decision, candidate.metrics
    uncalibrated = recorded_scaling(decision).inverse().calibrate(test.probability)
    title = headline(judgement, outcome)
    context = {
        "headline": title,
        **verdict_block(judgement, _consequence(judgement, outcome), recorded | {"version": outcome.version}),
        "name": judgement.name,
        "positive": positive,
        "negative": negative,
        "n": metrics["n"],
        "n_positive": metrics["n_positive"],
        "units": metrics["n_units"] if metrics["n_units"] < metrics["n"] else None,
        "effective": round(metrics["n_effective"]),
        "methods": METHODS,
        "reasons": reasons(judgement, outcome),
        "gates": [_gate(gate) for gate in judgement.verdict.gates],
        "champion": judgement.champion,
        "looks": judgement.looks,
        "confidence": confidence_text(judgement.looks.error_rate or ERROR_RATE),
        "rows": _rows(metrics),
        "slider": threshold_slider.context(test.target, test.probability, decision["threshold"]),
        "charts": plots.draw_plots(test, uncalibrated, metrics, candidate.labels),
        "scaling": recorded_scaling(decision),
        "views": decision["views"],
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
        "origin": judgement.provenance,
        "model": candidate.about["finetune_all"],
        "candidate": candidate,
        "recorded": recorded,
        **comparison_section.context(judgement),
    }
    return html_page.render(f"{judgement.name}: {title}", "decision.html", context, threshold_slider.SCRIPT)


def draw_training(history: Path, title: str, best: int) -> tuple[str, Picture] | None:
    """Draw a training's loss over its epochs from history.csv; None if it has no validation loss."""
    rows = read_csv(history)
    columns = {"train_loss": "on the training images", "validation_log_loss": "on the validation images"}
    series = {
        words: [float(row[name]) if row[name] else None for row in rows]
        for name, words in columns.items()
        if rows and name in rows[0] and any(row[name] for row in rows)
    }
    if columns["validation_log_loss"] not in series:
        return None
    return title, charts.draw_history([int(row["epoch"]) for row in rows], series, "loss (log loss, nats)", best)


def verdict_block(judgement: Judgement, consequence: str, recorded: Mapping[str, Any]) -> dict[str, Any]:
    """The values of `verdict.html`; `recorded` holds `version` and `decided`."""
    candidate, origin, decided = judgement.candidate, judgement.provenance, recorded["decided"]
    metrics, positive = candidate.metrics, candidate.labels[1]
    passed = "passed every gate that applies" if judgement.verdict.passed else "did not pass the gates"
    changed = "" if origin.get("git.changed", "none") == "none" else f", with changes in {origin['git.changed']}"
    rows = [
        ("Verdict", f"The model {passed}. {consequence}"),
        ("Weakest slice", weakest_slice(metrics["slices"], positive)),
        ("Data audits", "; ".join(summary.group_by_outcome(candidate.audits).found) or "nothing was found"),
        ("Date", decided["time"]),
        ("Version", str(recorded["version"] or "none was registered")),
        ("Commit", origin.get("git.commit", "unknown")[:12] + changed),
        ("Decided by", decided["by"]),
    ]
    tone = "good" if judgement.verdict.passed else "bad"
    return {"tone": tone, "sentence": detection_sentence(metrics, positive), "verdict": rows}


def _consequence(judgement: Judgement, outcome: Outcome) -> str:
    """What happened to the candidate and to the champion."""
    name, version, champion = judgement.name, outcome.version, judgement.champion
    stays = "There is still no champion."
    if outcome.champion is not None:
        stays = f"Version {outcome.champion} stays the champion."
    if judgement.dvc_experiment:
        return f"This was the DVC experiment “{judgement.dvc_experiment}”. An experiment never moves an alias. {stays}"
    if outcome.promoted and outcome.nothing_new:
        return f"Version {version} of “{name}” already holds this model and is the champion."
    if outcome.promoted:
        if champion is None:
            return f"It is the first champion of “{name}”."
        return f"It replaces version {champion.version} of “{name}”."
    if version is not None:
        return f"Version {version} of “{name}” holds this model. {stays}"
    return f"No version was registered. {stays}"


def _gate(gate: GateResult) -> dict[str, Any]:
    outcome = "passed" if gate.passed else "failed"
    compared = gate.value if gate.bound is None else gate.bound
    return {
        "name": gate.name,
        **{key: format_value(gate.figure, getattr(gate, key)) for key in ("value", "bound", "limit")},
        "n": gate.n,
        "word": outcome if gate.applies else "does not apply",
        "tone": ("good" if gate.passed else "bad") if gate.applies else "quiet",
        # A number and its limit need no explanation.
        "detail": "" if gate.applies and gate.limit is not None and compared is not None else gate.detail,
    }


def _rows(metrics: Mapping[str, Any]) -> list[dict[str, Any]]:
    titles = {name: TITLES[name][0] for name in METRICS} | {"threshold": "Threshold"}
    return [
        {"key": name, "title": title, "own": metrics.get(name), "interval": interval_text(metrics, name)}
        for name, title in titles.items()
    ]
