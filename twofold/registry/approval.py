"""A person's decisions on versions: approve, reject, roll back.

In: a store, a registered model, a version, who decides and why. Out: an entry in the ledger, and aliases that follow
from it. Each decision is prepared without the lock, from what MLflow has recorded, and written only if the champion is
then still the one that it was prepared against.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

from twofold.core.errors import ArtifactError, RegistryError
from twofold.data.raw import RawDataset
from twofold.promotion import best_champion
from twofold.promotion.best_champion import BEST
from twofold.registry import transitions, verdict_store
from twofold.registry.gate_reevaluation import Reevaluation, reevaluate_gates, require_sound
from twofold.registry.ledger import Entry, Ledger
from twofold.registry.recorded_evaluation import fetch_evaluation
from twofold.serving import golden_samples
from twofold.serving.model_resolver import fetch_sealed
from twofold.serving.sealed_model import SealedModel, open_sealed
from twofold.tracking import registry_client
from twofold.tracking.registry_client import CHALLENGER, CHAMPION, JUDGED_AGAINST, SEAL, ModelVersion
from twofold.tracking.store import MlflowStore

NONE = "none"  # in the place of a version: no model


def find_version(store: MlflowStore, name: str, which: str, ledger: Ledger) -> ModelVersion:
    """A version by its number, or by `champion` or `challenger`, which are read from the ledger.

    Raises:
        RegistryError: there is none such.
    """
    number = str(ledger.aliases[which] or "") if which in (CHAMPION, CHALLENGER) else which
    found = registry_client.version(store, name, number) if number.isdecimal() else None
    if found is not None:
        return found
    known = [str(version.version) for version in registry_client.versions(store, name)]
    if not known:
        raise RegistryError(f"'{name}' has no version in this store; see MLFLOW_TRACKING_URI and --name")
    raise RegistryError(
        f"'{name}' has no version '{which}'; its versions are {', '.join(known)}, and by alias "
        + (", ".join(f"{alias} ({version})" for alias, version in ledger.aliases.items() if version) or "none")
    )


def approve(store: MlflowStore, name: str, which: str, *, actor: str, reason: str) -> tuple[Entry | None, Reevaluation]:
    """Make a version the champion, if it passes its gates against whoever is champion at this moment.

    It is judged from the predictions that were logged with both versions, by the gates recorded with the candidate.

    Returns:
        The ledger's entry, None if the gates were not passed; and what they were judged by.

    Raises:
        RegistryError: the two were not tested on the same images, what is recorded does not fit together, its files
            are gone, or the champion has changed meanwhile.
        ArtifactError: its files were altered.
    """
    ledger = transitions.sound_ledger(store, name)
    version = find_version(store, name, which, ledger)
    number = int(version.version)
    if ledger.champion == number:
        raise RegistryError(f"version {number} of '{name}' is the champion already")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        candidate = require_sound(fetch_evaluation(store, version, folder))
        # What cannot be served must not be promoted, however good its predictions were.
        open_sealed(candidate.sealed, version.tags.get(SEAL))
        champion = None
        if ledger.champion is not None:
            champion = require_sound(fetch_evaluation(store, find_version(store, name, CHAMPION, ledger), folder))
        judged = reevaluate_gates(store, name, candidate, champion, folder)
    if not judged.verdict.passed:
        return None, judged
    with transitions.change_under_lock(store, name) as (lock, now):
        transitions.require_same_champion(name, ledger.champion, now.champion)
        transitions.require_undecided(name, number, ledger, now)
        gates, tags = verdict_store.store_verdict(store, candidate.run.info.run_id, judged.verdict)
        against = "" if champion is None else str(champion.number)
        registry_client.tag_version(
            store, version, tags | {JUDGED_AGAINST: against, BEST: best_champion.as_tag(judged.inherited_best)}
        )
        held = f"held against version {against}" if against else "there was no champion to hold it against"
        change = transitions.Change(
            "promote", number, actor, reason, gates=gates, report=version.run_id or "", note=f"judged again; {held}"
        )
        return transitions.commit(lock, change, expected=ledger.champion), judged


def reject(store: MlflowStore, name: str, which: str, *, actor: str, reason: str) -> Entry:
    """Decide that a version is not to be promoted; it loses the alias `challenger`, and register leaves it alone.

    Raises:
        RegistryError: it is the champion, or there is another champion by the time that this is written.
    """
    ledger = transitions.sound_ledger(store, name)
    # A challenger that has been deleted in MLflow is rejected by its number, there being nothing else left of it.
    gone = which in (CHALLENGER, str(ledger.challenger)) and ledger.challenger is not None
    number = ledger.challenger if gone else int(find_version(store, name, which, ledger).version)
    if number == ledger.champion:
        raise RegistryError(
            f"version {number} of '{name}' is the champion; take it back with `twofold models rollback`"
        )
    with transitions.change_under_lock(store, name) as (lock, now):
        transitions.require_same_champion(name, ledger.champion, now.champion)
        transitions.require_undecided(name, number, ledger, now)
        return transitions.commit(lock, transitions.Change("reject", number, actor, reason), expected=ledger.champion)


def rollback(
    store: MlflowStore,
    name: str,
    which: str | None,
    *,
    actor: str,
    reason: str,
    raw: Path | None = None,
    unasked: bool = False,
) -> Entry:
    """Make a version that was champion before the champion again, after trying it.

    Args:
        store: of the registry.
        name: of the registered model.
        which: the version; None for the champion before the present one; `none` for no model.
        actor: who decides.
        reason: why.
        raw: ingest's artifact, where the images to ask it about are, if they were not sealed with it.
        unasked: go on without asking it about any image, where none are to be had.

    Raises:
        RegistryError: it was never champion, its files are gone, or it does not say what it said then.
    """
    ledger = transitions.sound_ledger(store, name)
    number: int | None = None
    note = "no model is champion now"
    if which != NONE:
        version = find_version(store, name, which or _before(ledger, name), ledger)
        number = int(version.version)
        if number == ledger.champion:
            raise RegistryError(f"version {number} of '{name}' is the champion already")
        if number not in ledger.before():
            raise RegistryError(
                f"version {number} of '{name}' was never its champion (those were: "
                f"{', '.join(map(str, ledger.before())) or 'none'}); a version that has not been champion is promoted "
                "with `twofold models approve`, which judges it"
            )
        note = _try(store, version, raw, unasked)
    elif ledger.champion is None:
        raise RegistryError(f"'{name}' has no champion: there is nothing to take back")
    with transitions.change_under_lock(store, name) as (lock, now):
        transitions.require_same_champion(name, ledger.champion, now.champion)
        transitions.require_undecided(name, number, ledger, now)
        change = transitions.Change("rollback", number, actor, reason, note=note)
        return transitions.commit(lock, change, expected=ledger.champion)


def check_version(
    store: MlflowStore, version: ModelVersion, find_image: Callable[[str], bytes | None]
) -> tuple[int, int, float]:
    """Fetch a sealed model and ask it about its witnesses.

    Returns:
        How many images it was asked about, how many there are, and the largest difference of a probability. A model
        that was sealed without witnesses has none.

    Raises:
        ArtifactError: its files are altered.
        RegistryError: its files are gone, or it says something else than it did.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = fetch_sealed(store, version, Path(scratch))
        sealed: SealedModel = open_sealed(folder, version.tags.get(SEAL))
        if not (folder / golden_samples.GOLDEN_SAMPLES).exists():
            return 0, 0, 0.0
        found = golden_samples.read(folder / golden_samples.GOLDEN_SAMPLES)
        count, largest = golden_samples.check_golden_samples(sealed, found, find_image)
    return count, len(found.images), largest


