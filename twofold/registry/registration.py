"""From a verdict to the registry: the writes of register, in an order in which any of them may be the last.

In: a judgement and where the registry stands. Out: a logged model that has been tried in a fresh process, a version,
an alias. Every write looks first whether it has been done, so that a register that was killed, run again, finishes
the job and makes nothing twice.
"""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twofold.core.artifacts import digest
from twofold.core.errors import RegistryError
from twofold.core.progress import say
from twofold.evaluation.drift_reference import REFERENCE
from twofold.metrics.decision_threshold import DECISION
from twofold.promotion import best_champion
from twofold.promotion.best_champion import BEST
from twofold.promotion.candidate import Candidate, sample_files
from twofold.promotion.judgement import Judgement, Outcome
from twofold.promotion.paired_comparison import ANOTHER
from twofold.registry import transitions, verdict_store
from twofold.registry.ledger import Ledger
from twofold.registry.lineage import LINEAGE, canonical, collect_lineage
from twofold.serving import golden_samples
from twofold.serving.golden_samples import GOLDEN_SAMPLES
from twofold.serving.mlflow_model import find_differences, write_mlflow_model
from twofold.serving.sealed_model_writer import SealedFolder, write_sealed_model
from twofold.serving.smoke_test import IMAGES, run_smoke_test
from twofold.tracking import registry_client
from twofold.tracking.registry_client import (
    CHAMPION,
    CONDITIONS,
    JUDGED_AGAINST,
    KEY,
    REJECTED,
    SEAL,
    SMOKE_TESTED,
    LoggedModel,
    ModelVersion,
)
from twofold.tracking.runs import Run, log_figures, set_tags
from twofold.tracking.store import MlflowStore

MODEL_ID = "twofold.model_id"  # of a run: the logged model that it sealed


@dataclass(frozen=True)
class RegistryState:
    """Where the registry stands for a candidate.

    Attributes:
        ledger: of the registered model.
        champion: the version that is champion now.
        version: that holds the candidate already.
        rival: the version to hold the candidate against: the champion, or, where the candidate is the champion
            itself, the one that it was held against then.
    """

    ledger: Ledger
    champion: ModelVersion | None
    version: ModelVersion | None
    rival: ModelVersion | None


def registry_state(store: MlflowStore, name: str, key: str) -> RegistryState:
    """Look up champion and candidate in ledger and registry, after finishing what a killed process had begun.

    Raises:
        RegistryError: the ledger is damaged, an alias was moved by other hands, or the champion has been deleted.
    """
    return _standing(store, name, key, transitions.sound_ledger(store, name))


def _standing(store: MlflowStore, name: str, key: str, ledger: Ledger) -> RegistryState:
    if ledger.entries:
        champion = None if ledger.champion is None else registry_client.version(store, name, str(ledger.champion))
        if champion is None and ledger.champion is not None:
            raise RegistryError(
                f"the champion of '{name}', version {ledger.champion}, has been deleted in MLflow: {ANOTHER}"
            )
    else:
        champion = registry_client.version_by_alias(store, name)  # from before there was a ledger
    version = registry_client.version_of_candidate(store, name, key)
    if champion is None or version is None or champion.version != version.version:
        return RegistryState(ledger, champion, version, champion)
    before = version.tags.get(JUDGED_AGAINST)
    return RegistryState(ledger, champion, version, registry_client.version(store, name, before) if before else None)


def known_outcome(stands: RegistryState, judgement: Judgement, alias: str) -> Outcome | None:
    """What has been settled already, or None if the candidate passed and its promotion is still to be done.

    A version that was champion once is settled for good, and so is one that a person has rejected: a scheduled run on
    the same data must not undo anyone's decision.
    """
    now = None if stands.champion is None else int(stands.champion.version)
    held = None if stands.version is None else int(stands.version.version)
    if judgement.dvc_experiment:
        return Outcome(held, None, nothing_new=False, champion=now)
    if held is not None:
        given = CHAMPION if now == held else stands.ledger.given(held)
        if given in (CHAMPION, REJECTED) or (given == alias and not _stale(stands)):
            return Outcome(held, given, nothing_new=True, champion=now)
    return None if judgement.verdict.passed else Outcome(held, None, nothing_new=False, champion=now)


def _stale(stands: RegistryState) -> bool:
    """Whether a version that waits for review was held against another champion than the present one."""
    now = "" if stands.champion is None else str(stands.champion.version)
    return stands.version is not None and stands.version.tags.get(JUDGED_AGAINST, "") != now


def log_model(store: MlflowStore, run: Run, judgement: Judgement) -> tuple[LoggedModel, str]:
    """Seal the candidate, log it, fetch it back and try it in a fresh process, pickles forbidden.

    Returns:
        The logged model and the SHA-256 of its seal.

    Raises:
        RegistryError: what the store gives back is not what was sent, or does not predict what evaluate did.
    """
    candidate = judgement.candidate
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        asked, said = sample_files(candidate, IMAGES)
        golden_samples.write(
            folder / GOLDEN_SAMPLES, asked, said, pictures=bool(candidate.about["evaluate"]["params"]["pictures"])
        )
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
        log_figures(store, run, candidate.metrics, model.model_id)
        largest = model.tags.get(SMOKE_TESTED)
        if largest is not None and (gone := _gone(store, model, sealed, folder / "there")):
            # Tried once, by a register that was killed or weeks ago: what cannot be served must not be promoted.
            say(f"register: the logged model is no longer what was tried ({gone}); it is sent and tried again")
            largest = None
        if largest is None:
            # Sent again even if it was sent before: what is run below must be what was made above.
            write_mlflow_model(sealed, folder / "packed", model_id=model.model_id, run_id=model.source_run_id)
            registry_client.upload(store, model, folder / "packed")
            largest = f"{_rehearse(store, model, candidate, folder):.3g}"
            store.client.set_logged_model_tags(model.model_id, {SMOKE_TESTED: largest})
    set_tags(store, run, {MODEL_ID: model.model_id, SEAL: sealed.digest, SMOKE_TESTED: largest})
    return model, sealed.digest


