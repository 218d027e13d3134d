"""register: judges the model against its gates, and promotes it in MLflow if it passes all of them.

Reads the outputs of all other steps. Writes `decision.html`, `model_card.md`, `disagreements.csv` (test images that
either the model or the champion alone gets right), `vanished.csv` (earlier test images that this test lacks), the
verdict as JSON, and `index.html`, which links all pages and shows the history of champions and versions. In MLflow it
writes a run with parameters, metrics, curves, charts and provenance, the sealed model, and, if every gate passes, a
version with an alias. It is the only step that uses the registry. A refused model is a result, not an error.
"""

import hashlib
import json
import os
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from urllib.parse import quote

from pydantic import Field

from twofold.core.drafts import scratch_folder
from twofold.core.params import Integer, Section, Text
from twofold.promotion.gates import Gate
from twofold.promotion.test_reuse import TestReuse

if TYPE_CHECKING:
    from twofold.promotion.judgement import Judgement, Outcome
    from twofold.registry.registration import RegistryState
    from twofold.tracking.runs import Run
    from twofold.tracking.store import MlflowStore

KIND, SCHEMA_VERSION = "registration", 1
PAGE, CARD, RECORD = "decision.html", "model_card.md", "registration.json"
DISAGREEMENTS, VANISHED = "disagreements.csv", "vanished.csv"


class Register(Section):
    """What a model must prove before it is promoted, and where that is recorded."""

    experiment: Text = Field(description="Name of the MLflow experiment for the training runs and the candidate's run")
    model_name: Annotated[Text, Field(pattern=r"^[A-Za-z0-9_-]+$", max_length=100)] = Field(
        description="Name of the registered model in MLflow: letters, digits, _ and -, at most 100 characters"
    )
    gates: list[Gate] = Field(
        description="Conditions, at least one, that must all hold. Each names a metric as `figure`, one of min, max (a "
        "limit; with `bound: lower` or `upper` that bound of the 95 % interval is compared), non_inferior_by (proven "
        "to be worse than the champion, and the best champion before, by less than this) or better_by (proven to be "
        "better by more than this), and optionally `slice: column` or `slice: {column: value}`",
        min_length=1,
    )
    reference_since: Integer = Field(
        description="First version that can be the best champion before, by which non_inferior_by guards against slow "
        "decline, 1 to 2147483647; set to the champion's version, it excludes all earlier ones",
        ge=1,
        le=2**31 - 1,
    )
    test_reuse: TestReuse = Field(description="How often the same test images may judge candidates")
    promotion: Literal["auto", "review"] = Field(
        description="auto: a model that passes becomes the champion; review: it becomes the challenger, until a person "
        "promotes it"
    )


