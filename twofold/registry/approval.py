"""Approve, reject or roll back a version: the decisions that a person makes.

Each function reads a store, the name of a registered model, a version, who decides and why. It writes an entry into the
ledger, then sets the aliases. A decision is prepared without the lock, from what MLflow has recorded, and is written
only if the champion is still the same.
"""

from collections.abc import Callable
from pathlib import Path

from twofold.core.drafts import scratch_folder
from twofold.core.errors import ArtifactError, RegistryError
from twofold.data.raw import RawDataset
from twofold.promotion import best_champion
from twofold.registry import transitions, verdict_store
from twofold.registry.gate_reevaluation import Reevaluation, reevaluate_gates, require_sound
from twofold.registry.ledger import Entry, Ledger
from twofold.registry.recorded_evaluation import fetch_evaluation
from twofold.registry.version_catalog import Catalog, select_version
from twofold.serving import golden_samples
from twofold.serving.model_resolver import fetch_sealed
from twofold.serving.sealed_model import open_sealed
from twofold.tracking import registry_client
from twofold.tracking.registry_client import CHALLENGER, CHAMPION, JUDGED_AGAINST, SEAL, ModelVersion
from twofold.tracking.store import MlflowStore

NONE = "none"  # instead of a version: no model


def find_version(store: MlflowStore, name: str, selector: str, ledger: Ledger) -> ModelVersion:
    """Find a version in the store, as `select_version` does."""
    catalog = Catalog(name, store, ledger, [], registry_client.versions(store, name))
    return select_version(catalog, selector)  # type: ignore[no-any-return]


def approve(
    store: MlflowStore, name: str, selector: str, *, actor: str, reason: str
) -> tuple[Entry | None, Reevaluation]:
    """Make a version the champion if it passes its gates against the current champion.

    The gates are those recorded with the version, and are evaluated on logged predictions.

    Returns:
        The ledger's entry, or None if a gate was not passed; and the evaluation of the gates.

    Raises:
        RegistryError: the logged predictions do not cover the version's test images, the records contradict each other,
            files are gone, or the champion has changed meanwhile.
        ArtifactError: the version's files were altered.
    """
    transitions.check_texts(actor, reason)
    ledger = transitions.sound_ledger(store, name)
    version = find_version(store, name, selector, ledger)
    number = int(version.version)
    if ledger.champion == number:
        raise RegistryError(f"version {number} of '{name}' is the champion already")
    with scratch_folder() as folder:
        candidate = require_sound(fetch_evaluation(store, version, folder))
        # A model that cannot be served must not be promoted, however good its predictions were.
        open_sealed(candidate.sealed, version.tags.get(SEAL))
        champion = None
        if ledger.champion is not None:
            champion = require_sound(fetch_evaluation(store, find_version(store, name, CHAMPION, ledger), folder))
        evaluated = reevaluate_gates(store, name, candidate, champion, folder)
    if not evaluated.verdict.passed:
        return None, evaluated
    with transitions.change_under_lock(store, name) as (lock, current):
        transitions.require_same_champion(name, ledger.champion, current.champion)
        transitions.require_undecided(name, number, ledger, current)
        gates, tags = verdict_store.store_verdict(store, candidate.run.info.run_id, evaluated.verdict)
        against = "" if champion is None else str(champion.number)
        tags |= {JUDGED_AGAINST: against, **best_champion.as_tags(evaluated.inherited_best, version.tags)}
        registry_client.tag_version(store, version, tags)
        basis = f"held against version {against}" if against else "there was no champion to hold it against"
        note = "; ".join(["judged again", basis, *([evaluated.looks.words] if evaluated.looks else [])])
        change = transitions.Change(
            "promote", number, actor, reason, gates=gates, report=version.run_id or "", note=note
        )
        return transitions.commit(lock, change, expected=ledger.champion), evaluated


def reject(store: MlflowStore, name: str, selector: str, *, actor: str, reason: str) -> Entry:
    """Decide not to promote a version: it loses the alias `challenger`, and register does not promote it again.

    Raises:
        RegistryError: the version is the champion, or the champion has changed meanwhile.
    """
    ledger = transitions.sound_ledger(store, name)
    # The challenger is rejected by its number, because it may have been deleted in MLflow.
    challenger = ledger.challenger if selector in (CHALLENGER, str(ledger.challenger)) else None
    number = int(find_version(store, name, selector, ledger).version) if challenger is None else challenger
    if number == ledger.champion:
        raise RegistryError(f"version {number} of '{name}' is the champion; use `twofold models rollback` instead")
    with transitions.change_under_lock(store, name) as (lock, current):
        transitions.require_same_champion(name, ledger.champion, current.champion)
        transitions.require_undecided(name, number, ledger, current)
        return transitions.commit(lock, transitions.Change("reject", number, actor, reason), expected=ledger.champion)


