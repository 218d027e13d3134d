"""What Twofold writes into MLflow: runs, metrics and tags; a test finds each tag in the code, and the reverse."""

from scripts.reference.tables import code, table
from twofold.metrics.classification import METRICS

RUNS = """Each candidate has one run, named by its verdict, with two nested runs: the trainings of `train_head` and
`finetune_all`. All are in the experiment `register.experiment`
([what the UI shows](../guides/mlflow.md#what-the-mlflow-ui-shows)).

- The candidate's run holds all parameters as `section.key`, the data of each split as inputs, the folders `evaluation`
  and `registration`, and the sealed model.
- A training's run holds its parameters and, by epoch, the columns of `history.csv`: `lr`, `train_loss`,
  `validation_log_loss`, `validation_roc_auc`, `validation_accuracy`."""
MODEL = {
    "twofold.ledger": "the ledger of decisions, in entries `twofold.ledger…`",
    "twofold.judged": "candidates that its test images have judged",
}
VERSION = {
    "twofold.key": "digest of model, decision and test images",
    "twofold.seal": "SHA-256 of the sealed model",
    "twofold.figures": "main metrics on its test images, as JSON",
    "twofold.gates": "the verdict as JSON, in tags `twofold.gates…`",
    "twofold.judged_against": "version of the champion at that time, or nothing",
    "twofold.champion_predictions": "by champion, the run and the SHA-256 of its predictions on the version's test",
    "twofold.conditions": "gates, `reference_since` and test reuse of its judgement, as JSON",
    "twofold.best": "best champion before, by metric",
    "twofold.lineage": "data, parameters, code and images that it was made from, as JSON",
    "twofold.test_fingerprint": "SHA-256 over the test images and their labels",
    "twofold.data_fingerprint": "SHA-256 of the prepared data",
    "twofold.model_digest": "SHA-256 of the model",
    "twofold.decision_digest": "SHA-256 of `decision.json`",
    "twofold.git_commit": "the commit that it was trained from",
}
RUN = {
    "twofold.step": "`register`, `train_head` or `finetune_all`",
    "twofold.run_key": "digest of the model's key and of all parameters",
    "twofold.verdict": "the verdict in one sentence",
    "twofold.reasons": "why it was not promoted",
    "twofold.outcome": "digest of the verdict; set last, so a run that has it is complete",
    "twofold.test_reuse": "use of the test images up to this candidate, as JSON",
    "twofold.run": "ids of the training runs: `twofold.run.train_head`, `twofold.run.finetune_all`",
    "twofold.pipeline_run": "followed by the id of the Kubeflow run: the verdict as JSON",
    "twofold.model_id": "the logged model that it sealed",
    "twofold.rehearsed": "largest difference in the smoke test",
    "twofold.digest": "of a training: SHA-256 of what it wrote",
    "twofold.resume_key": "of a training: by which an interrupted one is found again",
    "twofold.git": "provenance: `twofold.git.commit`, `twofold.git.changed`; likewise `twofold.library.…`, "
    "`twofold.hardware.…`, `twofold.image`, `twofold.source`",
}
LOCK = {
    "twofold.lock": "registered model `twofold.lock.…` that serves as the lock of a promotion",
    "twofold.kind": "`lock`",
    "twofold.holder": "the process that holds it",
    "twofold.token": "its fencing number",
    "twofold.beat": "its heartbeat",
    "twofold.released": "set when it is given back",
}
GROUPS = {"a registered model": MODEL, "a version": VERSION, "a run or logged model": RUN, "a lock": LOCK}


def tracking() -> str:
    """Runs, metrics, and a table of tags for each kind of object."""
    metrics = ", ".join(f"`{name}`" for name in METRICS)
    parts = [
        f"## Runs\n\n{RUNS}",
        f"## Metrics\n\nOf the candidate, on the test images: {metrics}, the counts and the threshold of "
        "[metrics.json](reports.md), and `model_bytes` and `latency_ms` where a gate asks for them.",
    ]
    parts += [
        f"## Tags of {title}\n\n{table(('tag', 'meaning'), code(tags.items()))}" for title, tags in GROUPS.items()
    ]
    return "\n\n".join(parts)