def register(
    params: Register,
    raw: Path,
    data: Path,
    head: Path,
    model: Path,
    evaluation: Path,
    ingest_audit: Path,
    preprocess_audit: Path,
    train_head_audit: Path,
    *,
    registration: Path,
    verdict: Path,
    index: Path,
) -> None:
    """Judge the candidate, record it in MLflow, and give it its alias if it passes.

    Running it again on the same model creates no second version; after a kill at any point, running it again completes
    what is missing.

    Raises:
        ArtifactError: the artifacts are not made from each other.
        RegistryError: MLflow cannot be reached, the sealed model does not predict what evaluate did, or the champion
            has changed since it was read.
    """
    from twofold.tracking import store as tracking

    tracking.silence_mlflow()  # before MLflow is imported
    from twofold.audit.checks import PAGE as AUDIT_PAGE
    from twofold.core.artifacts import publish, write_bytes, write_json, write_meta
    from twofold.core.progress import say
    from twofold.promotion.candidate import read_candidate
    from twofold.promotion.champion_challenger import assess_candidate
    from twofold.promotion.judgement import Judgement
    from twofold.promotion.test_reuse import count_looks
    from twofold.registry import registration as registering
    from twofold.registry import transitions, version_catalog
    from twofold.registry.earlier_candidates import earlier_candidates
    from twofold.registry.provenance import provenance
    from twofold.reporting import decision_page, index_page

    audits = {"ingest": ingest_audit, "preprocess": preprocess_audit, "train_head": train_head_audit}
    candidate = read_candidate(raw, data, head, model, evaluation, *audits.values())
    store = tracking.connect(create=True)
    with tracking.readable_errors(store.uri):
        name = params.model_name
        state = registering.registry_state(store, name, candidate.key, transitions.sound_ledger(store, name))
        earlier, recorded = earlier_candidates(store, name, state.ledger, candidate)
        count = partial(count_looks, reuse=params.test_reuse, earlier=earlier, recorded=recorded)
        gates, since = params.gates, params.reference_since
        assessment = assess_candidate(store, name, state.opponent, candidate, gates, since, count)
        judgement = Judgement(
            name=name,
            candidate=candidate,
            provenance=provenance(),
            dvc_experiment=os.environ.get("DVC_EXP_NAME"),
            **assessment._asdict(),
        )
        with scratch_folder() as scratch:
            values = _record(store, params, judgement, state, scratch)
            with publish(registration) as draft:
                for file in (PAGE, CARD, DISAGREEMENTS, VANISHED):
                    shutil.copyfile(scratch / file, draft / file)
                write_meta(draft, KIND, SCHEMA_VERSION, params=params.model_dump(mode="json"))
        catalog = version_catalog.open_catalog(name, store)
        versions, decisions = version_catalog.list_versions(catalog), version_catalog.history(catalog)
    write_json(verdict, values)
    pages = {"Verdict, gates and metrics": registration / PAGE, "Evaluation, explained": evaluation / "evaluation.html"}
    pages |= {f"Data audit of {step}": audit / AUDIT_PAGE for step, audit in audits.items()}
    # In Kubeflow, each page is an output of its own, which no other page can link.
    reachable = {} if "pipeline_run" in judgement.provenance else pages | {"Model card": registration / CARD}
    links = {title: quote(Path(os.path.relpath(page, index.parent)).as_posix()) for title, page in reachable.items()}
    block = decision_page.verdict_block(judgement, f"{values['headline']}.", values)
    write_bytes(index, index_page.render(values, block, links, versions, decisions["entries"]).encode())
    for line in (values["headline"], *values["reasons"]):
        say(f"register: {line}")


def _record(
    store: "MlflowStore", params: Register, judgement: "Judgement", state: "RegistryState", folder: Path
) -> dict[str, Any]:
    """Write into MLflow what is missing there, and the pages into `folder`; return the verdict."""
    from twofold.promotion.judgement import as_json, digest
    from twofold.registry import candidate_run
    from twofold.registry import registration as registering
    from twofold.reporting.model_card import describe_model, render
    from twofold.tracking import runs
    from twofold.tracking import store as tracking
    from twofold.tracking.live_run import joined_run
    from twofold.tracking.registry_client import CHALLENGER, CHAMPION

    alias = CHAMPION if params.promotion == "auto" else CHALLENGER
    sections = {**judgement.candidate.params, "register": params.model_dump(mode="json")}
    joined = joined_run(store)
    experiment_id = str(joined.info.experiment_id) if joined else tracking.experiment(store, params.experiment)
    # A DVC experiment gets a run of its own, even if its model is that of a candidate.
    parts = [judgement.candidate.key, sections, judgement.dvc_experiment]
    run_key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    found = joined or next(iter(tracking.runs_with(store, experiment_id, runs.RUN_KEY, run_key)), None)
    outcome = registering.known_outcome(state, judgement, alias)
    if outcome and found and found.data.tags.get(runs.OUTCOME) == digest(as_json(judgement, outcome)):
        return _write(store, found, judgement, outcome, params, folder)
    begun = found is not None and found.data.tags.get(runs.RUN_KEY) == run_key and runs.OUTCOME not in found.data.tags
    if outcome and outcome.nothing_new and begun:
        # An earlier register promoted it and was killed before it recorded that, so this run reports the promotion.
        outcome = replace(outcome, nothing_new=False)

    run_name = judgement.dvc_experiment or f"candidate-{judgement.candidate.key[:8]}"
    run = runs.open_run(store, experiment_id, found, run_name, candidate_run.tags(judgement) | {runs.RUN_KEY: run_key})
    candidate_run.log_candidate(store, run, judgement, sections)
    if outcome is None or (outcome.version is None and judgement.dvc_experiment is None):
        logged = registering.log_model(store, run, judgement)
        outcome = outcome or registering.promote(
            store,
            run,
            state,
            judgement,
            model=logged,
            alias=alias,
            card=render(judgement),
            about=describe_model(judgement),
            params=sections,
            predictions=candidate_run.log_champion_predictions(store, run, judgement),
        )
    values = _write(store, store.client.get_run(run.info.run_id), judgement, outcome, params, folder)
    runs.log_folder(store, run, folder, KIND)
    runs.set_tags(store, run, candidate_run.verdict_tags(judgement, values, rename=joined is None))
    runs.close_run(store, run, {runs.OUTCOME: digest(as_json(judgement, outcome))}, terminate=joined is None)
    return values


