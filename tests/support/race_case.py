"""Processes that promote at the same time: each judges against the current champion, and promotes if it can.

As a script: `python -m tests.support.race_case ADDRESS NAME PROCESSES PROMOTIONS RESULT`. The promotion is real
(`twofold.registry.registration.promote`: lock, check of the champion, version, ledger, aliases); the candidates are
names without files. RESULT is JSON: for every try of every process its version, or the error.
"""

import hashlib
import json
import multiprocessing
import os
import random
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

IMAGES = 100
TARGET = [number % 2 for number in range(IMAGES)]
MARGIN = 0.4
METRIC = "accuracy"
SECTIONS = {
    "register": {
        "promotion": "auto",
        "gates": [{"figure": METRIC, "min": 0.5}, {"figure": METRIC, "non_inferior_by": MARGIN}],
        "reference_since": 1,
    }
}


def run(address: str, name: str, processes: int, promotions: int, folder: Path) -> list[list[dict]]:
    """Run the processes; return the results of each, try by try."""
    result = folder / "result.json"
    arguments = map(str, (address, name, processes, promotions, result))
    words = [sys.executable, "-m", "tests.support.race_case", *arguments]
    root = Path(__file__).resolve().parents[2]
    environment = os.environ | {"MLFLOW_TRACKING_URI": address, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=root, env=environment, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(result.read_text())


def check(address: str, name: str, results: list[list[dict]]) -> tuple[int, int]:
    """Check the registry after a race; return the number of promotions and of refusals."""
    from mlflow import MlflowClient

    from twofold.registry import ledger, lock

    client = MlflowClient(address, address)
    tries = [one for each in results for one in each]
    promoted = [one["version"] for one in tries if "version" in one]
    errors = [one["error"] for one in tries if "error" in one]
    assert len(promoted) + len(errors) == len(tries)
    assert all("someone else has changed it" in error for error in errors), set(errors)
    model = client.get_registered_model(name)
    found = ledger.read(model.tags)
    assert (found.problems, found.void, found.settled) == ((), (), True)
    # Complete and in order: every promotion is one entry, and each starts from the champion of the one before.
    assert [entry.number for entry in found.entries] == list(range(1, len(promoted) + 1))
    assert sorted(entry.version for entry in found.entries) == sorted(promoted)
    assert [entry.champion for entry in found.entries] == [None, *(entry.version for entry in found.entries[:-1])]
    fences = [entry.fence for entry in found.entries]
    assert fences == sorted(set(fences)), "every entry has a lock of its own"
    assert {alias: int(version) for alias, version in model.aliases.items()} == {"champion": found.entries[-1].version}
    versions = {int(each.version): each for each in client.search_model_versions(f"name = '{name}'", max_results=1000)}
    assert sorted(versions) == sorted(promoted)
    keys = {each.tags["twofold.key"] for each in versions.values()}
    assert len(keys) == len(versions), "no candidate has two versions"
    for entry in found.entries:
        _check_gates(entry, versions)
    (left,) = client.search_registered_models(f"name LIKE '{lock.PREFIX}{name}.%'")
    assert lock.RELEASED in left.tags
    return len(promoted), len(errors)


def _check_gates(entry, versions) -> None:
    """The gates that the entry names are stored, and hold against the champion that it replaced."""
    tags = versions[entry.version].tags
    text = tags[f"twofold.gates.{entry.gates[:12]}"]
    assert hashlib.sha256(text.encode()).hexdigest() == entry.gates
    absolute, relative = json.loads(text)
    own = tags["right"].count("1") / IMAGES
    assert (absolute["value"], absolute["limit"], absolute["passed"]) == (own, 0.5, True)
    if entry.champion is None:
        assert not relative["applies"]
    else:
        before = versions[entry.champion].tags["right"].count("1") / IMAGES
        assert (relative["applies"], relative["passed"], relative["against"]) == (True, True, str(entry.champion))
        assert (relative["value"], relative["other"], relative["limit"]) == (own, before, -MARGIN)
        assert own - before > relative["bound"] > -MARGIN


def promote_many(name: str, number: int, promotions: int, evaluation: Path) -> list[dict]:
    """In one process, try to promote one candidate after the other."""
    from tests.support import judging_case
    from twofold.core.errors import RegistryError
    from twofold.promotion.gate_evaluation import evaluate_gates
    from twofold.promotion.gates import Minimum, NonInferior
    from twofold.promotion.judgement import Judgement
    from twofold.registry import registration, transitions
    from twofold.tracking import registry_client
    from twofold.tracking import store as tracking

    registry_client.create_version = cheap_version
    store = tracking.connect()
    draw = random.Random(number)  # noqa: S311
    gates = [Minimum(figure=METRIC, min=0.5), NonInferior(figure=METRIC, non_inferior_by=MARGIN)]
    results: list[dict] = []
    for turn in range(promotions):
        key = hashlib.sha256(f"{number} {turn}".encode()).hexdigest()
        right = [draw.random() < 0.85 for _ in TARGET]
        test = judging_case.predictions(TARGET, judging_case.answered(right, TARGET))
        state = registration.registry_state(store, name, key, transitions.sound_ledger(store, name))
        against = None
        if state.champion is not None:
            before = judging_case.answered([bit == "1" for bit in state.champion.tags["right"]], TARGET)
            against = judging_case.beside(test, before, version=str(state.champion.version))
        verdict = evaluate_gates(gates, judging_case.subject(test), against)
        assert verdict.passed, verdict.reasons
        candidate = SimpleNamespace(
            key=key,
            decision={"fingerprint": "f"},
            test_fingerprint="t",
            digests={"finetune_all": "m", "decision": "d"},
            about={"finetune_all": {"base_sha256": "b"}},
            raw=Path("nowhere"),
            evaluation=evaluation,
            metrics={},
        )
        judgement = Judgement(name, candidate, verdict, against, {}, None)
        run = SimpleNamespace(info=SimpleNamespace(run_id=key[:32]))
        fixed = {"alias": "champion", "card": "", "about": "", "params": SECTIONS, "predictions": {}}
        model = SimpleNamespace(right="".join(str(int(bit)) for bit in right), tags={"twofold.seal": "s"})
        try:
            outcome = registration.promote(store, run, state, judgement, model=model, **fixed)
            results.append({"version": outcome.version})
        except RegistryError as error:
            results.append({"error": str(error)})
    return results


def cheap_version(store, name, model, run, tags, card, about):
    """Make a version without files; a tag holds the images on which it is right."""
    from twofold.tracking import registry_client

    registry_client.create_unique(store, name, {})
    return store.client.create_model_version(
        name, source="s3://nowhere/model", tags=tags | {"right": model.right}, description=card
    )


def main(name: str, processes: int, promotions: int, result: Path) -> None:
    from twofold.tracking import store as tracking

    tracking.silence_mlflow()
    # Imported once, before the processes are forked.
    from tests.support import judging_case  # noqa: F401
    from twofold.promotion import gate_evaluation  # noqa: F401
    from twofold.registry import registration  # noqa: F401

    (result.parent / "predictions.parquet").write_text("")
    # `fork` keeps the imports; no connection exists yet.
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        arguments = [(name, number, promotions, result.parent) for number in range(processes)]
        result.write_text(json.dumps(pool.starmap(promote_many, arguments, chunksize=1)))


if __name__ == "__main__":
    main(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]))