def rollback(
    store: MlflowStore,
    name: str,
    selector: str | None,
    *,
    actor: str,
    reason: str,
    raw: Path | None = None,
    allow_unchecked: bool = False,
) -> Entry:
    """Make a former champion the champion again, after checking its golden samples.

    Args:
        selector: the version; None for the champion before the current one; `none` for no model.
        raw: ingest's artifact, which supplies golden samples that were sealed by their SHA-256 alone.
        allow_unchecked: go on if there is no golden sample to check.

    Raises:
        RegistryError: the version was never champion, its files are gone, or its predictions have changed.
    """
    ledger = transitions.sound_ledger(store, name)
    number: int | None = None
    note = "no model is champion now"
    if selector != NONE:
        former = ledger.before()
        if not (selector or former):
            raise RegistryError(f"'{name}' had no other champion before; name a version, or `{NONE}` for no model")
        version = find_version(store, name, selector or str(former[0]), ledger)
        number = int(version.version)
        if number == ledger.champion:
            raise RegistryError(f"version {number} of '{name}' is the champion already")
        if number not in former:
            raise RegistryError(
                f"version {number} of '{name}' was never its champion (former champions: "
                f"{', '.join(map(str, former)) or 'none'}); promote it with `twofold models approve`, which evaluates "
                "its gates"
            )
        note = _check_and_describe(store, version, raw, allow_unchecked)
    elif ledger.champion is None:
        raise RegistryError(f"'{name}' has no champion: there is nothing to roll back")
    with transitions.change_under_lock(store, name) as (lock, current):
        transitions.require_same_champion(name, ledger.champion, current.champion)
        transitions.require_undecided(name, number, ledger, current)
        change = transitions.Change("rollback", number, actor, reason, note=note)
        return transitions.commit(lock, change, expected=ledger.champion)


def check_version(
    store: MlflowStore, version: ModelVersion, find_image: Callable[[str], bytes | None]
) -> tuple[int, int, float]:
    """Fetch a sealed model and compare its predictions on its golden samples with the sealed ones.

    Returns:
        The number of samples checked, the number of samples, and the largest difference of a probability. A model that
        was sealed without golden samples has none.

    Raises:
        ArtifactError: its files are altered.
        RegistryError: its files are gone, or its predictions have changed.
    """
    with scratch_folder() as scratch:
        folder = fetch_sealed(store, version, scratch)
        sealed = open_sealed(folder, version.tags.get(SEAL))
        if not (folder / golden_samples.GOLDEN_SAMPLES).exists():
            return 0, 0, 0.0
        samples = golden_samples.read(folder / golden_samples.GOLDEN_SAMPLES)
        count, largest = golden_samples.check_golden_samples(sealed, samples, find_image)
    return count, len(samples.images), largest


def image_reader(raw: Path | None) -> Callable[[str], bytes | None]:
    """A function that reads an image by its SHA-256 from ingest's artifact; it returns None for an unknown image."""
    if raw is None:
        return lambda sha256: None
    dataset = RawDataset.open(raw)
    images = {image.sha256: image for image in dataset.images}
    return lambda sha256: dataset.read(images[sha256]) if sha256 in images else None


def _check_and_describe(store: MlflowStore, version: ModelVersion, raw: Path | None, allow_unchecked: bool) -> str:
    """Load a version and check its golden samples; return the ledger's note on what was checked."""
    number = version.version
    try:
        count, total, largest = check_version(store, version, image_reader(raw))
    except ArtifactError as error:
        raise RegistryError(f"version {number} cannot be made champion again: {error}") from error
    if count:
        return (
            f"asked about {count} of the {total} images sealed with it; probabilities differ by at most {largest:.2g}"
        )
    if allow_unchecked:
        return "its seal and files were checked; it was asked about no image, by --unasked"
    cause = f"only the SHA-256 of {total} are (evaluate.pictures is false)" if total else "it is from an older Twofold"
    data = "name data that holds them with --data data/raw, or " if total else ""
    raise RegistryError(
        f"version {number}: no golden samples are sealed with it, {cause}; its seal and files are intact and it loads. "
        f"To go on, {data}add --unasked"
    )
