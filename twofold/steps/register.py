"""register: judge the model, and promote it in MLflow if it passes its gates.

In: everything that the other steps wrote. Out: `decision.html`, `model_card.md`, `disagreements.csv` (images that the
model or the champion alone gets right), `vanished.csv` (old test images that are gone), and the verdict as JSON; in
MLflow a run with parameters, figures, curves, pictures and provenance, the sealed model, and, if every gate is passed,
a version with the alias `champion`. The only step that knows the registry. A refusal is a result, not an error.
"""

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from twofold.core.params import Integer, Section, Text
from twofold.promotion.gates import Gate

if TYPE_CHECKING:
    from twofold.promotion.judgement import Judgement, Outcome
    from twofold.tracking.runs import Run
    from twofold.tracking.store import MlflowStore

KIND, SCHEMA_VERSION = "registration", 1
PAGE, CARD, RECORD = "decision.html", "model_card.md", "registration.json"
DISAGREEMENTS, VANISHED = "disagreements.csv", "vanished.csv"


class Register(Section):
    """What a model must show before it is promoted, and where that is recorded."""

    experiment: Text = Field(description="MLflow experiment of the training runs and of the candidate's run, a name")
    model_name: Annotated[Text, Field(pattern=r"^[A-Za-z0-9_-]+$", max_length=100)] = Field(
        description="registered model in MLflow: letters, digits, _ and -, at most 100"
    )
    gates: list[Gate] = Field(
        description="conditions, all of which must hold; each a figure with one of min, max (with `bound: lower` or "
        "`upper` of its 95 % interval, not of the figure itself), non_inferior_by (proven to be less worse than the "
        "champion than that, and than the best champion before) or better_by (proven to be better by more), and maybe "
        "`slice: column` or `slice: {column: value}`; at least one",
        min_length=1,
    )
    reference_since: Integer = Field(
        description="the first version that counts as the best champion before, behind which non_inferior_by keeps a "
        "model from falling in small steps, 1 to 2147483647; raising it to the champion's version forgets those before",
        ge=1,
        le=2**31 - 1,
    )
    promotion: Literal["auto", "review"] = Field(
        description="auto: a model that passes becomes the champion; review: it becomes the challenger, and a person "
        "promotes it"
    )


def register(
    params: Register,
    raw: Path,
    data: Path,
    head: Path,
    model: Path,
    evaluation: Path,
    metrics: Path,
    ingest_audit: Path,
    preprocess_audit: Path,
    train_head_audit: Path,
    *,
    registration: Path,
    verdict: Path,
) -> None:
    """Judge the candidate, record it in MLflow, and give it its alias if it passes.

    Run twice on the same model it makes no second version; killed at any point and run again, it finishes the job.

    Raises:
        ArtifactError: the artifacts are not made from each other.
        RegistryError: MLflow cannot be reached, the sealed model does not predict what evaluate did, or the champion
            has changed in the meantime.
    """
    from twofold.tracking import store as tracking

    tracking.silence_mlflow()  # before MLflow is imported
    from twofold.core.artifacts import publish, write_json, write_meta
    from twofold.core.progress import say
    from twofold.promotion import judgement as judging
    from twofold.promotion.candidate import read_candidate
    from twofold.promotion.champion_challenger import assess_candidate
    from twofold.registry import registration as registering
    from twofold.registry.provenance import provenance

    audits = (ingest_audit, preprocess_audit, train_head_audit)
    candidate = read_candidate(raw, data, head, model, evaluation, metrics, *audits)
    store = tracking.connect()
    with tracking.readable_errors(store.uri):
        stands = registering.registry_state(store, params.model_name, candidate.key)
        held = assess_candidate(store, params.model_name, stands.rival, candidate, params.gates, params.reference_since)
        judged = judging.Judgement(
            name=params.model_name,
            candidate=candidate,
            provenance=provenance(),
            dvc_experiment=os.environ.get("DVC_EXP_NAME"),
            **held._asdict(),
        )
        with tempfile.TemporaryDirectory() as scratch:
            written = Path(scratch)
            values = _record(store, params, judged, stands, written)
            with publish(registration) as draft:
                for name in (PAGE, CARD, DISAGREEMENTS, VANISHED):
                    (draft / name).write_bytes((written / name).read_bytes())
                write_meta(draft, KIND, SCHEMA_VERSION, params=params.model_dump(mode="json"))
    write_json(verdict, values)
    say(f"register: {values['headline']}")
    for reason in values["reasons"]:
        say(f"register: {reason}")


