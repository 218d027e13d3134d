"""The candidates of a registered model that were judged before, by the test images that they were judged on.

Reads the runs that register has tagged, in every experiment, also deleted ones; their images are in the predictions
that they logged. The keys of runs that `mlflow gc` has removed are in a tag of the registered model: they count while
the test is the same, or a run with its images is left. Two candidates judged at the same time do not count each other.
"""

import json
from collections import defaultdict
from contextlib import suppress
from itertools import takewhile

from pydantic import ValidationError

from twofold.core.drafts import scratch_folder
from twofold.core.errors import TwofoldError
from twofold.evaluation.predictions import PREDICTIONS, fingerprint
from twofold.evaluation.predictions import read as read_predictions
from twofold.promotion.candidate import Candidate
from twofold.promotion.test_reuse import EarlierTest, Looks
from twofold.registry.ledger import Ledger
from twofold.registry.recorded_evaluation import EVALUATION
from twofold.tracking import registry_client
from twofold.tracking.registry_client import KEY, LONGEST_MODEL_TAG
from twofold.tracking.runs import TEST_FINGERPRINT, Run, candidate_runs, fetch_file
from twofold.tracking.store import LOOKS, MlflowStore

JUDGED = "twofold.judged"  # tag of a registered model: {test fingerprint: [key, …]}, the keys shortened
DIGITS = 12  # of a shortened key


def earlier_candidates(
    store: MlflowStore, name: str, ledger: Ledger, candidate: Candidate
) -> tuple[list[EarlierTest], Looks | None]:
    """Return the tests of the candidates judged before this one, and what was recorded if it was judged itself.

    Raises:
        RegistryError: the store does not answer.
    """
    runs = [run for run in candidate_runs(store, name) if {KEY, TEST_FINGERPRINT} <= run.data.tags.keys()]
    for run in runs:
        if run.data.tags[KEY] == candidate.key and LOOKS in run.data.tags:
            with suppress(ValidationError):
                return [], Looks.model_validate_json(run.data.tags[LOOKS])
    before = list(takewhile(lambda run: run.data.tags[KEY] != candidate.key, runs))
    tests: dict[str, set[str]] = defaultdict(set)
    for run in before:
        tests[run.data.tags[TEST_FINGERPRINT]].add(run.data.tags[KEY][:DIGITS])
    if len(before) == len(runs):
        _merge_kept(store, name, tests)
    champions = {entry.version for entry in ledger.entries if entry.sets_champion}
    versions = registry_client.versions(store, name) if champions else []
    promoted = {each.tags.get(KEY, "")[:DIGITS] for each in versions if int(each.version) in champions}
    images = {test: _test_images(store, test, before) for test in tests if test != candidate.test_fingerprint}
    images[candidate.test_fingerprint] = frozenset(candidate.test.sha256)
    return [EarlierTest(images[test], len(keys), len(keys & promoted)) for test, keys in tests.items()], None


def _merge_kept(store: MlflowStore, name: str, tests: dict[str, set[str]]) -> None:
    """Add the keys that the registered model's tag holds, and write all of them back if it lacks some."""
    model = registry_client.registered(store, name)
    if model is None:
        return
    kept = model.tags.get(JUDGED, "{}")
    with suppress(ValueError, AttributeError, TypeError):  # someone has changed it: the runs still count
        for test, keys in json.loads(kept).items():
            tests[test].update(keys)
    text = json.dumps({test: sorted(keys) for test, keys in sorted(tests.items())}, separators=(",", ":"))
    if text != kept and len(text) <= LONGEST_MODEL_TAG:  # about 300 keys; later ones are known by their runs alone
        # Optional, because a user who tries an experiment may lack the permission.
        registry_client.try_write(lambda: registry_client.tag_model(store, name, JUDGED, text))


def _test_images(store: MlflowStore, test: str, runs: list[Run]) -> frozenset[str] | None:
    """Return the SHA-256 of a test's images, from the first run that still has them; or None."""
    for run in (each for each in runs if each.data.tags[TEST_FINGERPRINT] == test):
        try:
            with scratch_folder() as scratch:
                path = fetch_file(store, run.info.run_id, f"{EVALUATION}/{PREDICTIONS}", scratch)
                found = read_predictions(path).of("test")
        except TwofoldError as error:
            if error.transient:
                raise  # without the images, the count would be too low
            continue
        if fingerprint(found.sha256, found.label) == test:
            return frozenset(found.sha256)
    return None