def image_reader(raw: Path | None) -> Callable[[str], bytes | None]:
    """Where the bytes of an image come from that was not sealed: ingest's artifact, or nowhere."""
    if raw is None:
        return lambda sha256: None
    opened = RawDataset.open(raw)
    known = {image.sha256: image for image in opened.images}
    return lambda sha256: opened.read(known[sha256]) if sha256 in known else None


def _try(store: MlflowStore, version: ModelVersion, raw: Path | None, unasked: bool) -> str:
    """Load a version and ask it about its witnesses; in words, what was checked."""
    number = version.version
    try:
        count, there, largest = check_version(store, version, image_reader(raw))
    except ArtifactError as error:
        raise RegistryError(f"version {number} cannot be made champion again: {error}") from error
    if count:
        return (
            f"asked about {count} of the {there} images sealed with it; probabilities differ by at most {largest:.2g}"
        )
    if unasked:
        return "its seal and files were checked; it was asked about no image, by --unasked"
    kept = f"only with the SHA-256 of {there} (evaluate.pictures is false)" if there else "by an older Twofold"
    ways = "name data that holds them with --data data/raw, or " if there else ""
    raise RegistryError(
        f"version {number} was sealed without images to ask it about, {kept}: its seal and files are whole, and it "
        f"loads. To go on, {ways}say --unasked"
    )


def _before(ledger: Ledger, name: str) -> str:
    found = ledger.before()
    if not found:
        raise RegistryError(f"'{name}' had no other champion before; name a version, or `{NONE}` for no model")
    return str(found[0])