def _record(store: "MlflowStore", params: Register, judged: "Judgement", stands: Any, folder: Path) -> dict[str, Any]:
    """Write into MLflow what is not there yet, and the page and the card into `folder`; returns the verdict."""
    from twofold.promotion.judgement import as_json, digest
    from twofold.registry import registration as registering
    from twofold.reporting.model_card import render
    from twofold.tracking import runs
    from twofold.tracking import store as tracking
    from twofold.tracking.registry_client import CHALLENGER, CHAMPION

    alias = CHAMPION if params.promotion == "auto" else CHALLENGER
    sections = {**judged.candidate.params, "register": params.model_dump(mode="json")}
    joined = os.environ.get("MLFLOW_RUN_ID")
    if joined:
        experiment_id = str(store.client.get_run(joined).info.experiment_id)
    else:
        experiment_id = tracking.experiment(store, params.experiment)
    # An experiment that comes to the very model of a candidate is still a record of its own.
    parts = [judged.candidate.key, sections, judged.dvc_experiment]
    run_key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    found = runs.find_run(store, experiment_id, run_key, joined)
    outcome = registering.known_outcome(stands, judged, alias)
    if outcome and found and found.data.tags.get(runs.OUTCOME) == digest(as_json(judged, outcome)):
        return _write(store, found, judged, outcome, params, folder)
    if outcome and outcome.nothing_new and found and runs.OUTCOME not in found.data.tags:
        # Promoted by a register that was killed before it had said so: this one says it.
        outcome = replace(outcome, nothing_new=False)

    run = runs.open_run(store, experiment_id, found, _name(judged), _tags(judged) | {runs.RUN_KEY: run_key})
    _log_candidate(store, run, judged, sections)
    if outcome is None or (outcome.version is None and judged.dvc_experiment is None):
        logged, seal = registering.log_model(store, run, judged)
        outcome = outcome or registering.promote(
            store,
            run,
            stands,
            judged,
            model=logged,
            seal_digest=seal,
            alias=alias,
            card=render(judged),
            params=sections,
        )
    values = _write(store, store.client.get_run(run.info.run_id), judged, outcome, params, folder)
    runs.log_folder(store, run, folder, KIND)
    words = {"twofold.verdict": values["headline"], "twofold.reasons": "\n".join(values["reasons"])}
    runs.set_tags(store, run, {**words, "mlflow.note.content": "\n\n".join([values["headline"], *values["reasons"]])})
    runs.close_run(store, run, digest(as_json(judged, outcome)), terminate=joined is None)
    return values


def _log_candidate(store: "MlflowStore", run: "Run", judged: "Judgement", sections: Mapping[str, Any]) -> None:
    from twofold.registry.recorded_evaluation import EVALUATION, METRICS
    from twofold.tracking import runs
    from twofold.tracking import store as tracking

    candidate = judged.candidate
    tracking.log_params(store, run, tracking.flatten(sections))
    runs.log_figures(store, run, {**candidate.metrics, **judged.measured})
    if judged.champion is not None and not judged.champion.problem:
        found = judged.champion.as_json()
        # A step for each champion that the model was held against.
        runs.log_figures(store, run, {"comparison": found["figures"] | {"n": found["n"]}}, step=found["version"])
    runs.log_figures(store, run, {f"{step}.validation": candidate.about[step]["validation"] for step in _TRAININGS})
    for step, folder in (("train_head", candidate.head), ("finetune_all", candidate.model)):
        runs.link_training(store, run, step, candidate.digests[step], folder / "history.csv")
    runs.log_folder(store, run, candidate.evaluation, EVALUATION)
    with runs.readable_file_errors(store):
        store.client.log_dict(run.info.run_id, candidate.metrics, f"{EVALUATION}/{METRICS}")