def _write(
    store: "MlflowStore", run: "Run", judgement: "Judgement", outcome: "Outcome", params: Register, folder: Path
) -> dict[str, Any]:
    """Write page, card, tables and verdict into the folder; return the verdict."""
    from twofold.core.artifacts import write_csv, write_json
    from twofold.promotion import disagreements
    from twofold.promotion.judgement import as_json
    from twofold.registry import transitions
    from twofold.reporting import decision_page, model_card
    from twofold.serving.sealed_model import TOLERANCES

    location = _mlflow_location(store, run, params, TOLERANCES[judgement.candidate.decision["precision"]])
    location["decided"] = transitions.describe_decision(store, judgement.name, outcome.version, run.info.start_time)
    (folder / PAGE).write_text(decision_page.render(judgement, outcome, location), encoding="utf-8", newline="\n")
    (folder / CARD).write_text(model_card.render(judgement), encoding="utf-8", newline="\n")
    differing = disagreements.find_disagreements(judgement.champion) if judgement.champion else []
    disagreements.write_disagreements(folder / DISAGREEMENTS, differing)
    write_csv(folder / VANISHED, ("sha256", "now"), judgement.vanished.items())
    values = as_json(judgement, outcome) | location
    write_json(folder / RECORD, values)
    return values


def _mlflow_location(store: "MlflowStore", run: "Run", params: Register, tolerance: float) -> dict[str, Any]:
    """Return where MLflow records the judgement, and how to open it."""
    from twofold.core.redaction import without_credentials
    from twofold.registry.registration import MODEL_ID
    from twofold.serving.smoke_test import IMAGES
    from twofold.tracking.registry_client import SEAL, SMOKE_TESTED
    from twofold.tracking.store import ui_command
    from twofold.tracking.urls import LOCAL_UI, ui_page

    tags, uri = run.data.tags, without_credentials(store.uri)
    page = ui_page("experiments", str(run.info.experiment_id), "runs", run.info.run_id)
    smoke_test = {"images": IMAGES, "tolerance": tolerance, "largest_difference": float(tags.get(SMOKE_TESTED, "nan"))}
    web = uri.startswith("http")
    return {
        "experiment": params.experiment,
        "experiment_id": run.info.experiment_id,
        "run_id": run.info.run_id,
        "tracking_uri": uri,
        "open": f"{uri.rstrip('/')}/{page}" if web else ui_command(),
        "page": "" if web else f"{LOCAL_UI}/{page}",
        "model_id": tags.get(MODEL_ID),
        "seal": tags.get(SEAL),
        "rehearsal": smoke_test if SMOKE_TESTED in tags else None,
        "training_runs": {
            step: tags.get(f"twofold.run.{step}", "curves logged here") for step in ("train_head", "finetune_all")
        },
    }


if __name__ == "__main__":
    from twofold.orchestration.step_cli import main

    main(register)