def promote(
    store: MlflowStore,
    run: Run,
    stands: RegistryState,
    judgement: Judgement,
    *,
    model: LoggedModel,
    seal_digest: str,
    alias: str,
    card: str,
    params: Mapping[str, Any],
) -> Outcome:
    """Make the version, unless it is there, and give it its alias: under the lock, and only if nobody was faster.

    Args:
        store: the registry's.
        run: of the candidate.
        stands: where the registry stood when the candidate was judged.
        judgement: that the candidate has passed.
        model: that `log_model` has logged, and `seal_digest`.
        seal_digest: SHA-256 of its seal.json.
        alias: `champion`, or `challenger` where a person has the last word.
        card: the version's description.
        params: every step's section.

    Raises:
        RegistryError: the champion has changed since the candidate was judged.
    """
    name, key = judgement.name, judgement.candidate.key
    with transitions.change_under_lock(store, name) as (lock, ledger):
        fresh = _standing(store, name, key, ledger)
        done = known_outcome(fresh, judgement, alias)
        if done is not None:
            return done  # by another register of this very candidate
        expected = None if stands.champion is None else int(stands.champion.version)
        transitions.require_same_champion(
            name, expected, None if fresh.champion is None else int(fresh.champion.version)
        )
        rival = "" if judgement.champion is None else judgement.champion.version
        version, gates = _version(store, run, judgement, fresh.version, model, seal_digest, card, params)
        change = transitions.Change(
            "promote" if alias == CHAMPION else "challenge",
            int(version.version),
            actor=f"register, run by {transitions.actor()}",
            reason=f"register.promotion is {params['register']['promotion']}, and every gate that applies is passed",
            gates=gates,
            report=run.info.run_id,
            note=f"held against version {rival}" if rival else "there was no champion to hold it against",
        )
        if alias == CHAMPION or ledger.challenger != int(version.version):
            transitions.commit(lock, change, expected=expected)
    number = int(version.version)
    say(f"register: version {number} of '{name}' is now {alias}")
    return Outcome(number, alias, nothing_new=False, champion=number if alias == CHAMPION else expected)


def _version(
    store: MlflowStore,
    run: Run,
    judgement: Judgement,
    found: ModelVersion | None,
    model: LoggedModel,
    seal_digest: str,
    card: str,
    params: Mapping[str, Any],
) -> tuple[ModelVersion, str]:
    """The candidate's version, made unless it is there, and the SHA-256 of the verdict that it is tagged with."""
    candidate = judgement.candidate
    gates, tagged = verdict_store.store_verdict(store, run.info.run_id, judgement.verdict)
    conditions = {key: params["register"][key] for key in ("gates", "reference_since")}
    again = {
        JUDGED_AGAINST: "" if judgement.champion is None else judgement.champion.version,
        BEST: best_champion.as_tag(judgement.inherited_best),
        CONDITIONS: canonical(conditions),
        **tagged,
    }
    if found is not None:
        # Made by a register that was killed, or judged before; the champion may have changed since.
        registry_client.tag_version(store, found, again)
        return found, gates
    tags = {
        KEY: candidate.key,
        SEAL: seal_digest,
        "twofold.test_fingerprint": candidate.test_fingerprint,
        "twofold.data_fingerprint": candidate.decision["fingerprint"],
        "twofold.model_digest": candidate.digests["finetune_all"],
        "twofold.decision_digest": candidate.digests["decision"],
        "twofold.git_commit": judgement.provenance.get("git.commit", ""),
        LINEAGE: canonical(collect_lineage(judgement, params)),
    }
    return registry_client.create_version(store, judgement.name, model, run, tags | again, card), gates


def _gone(store: MlflowStore, model: LoggedModel, sealed: SealedFolder, folder: Path) -> str:
    """Why a logged model's files are no longer those that were tried, in words; nothing of them is run."""
    try:
        return find_differences(registry_client.download(store, model, folder), sealed)
    except RegistryError as error:
        return str(error)


def _rehearse(store: MlflowStore, model: LoggedModel, candidate: Candidate, folder: Path) -> float:
    """The largest difference of a probability on the rehearsal's images."""
    back = registry_client.download(store, model, folder / "back")
    if digest(back) != digest(folder / "packed"):
        raise RegistryError(f"logged model {model.model_id}: the store gives back other files than were sent")
    images, expected = sample_files(candidate, IMAGES)
    say(f"register: trying the sealed model in a fresh process on {len(images)} test images")
    threshold = float(candidate.decision["threshold"])
    precision = str(candidate.decision["precision"])
    return run_smoke_test(back, images, expected, threshold=threshold, labels=candidate.labels, precision=precision)
