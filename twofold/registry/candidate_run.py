"""What a candidate's run in MLflow contains: its tags, parameters, metrics, data sets, trainings and description.

Takes a judgement and, at the end, the verdict as JSON; every function can be repeated without writing anything twice.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from twofold.core.artifacts import file_sha256
from twofold.core.drafts import scratch_folder
from twofold.data.splits import SPLITS
from twofold.evaluation.predictions import PREDICTIONS, fingerprint, write
from twofold.promotion.judgement import Judgement
from twofold.registry.lineage import data_origin
from twofold.registry.recorded_evaluation import CHAMPION_PREDICTIONS, CHAMPIONS, EVALUATION
from twofold.tracking import runs
from twofold.tracking.live_run import STEP
from twofold.tracking.registry_client import KEY
from twofold.tracking.runs import TEST_FINGERPRINT, Run
from twofold.tracking.store import LOOKS, MlflowStore, as_params, log_params
from twofold.tracking.urls import ui_page

VERDICT, REASONS = "twofold.verdict", "twofold.reasons"


def tags(judgement: Judgement) -> dict[str, str]:
    """Return the tags that are known before the verdict's outcome; the MLflow UI shows them in this order."""
    candidate = judgement.candidate
    found = {
        VERDICT: "being recorded",
        REASONS: "none",
        KEY: candidate.key,
        STEP: "register",
        "twofold.model_digest": candidate.digests["finetune_all"],
        "twofold.decision_digest": candidate.digests["decision"],
        TEST_FINGERPRINT: candidate.test_fingerprint,
        LOOKS: judgement.looks.model_dump_json(),
        "twofold.data_fingerprint": candidate.decision["fingerprint"],
        "mlflow.source.name": "twofold.steps.register",
    }
    if commit := judgement.provenance.get("git.commit"):
        found["mlflow.source.git.commit"] = commit
    return found | {f"twofold.{key}": value for key, value in judgement.provenance.items()}


def verdict_tags(judgement: Judgement, values: Mapping[str, Any], *, rename: bool) -> dict[str, str]:
    """Return the tags with the verdict, the run's description and, with `rename`, its name."""
    metrics, headline = judgement.candidate.metrics, values["headline"]
    metric = "roc_auc" if "roc_auc" in metrics else "accuracy"
    word = judgement.dvc_experiment or headline.partition(":")[0].lower()
    # The verdict first, because the list of runs shows about 16 characters, and the date beside them.
    name = f"{word} {metric} {metrics[metric]:.3f} {datetime.now(UTC):%Y-%m-%d}"
    trainings = " and ".join(
        f"[{step}]({ui_page('experiments', values['experiment_id'], 'runs', run_id)})"
        for step, run_id in values["training_runs"].items()
    )
    description = [
        f"**{headline}**",
        *values["reasons"],
        f"Trained by {trainings}. For the gates and their reasons, open `registration/decision.html` under Artifacts. "
        f"This run says what register decided; the aliases of [{values['name']}]({ui_page('models', values['name'])}) "
        "say what is in use now.",
    ]
    return {
        VERDICT: headline,
        REASONS: "\n".join(values["reasons"]) or "none",
        "mlflow.note.content": "\n\n".join(description),
        **({"mlflow.runName": name} if rename else {}),
    }


def log_candidate(store: MlflowStore, run: Run, judgement: Judgement, sections: Mapping[str, Any]) -> None:
    """Log the parameters of all steps, the metrics, the data sets, the trainings and the evaluation's files."""
    candidate, data = judgement.candidate, judgement.candidate.prepared
    log_params(store, run, as_params(sections))
    runs.log_main_metrics(store, run, {**candidate.metrics, **judgement.measured})
    labels, splits = data.column("label"), {}
    for split in SPLITS:
        if len(rows := data.rows(split)):
            splits[split] = fingerprint(data.sha256[rows], labels[rows]), Counter(labels[rows].tolist())
    runs.log_datasets(store, run, data_origin(judgement).get("source", "images"), splits)
    for step, folder in {"train_head": candidate.head, "finetune_all": candidate.model}.items():
        runs.link_training(store, run, step, candidate.digests[step], folder / "history.csv")
    runs.log_folder(store, run, candidate.evaluation, EVALUATION)


def log_champion_predictions(store: MlflowStore, run: Run, judgement: Judgement) -> dict[str, str]:
    """Log what each champion predicts on the images of its comparison, from which `approve` evaluates the gates again.

    Returns:
        Tags of the candidate's version, which name the files.
    """
    found = {}
    with scratch_folder() as folder:
        for number, comparison in judgement.comparisons.items():
            probability, threshold = np.asarray(comparison.other.probability), comparison.other.threshold
            predicted = (probability >= threshold).astype(np.int64)
            write(folder / PREDICTIONS, replace(comparison.test, probability=probability, predicted=predicted))
            sha256 = file_sha256(folder / PREDICTIONS)
            # Named by its content, so that judging again overwrites no evidence.
            (folder / PREDICTIONS).rename(folder / f"{sha256}.parquet")
            found[f"{CHAMPION_PREDICTIONS}{number}"] = f"{run.info.run_id}/{sha256}"
        if found:
            runs.log_folder(store, run, folder, CHAMPIONS)
    return found
