"""Processes that promote at the same time: each judges against the champion that it sees, and promotes if it can.

As a script: `python -m tests.support.race_case ADDRESS NAME PROCESSES PROMOTIONS RESULT`. What a promotion is made of is real
(`twofold.registry.registration.promote`: lock, fresh knowledge, version, ledger, aliases); the candidates are names, and no files
are uploaded. RESULT is JSON: for every try of every process its version, or what it was told.
"""

import hashlib
import json
import multiprocessing
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace

IMAGES = 100
TARGET = [number % 2 for number in range(IMAGES)]
MARGIN = 0.4
WORD = "accuracy"
SECTIONS = {
    "register": {
        "promotion": "auto",
        "gates": [{"figure": WORD, "min": 0.5}, {"figure": WORD, "non_inferior_by": MARGIN}],
        "reference_since": 1,
    }
}


def run(address: str, name: str, processes: int, promotions: int, folder: Path) -> list[list[dict]]:
    """Let them race; what each process came to, try by try."""
    result = folder / "result.json"
    words = [
        sys.executable,
        "-m",
        "tests.support.race_case",
        address,
        name,
        str(processes),
        str(promotions),
        str(result),
    ]
    root = Path(__file__).resolve().parents[2]
    environment = os.environ | {"MLFLOW_TRACKING_URI": address, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=root, env=environment, capture_output=True, text=True, timeout=1200, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(result.read_text())


def check(address: str, name: str, results: list[list[dict]]) -> tuple[int, int]:
    """Hold the registry to what must be true after any race; how many were promoted, and how many were told to wait."""
    from mlflow import MlflowClient

    from twofold.registry import ledger, lock

    client = MlflowClient(address, address)
    tries = [one for each in results for one in each]
    won = [one["version"] for one in tries if "version" in one]
    told = [one["told"] for one in tries if "told" in one]
    assert len(won) + len(told) == len(tries)
    assert all("someone else has changed it" in words for words in told), set(told)
    model = client.get_registered_model(name)
    found = ledger.read(model.tags)
    assert (found.problems, found.void, found.settled) == ((), (), True)
    # Complete and in order: every promotion is one entry, and each starts from the champion of the one before.
    assert [entry.number for entry in found.entries] == list(range(1, len(won) + 1))
    assert sorted(entry.version for entry in found.entries) == sorted(won)
    assert [entry.champion for entry in found.entries] == [None, *(entry.version for entry in found.entries[:-1])]
    fences = [entry.fence for entry in found.entries]
    assert fences == sorted(set(fences)), "each under a lock of its own"
    assert {alias: int(version) for alias, version in model.aliases.items()} == {"champion": found.entries[-1].version}
    versions = {int(each.version): each for each in client.search_model_versions(f"name = '{name}'", max_results=1000)}
    assert sorted(versions) == sorted(won)
    keys = {each.tags["twofold.key"] for each in versions.values()}
    assert len(keys) == len(versions), "no candidate has two versions"
    for entry in found.entries:
        _justified(entry, versions)
    (left,) = client.search_registered_models(f"name LIKE '{lock.PREFIX}{name}.%'")
    assert lock.RELEASED in left.tags
    return len(won), len(told)


def _justified(entry, versions) -> None:
    """The gates that the entry names are there, and hold for the champion that it took the place of."""
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


def promote_many(name: str, number: int, promotions: int) -> list[dict]:
    """One process: as many tries, each of another candidate."""
    with tempfile.TemporaryDirectory() as folder:
        return _promote_many(name, number, promotions, Path(folder))


def _promote_many(name: str, number: int, promotions: int, evaluation: Path) -> list[dict]:
    from tests.support import judging_case
    from twofold.core.errors import RegistryError
    from twofold.promotion.gate_evaluation import evaluate_gates
    from twofold.promotion.gates import Minimum, NonInferior
    from twofold.promotion.judgement import Judgement
    from twofold.registry import registration
    from twofold.tracking import registry_client
    from twofold.tracking import store as tracking

    registry_client.create_version = cheap_version
    store = tracking.connect()
    draw = random.Random(number)  # noqa: S311
    (evaluation / "predictions.parquet").write_text("")
    gates = [Minimum(figure=WORD, min=0.5), NonInferior(figure=WORD, non_inferior_by=MARGIN)]
    results: list[dict] = []
    for turn in range(promotions):
        key = hashlib.sha256(f"{number} {turn}".encode()).hexdigest()
        right = [draw.random() < 0.85 for _ in TARGET]
        test = judging_case.predictions(TARGET, judging_case.answered(right, TARGET))
        stands = registration.registry_state(store, name, key)
        against = None
        if stands.champion is not None:
            before = judging_case.answered([bit == "1" for bit in stands.champion.tags["right"]], TARGET)
            against = judging_case.beside(test, before, version=str(stands.champion.version))
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
        judged = Judgement(name, candidate, verdict, against, {}, None)
        run = SimpleNamespace(info=SimpleNamespace(run_id=key[:32]))
        model = SimpleNamespace(right="".join(str(int(bit)) for bit in right))
        try:
            outcome = registration.promote(
                store,
                run,
                stands,
                judged,
                model=model,
                seal_digest="s",
                alias="champion",
                card="",
                params=SECTIONS,
            )
            results.append({"version": outcome.version})
        except RegistryError as error:
            results.append({"told": str(error)})
    return results


def cheap_version(store, name, model, run, tags, description):
    """A version without files; which images it is right on is a tag."""
    from twofold.tracking import registry_client

    registry_client.create_unique(store, name, {})
    return store.client.create_model_version(
        name, source="s3://nowhere/model", tags=tags | {"right": model.right}, description=description
    )


def main(name: str, processes: int, promotions: int, result: Path) -> None:
    from twofold.tracking import store as tracking

    tracking.silence_mlflow()
    # Once, before the processes part.
    from tests.support import judging_case  # noqa: F401
    from twofold.promotion import gate_evaluation  # noqa: F401
    from twofold.registry import registration  # noqa: F401

    # `fork`: what has been imported is there, and nothing has been connected yet.
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        arguments = [(name, number, promotions) for number in range(processes)]
        result.write_text(json.dumps(pool.starmap(promote_many, arguments, chunksize=1)))


if __name__ == "__main__":
    main(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5]))