def _write(
    store: "MlflowStore", run: "Run", judged: "Judgement", outcome: "Outcome", params: Register, folder: Path
) -> dict[str, Any]:
    """Page, card, tables and verdict into the folder."""
    from twofold.core.artifacts import write_json
    from twofold.promotion import disagreements
    from twofold.promotion.judgement import as_json
    from twofold.reporting import decision_page, model_card
    from twofold.serving.sealed_model import TOLERANCES

    recorded = _where(store, run, params, TOLERANCES[judged.candidate.decision["precision"]])
    (folder / PAGE).write_text(decision_page.render(judged, outcome, recorded), encoding="utf-8", newline="\n")
    (folder / CARD).write_text(model_card.render(judged), encoding="utf-8", newline="\n")
    disagreements.write_disagreements(
        folder / DISAGREEMENTS, disagreements.find_disagreements(judged.champion) if judged.champion else []
    )
    lines = [f"{sha256},{where}" for sha256, where in judged.vanished.items()]
    (folder / VANISHED).write_text("\n".join(["sha256,now", *lines, ""]), encoding="utf-8", newline="\n")
    values = as_json(judged, outcome) | recorded
    write_json(folder / RECORD, values)
    return values


def _where(store: "MlflowStore", run: "Run", params: Register, tolerance: float) -> dict[str, Any]:
    """Where the judgement is recorded, and how to look at it."""
    from twofold.registry.registration import MODEL_ID
    from twofold.serving.smoke_test import IMAGES
    from twofold.tracking.registry_client import SEAL, SMOKE_TESTED
    from twofold.tracking.store import without_credentials

    tags, uri = run.data.tags, without_credentials(store.uri)
    place = f"#/experiments/{run.info.experiment_id}/runs/{run.info.run_id}"
    rehearsal = {"images": IMAGES, "tolerance": tolerance, "largest_difference": float(tags.get(SMOKE_TESTED, "nan"))}
    web = uri.startswith("http")
    return {
        "experiment": params.experiment,
        "experiment_id": run.info.experiment_id,
        "run_id": run.info.run_id,
        "tracking_uri": uri,
        "open": f"{uri.rstrip('/')}/{place}" if web else "make ui",
        "page": "" if web else f"http://127.0.0.1:5000/{place}",
        "model_id": tags.get(MODEL_ID),
        "seal": tags.get(SEAL),
        "rehearsal": rehearsal if SMOKE_TESTED in tags else None,
        "training_runs": {step: tags.get(f"twofold.run.{step}", "curves logged here") for step in _TRAININGS},
    }


def _tags(judged: "Judgement") -> dict[str, str]:
    from twofold.tracking.live_run import STEP
    from twofold.tracking.registry_client import KEY

    candidate = judged.candidate
    tags = {
        KEY: candidate.key,
        STEP: "register",
        "twofold.model_digest": candidate.digests["finetune_all"],
        "twofold.decision_digest": candidate.digests["decision"],
        "twofold.test_fingerprint": candidate.test_fingerprint,
        "twofold.data_fingerprint": candidate.decision["fingerprint"],
        "mlflow.source.name": "twofold.steps.register",
    }
    commit = judged.provenance.get("git.commit")
    tags |= {"mlflow.source.git.commit": commit} if commit else {}
    return tags | {f"twofold.{key}": value for key, value in judged.provenance.items()}


def _name(judged: "Judgement") -> str:
    return judged.dvc_experiment or f"candidate-{judged.candidate.key[:8]}"


_TRAININGS = ("train_head", "finetune_all")


if __name__ == "__main__":
    from twofold.orchestration.step_cli import main

    main(register)
