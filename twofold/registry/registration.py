"""Register a candidate: from a verdict to a logged model, a version and an alias.

Reads a judgement and the state of the registry. Writes a logged model that has passed a smoke test in a fresh process,
a version, and an alias. Every write first checks whether it has been done, so that a register that was killed can be
run again: it finishes the work and makes nothing twice.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twofold.core.artifacts import digest
from twofold.core.drafts import scratch_folder
from twofold.core.errors import RegistryError
from twofold.core.progress import say
from twofold.evaluation.drift_reference import REFERENCE
from twofold.metrics.decision_threshold import DECISION
from twofold.promotion import best_champion
from twofold.promotion.candidate import Candidate, sample_files
from twofold.promotion.judgement import Judgement, Outcome
from twofold.promotion.paired_comparison import ANOTHER
from twofold.registry import transitions, verdict_store
from twofold.registry.ledger import Ledger
from twofold.registry.lineage import LINEAGE, canonical, collect_lineage
from twofold.registry.recorded_evaluation import CHAMPION_PREDICTIONS
from twofold.registry.version_catalog import main_metrics
from twofold.serving import golden_samples
from twofold.serving.golden_samples import GOLDEN_SAMPLES
from twofold.serving.mlflow_model import find_differences, write_mlflow_model
from twofold.serving.sealed_model_writer import SealedFolder, write_sealed_model
from twofold.serving.smoke_test import IMAGES, run_smoke_test
from twofold.tracking import registry_client
from twofold.tracking.registry_client import CHAMPION, JUDGED_AGAINST, KEY, SEAL, LoggedModel, ModelVersion
from twofold.tracking.runs import Run, log_main_metrics, set_tags
from twofold.tracking.store import MlflowStore

MODEL_ID = "twofold.model_id"  # of a run: the logged model that it sealed


@dataclass(frozen=True)
class RegistryState:
    """The state of the registry for a candidate.

    Attributes:
        ledger: of the registered model.
        champion: the current champion.
        version: the version that holds the candidate already.
        opponent: the version to compare the candidate with: the champion; or, if the candidate is the champion
            itself, the version that it was compared with then.
    """

    ledger: Ledger
    champion: ModelVersion | None
    version: ModelVersion | None
    opponent: ModelVersion | None

    @property
    def champion_number(self) -> int | None:
        return None if self.champion is None else int(self.champion.version)


def registry_state(store: MlflowStore, name: str, key: str, ledger: Ledger) -> RegistryState:
    """Look up champion and candidate, by a key, in the registry and a ledger that was found sound.

    Raises:
        RegistryError: the champion has been deleted.
    """
    if ledger.entries:
        champion = None if ledger.champion is None else registry_client.version(store, name, str(ledger.champion))
        if champion is None and ledger.champion is not None:
            raise RegistryError(
                f"the champion of '{name}', version {ledger.champion}, has been deleted in MLflow: {ANOTHER}"
            )
    else:
        champion = registry_client.version_by_alias(store, name)  # from before there was a ledger
    versions = registry_client.versions_of_candidate(store, name, key)
    # Of several, the champion counts, or the first that was decided on.
    decided = [each for each in versions if ledger.highest_status(int(each.version))]
    current = [each for each in versions if champion and each.version == champion.version]
    version = next(iter(current or decided or versions), None)
    if champion is None or version is None or champion.version != version.version:
        return RegistryState(ledger, champion, version, champion)
    previous = version.tags.get(JUDGED_AGAINST)
    opponent = registry_client.version(store, name, previous) if previous else None
    return RegistryState(ledger, champion, version, opponent)


def known_outcome(state: RegistryState, judgement: Judgement, alias: str) -> Outcome | None:
    """The outcome if it is settled already; None if the candidate passed and is still to be promoted.

    A version that was champion once, or that a person has rejected, is settled for good: a scheduled run on the same
    data must not undo a person's decision.
    """
    champion, version = state.champion_number, state.version
    number = None if version is None else int(version.version)
    if version is not None and number is not None and not judgement.dvc_experiment:
        status = CHAMPION if number == champion else state.ledger.highest_status(number)
        # A version that waits for review is judged again if the champion has changed or its predictions are not logged.
        is_current = version.tags.get(JUDGED_AGAINST, "") == str(champion or "") and all(
            f"{CHAMPION_PREDICTIONS}{each}" in version.tags for each in judgement.comparisons
        )
        if status in (CHAMPION, registry_client.REJECTED) or (status == alias and is_current):
            return Outcome(number, status, nothing_new=True, champion=champion)
    if judgement.verdict.passed and not judgement.dvc_experiment:
        return None
    return Outcome(number, None, nothing_new=False, champion=champion)


def log_model(store: MlflowStore, run: Run, judgement: Judgement) -> LoggedModel:
    """Seal the candidate, log it, download it again and smoke-test it in a fresh process that forbids pickles.

    Raises:
        RegistryError: the store returns other files than were uploaded, or the predictions differ from evaluate's.
    """
    candidate = judgement.candidate
    with scratch_folder() as folder:
        images, probabilities = sample_files(candidate, IMAGES)
        pictures = bool(candidate.about["evaluate"]["params"]["pictures"])
        golden_samples.write(folder / GOLDEN_SAMPLES, images, probabilities, pictures=pictures)
        sealed = write_sealed_model(
            candidate.model,
            candidate.evaluation / DECISION,
            candidate.prepared.meta["pixels"],
            folder / "seal",
            candidate.splits,
            further={GOLDEN_SAMPLES: folder / GOLDEN_SAMPLES, REFERENCE: candidate.evaluation / REFERENCE},
        )
        tags = {KEY: candidate.key, SEAL: sealed.digest}
        found = registry_client.logged_model(store, run.info.experiment_id, candidate.key, sealed.digest)
        model = found or registry_client.begin_model(store, run, judgement.name, tags)
        registry_client.name_output(store, run, model)
        log_main_metrics(store, run, candidate.metrics, model.model_id)
        largest = model.tags.get(registry_client.SMOKE_TESTED)
        if largest is not None and (problem := _find_problem(store, model, sealed, folder / "logged")):
            # The smoke test may be weeks old, and a model that cannot be served must not be promoted.
            say(f"register: the logged model has changed since its smoke test ({problem}); uploading it again")
            largest = None
        if largest is None:
            # Uploaded again even if it was before: the model tested below must be the one sealed above.
            write_mlflow_model(sealed, folder / "packed", model_id=model.model_id, run_id=model.source_run_id)
            registry_client.upload(store, model, folder / "packed")
            largest = f"{_smoke_test(store, model, candidate, folder):.3g}"
            store.client.set_logged_model_tags(model.model_id, {registry_client.SMOKE_TESTED: largest})
    set_tags(store, run, {MODEL_ID: model.model_id, SEAL: sealed.digest, registry_client.SMOKE_TESTED: largest})
    return model


def promote(
    store: MlflowStore,
    run: Run,
    state: RegistryState,
    judgement: Judgement,
    *,
    model: LoggedModel,
    alias: str,
    card: str,
    about: str,
    params: Mapping[str, Any],
    predictions: Mapping[str, str],
) -> Outcome:
    """Under the lock, make the version unless it exists, and give it its alias unless the champion has changed.

    Args:
        run: of the candidate.
        state: the state of the registry when the candidate was judged.
        judgement: of a candidate that has passed.
        model: the model that `log_model` has logged.
        alias: `champion`, or `challenger` if a person decides.
        card: the version's description.
        about: the registered model's description.
        params: every step's section.
        predictions: the version's tags that name the champions' predictions, see `log_champion_predictions`.

    Raises:
        RegistryError: the champion has changed since the candidate was judged.
    """
    name, key = judgement.name, judgement.candidate.key
    with transitions.change_under_lock(store, name) as (lock, ledger):
        current = registry_state(store, name, key, ledger)
        outcome = known_outcome(current, judgement, alias)
        if outcome is not None:
            return outcome  # another register has promoted the same candidate
        expected = state.champion_number
        transitions.require_same_champion(name, expected, current.champion_number)
        opponent = "" if judgement.champion is None else judgement.champion.version
        version, gates = _make_version(store, run, judgement, current.version, model, card, about, params, predictions)
        number = int(version.version)
        basis = f"held against version {opponent}" if opponent else "there was no champion to hold it against"
        change = transitions.Change(
            "promote" if alias == CHAMPION else "challenge",
            number,
            actor=f"register, run by {transitions.actor()}",
            reason=f"register.promotion is {params['register']['promotion']}, and every gate that applies is passed",
            gates=gates,
            report=run.info.run_id,
            note=f"{basis}; {judgement.looks.words}",
        )
        if alias == CHAMPION or ledger.challenger != number:
            transitions.commit(lock, change, expected=expected)
    say(f"register: version {number} of '{name}' is now {alias}")
    return Outcome(number, alias, nothing_new=False, champion=number if alias == CHAMPION else expected)


def _make_version(
    store: MlflowStore,
    run: Run,
    judgement: Judgement,
    existing: ModelVersion | None,
    model: LoggedModel,
    card: str,
    about: str,
    params: Mapping[str, Any],
    predictions: Mapping[str, str],
) -> tuple[ModelVersion, str]:
    """The candidate's version, made unless it exists, and the SHA-256 of the verdict in its tags."""
    candidate = judgement.candidate
    gates, verdict_tags = verdict_store.store_verdict(store, run.info.run_id, judgement.verdict)
    tags = {
        JUDGED_AGAINST: "" if judgement.champion is None else judgement.champion.version,
        **best_champion.as_tags(judgement.inherited_best, existing.tags if existing else {}),
        registry_client.CONDITIONS: canonical(
            {key: params["register"][key] for key in ("gates", "reference_since")}
            | {"test_reuse": judgement.looks.model_dump()}
        ),
        **verdict_tags,
        **predictions,
    }
    if existing is not None:
        # Made by a register that was killed, or judged before; the champion may have changed since.
        registry_client.tag_version(store, existing, tags)
        return existing, gates
    figures = main_metrics(candidate.metrics)
    fixed_tags = {
        # First, because the MLflow UI shows tags in the order in which they were set.
        **{metric: f"{value:.3f}" for metric, value in figures.items() if metric != "n"},
        KEY: candidate.key,
        SEAL: model.tags[SEAL],
        "twofold.test_fingerprint": candidate.test_fingerprint,
        "twofold.data_fingerprint": candidate.decision["fingerprint"],
        "twofold.model_digest": candidate.digests["finetune_all"],
        "twofold.decision_digest": candidate.digests["decision"],
        "twofold.git_commit": judgement.provenance.get("git.commit", ""),
        registry_client.FIGURES: canonical(figures),
        LINEAGE: canonical(collect_lineage(judgement, params)),
    }
    made = registry_client.create_version(store, judgement.name, model, run, fixed_tags | tags, card, about)
    return made, gates


def _find_problem(store: MlflowStore, model: LoggedModel, sealed: SealedFolder, folder: Path) -> str:
    """Why a logged model's files differ from those that were tested; none of them is executed."""
    try:
        return find_differences(registry_client.download(store, model, folder), sealed)
    except RegistryError as error:
        return str(error)


def _smoke_test(store: MlflowStore, model: LoggedModel, candidate: Candidate, folder: Path) -> float:
    """Download the logged model and smoke-test it; return the largest difference of a probability."""
    downloaded = registry_client.download(store, model, folder / "back")
    if digest(downloaded) != digest(folder / "packed"):
        raise RegistryError(f"logged model {model.model_id}: the store returns other files than were uploaded")
    images, expected = sample_files(candidate, IMAGES)
    say(f"register: smoke-testing the sealed model in a fresh process on {len(images)} test images")
    threshold, precision = float(candidate.decision["threshold"]), str(candidate.decision["precision"])
    return run_smoke_test(
        downloaded, images, expected, threshold=threshold, labels=candidate.labels, precision=precision
    )
