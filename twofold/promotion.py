"""From a verdict to the registry: the writes of register, in an order in which any of them may be the last.

In: a judgement and where the registry stands. Out: a logged model that has been tried in a fresh process, a version,
an alias. Every write looks first whether it has been done, so that a register that was killed, run again, finishes
the job and makes nothing twice.
"""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from twofold import registry
from twofold.artifacts import digest
from twofold.candidate import Candidate, sample
from twofold.decision import DECISION
from twofold.errors import RegistryError
from twofold.judgement import CHAMPION, Judgement, Outcome
from twofold.progress import say
from twofold.drift_reference import REFERENCE
from twofold.registry import JUDGED_AGAINST, KEY, REHEARSED, SEAL, SETTLED, LoggedModel, ModelVersion
from twofold.runs import Run, log_figures, set_tags
from twofold.sealing import seal
from twofold.serving.packing import pack
from twofold.serving.rehearsal import IMAGES, rehearse
from twofold.tracking import Store

MODEL_ID = "twofold.model_id"  # of a run: the logged model that it sealed


@dataclass(frozen=True)
class Standing:
    """Where the registry stands for a candidate.

    Attributes:
        champion: the version that is champion now.
        version: that holds the candidate already.
        rival: the version to hold the candidate against: the champion, or, where the candidate is the champion
            itself, the one that it was held against then.
    """

    champion: ModelVersion | None
    version: ModelVersion | None
    rival: ModelVersion | None


def standing(store: Store, name: str, key: str) -> Standing:
    """Look up champion and candidate in the registry."""
    champion, version = registry.holder(store, name), registry.version_with(store, name, key)
    if champion is None or version is None or champion.version != version.version:
        return Standing(champion, version, champion)
    before = version.tags.get(JUDGED_AGAINST)
    return Standing(champion, version, registry.version(store, name, before) if before else None)


def settled(stands: Standing, judgement: Judgement, alias: str) -> Outcome | None:
    """What has been settled already, or None if the candidate passed and its promotion is still to be done.

    A version that was champion once is settled for good: that another one is champion now was someone's decision, and
    a scheduled run on the same data must not undo it.
    """
    now = None if stands.champion is None else int(stands.champion.version)
    held = None if stands.version is None else int(stands.version.version)
    if judgement.dvc_experiment:
        return Outcome(held, None, nothing_new=False, champion=now)
    if stands.version is not None:
        given = stands.version.tags.get(SETTLED)
        # A register that was killed between the alias and the tag that says so is finished by one that passes.
        kept = CHAMPION if now == held and not judgement.verdict.passed else None
        if kept or given in (CHAMPION, alias):
            return Outcome(held, kept or given, nothing_new=True, champion=now)
    return None if judgement.verdict.passed else Outcome(held, None, nothing_new=False, champion=now)


def log_model(store: Store, run: Run, judgement: Judgement) -> tuple[LoggedModel, str]:
    """Seal the candidate, log it, fetch it back and try it in a fresh process, pickles forbidden.

    Returns:
        The logged model and the SHA-256 of its seal.

    Raises:
        RegistryError: what the store gives back is not what was sent, or does not predict what evaluate did.
    """
    candidate = judgement.candidate
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        sealed = seal(
            candidate.model,
            candidate.evaluation / DECISION,
            candidate.prepared.meta["pixels"],
            folder / "seal",
            further={REFERENCE: candidate.evaluation / REFERENCE},
        )
        tags = {KEY: candidate.key, SEAL: sealed.digest}
        found = registry.logged_model(store, run.info.experiment_id, candidate.key, sealed.digest)
        model = found or registry.begin_model(store, run, judgement.name, tags)
        registry.name_output(store, run, model)
        log_figures(store, run, candidate.metrics, model.model_id)
        largest = model.tags.get(REHEARSED)
        if largest is None:
            # Sent again even if it was sent before: what is run below must be what was made above.
            pack(sealed, folder / "packed", model_id=model.model_id, run_id=model.source_run_id)
            registry.upload(store, model, folder / "packed")
            largest = f"{_rehearse(store, model, candidate, folder):.3g}"
            store.client.set_logged_model_tags(model.model_id, {REHEARSED: largest})
    set_tags(store, run, {MODEL_ID: model.model_id, SEAL: sealed.digest, REHEARSED: largest})
    return model, sealed.digest


def promote(
    store: Store,
    run: Run,
    stands: Standing,
    judgement: Judgement,
    *,
    model: LoggedModel,
    seal_digest: str,
    alias: str,
    card: str,
) -> Outcome:
    """Make the version, unless it is there, and give it its alias.

    Args:
        store: the registry's.
        run: of the candidate.
        stands: where the registry stood when the candidate was judged.
        judgement: that the candidate has passed.
        model: that `log_model` has logged, and `seal_digest`.
        seal_digest: SHA-256 of its seal.json.
        alias: `champion`, or `challenger` where a person has the last word.
        card: the version's description.
    """
    version = stands.version
    if version is None:
        candidate = judgement.candidate
        tags = {
            KEY: candidate.key,
            SEAL: seal_digest,
            JUDGED_AGAINST: "" if judgement.champion is None else judgement.champion.version,
            "twofold.test_fingerprint": candidate.test_fingerprint,
            "twofold.data_fingerprint": candidate.decision["fingerprint"],
            "twofold.model_digest": candidate.digests["finetune_all"],
            "twofold.decision_digest": candidate.digests["decision"],
            "twofold.git_commit": judgement.provenance.get("git.commit", ""),
        }
        version = registry.create_version(store, judgement.name, model, run, tags, card)
    else:
        # It was made by a register that was killed; the champion may have changed since.
        rival = "" if judgement.champion is None else judgement.champion.version
        registry.tag_version(store, version, {JUDGED_AGAINST: rival})
    own = None if stands.champion is None else str(stands.champion.version)
    held = own if alias == CHAMPION else _holder(store, judgement.name, alias)
    registry.move_alias(store, version, alias, expected=held)
    registry.tag_version(store, version, {SETTLED: alias})
    number = int(version.version)
    say(f"register: version {number} of '{judgement.name}' is now {alias}")
    champion = number if alias == CHAMPION else None if own is None else int(own)
    return Outcome(number, alias, nothing_new=False, champion=champion)


def _rehearse(store: Store, model: LoggedModel, candidate: Candidate, folder: Path) -> float:
    """The largest difference of a probability on the rehearsal's images."""
    back = registry.download(store, model, folder / "back")
    if digest(back) != digest(folder / "packed"):
        raise RegistryError(f"logged model {model.model_id}: the store gives back other files than were sent")
    images, expected = sample(candidate, IMAGES)
    say(f"register: trying the sealed model in a fresh process on {len(images)} test images")
    threshold = float(candidate.decision["threshold"])
    return rehearse(back, images, expected, threshold=threshold, labels=candidate.labels)


def _holder(store: Store, name: str, alias: str) -> str | None:
    found = registry.holder(store, name, alias)
    return None if found is None else str(found.version)
