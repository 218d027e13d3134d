"""`twofold models` on a real MLflow store: what each command says, moves and refuses."""

import shutil

import pytest

from tests import registration_case as case
from twofold import cli, tracking
from twofold import ledger as ledgers

REVIEW = case.PARAMS.model_copy(update={"promotion": "review"})
WHY = ("--reason", "because", "--actor", "ann")


@pytest.fixture(scope="module")
def store_of_all(empty_store, tmp_path_factory):
    """A store with version 1 (champion before), 2 (champion) and 3 (waits for review), and the data."""
    root = tmp_path_factory.mktemp("models")
    place = root / "mlflow"
    place.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{shutil.copy(empty_store, place / 'mlflow.db')}")
        for name in ("MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME", "DVC_EXP_NAME"):
            patch.delenv(name, raising=False)
        case.hurry(patch)
        data = case.make_data(root)
        for slope, params in ((8.0, case.PARAMS), (9.0, case.PARAMS), (10.0, REVIEW)):
            case.run(case.make_candidate(root / str(slope), data, slope), root, params)
    return place, data[0]


@pytest.fixture
def store(store_of_all, monkeypatch):
    """The same, as it was at the beginning; its files lie where they lay, for MLflow knows them by absolute paths."""
    place, _ = store_of_all
    before = place.parent / "before"
    if not before.exists():
        shutil.copytree(place, before)
    fresh = shutil.copy(before / "mlflow.db", place / f"{len(list(place.iterdir()))}.db")
    shutil.rmtree(place / "mlartifacts")
    shutil.copytree(before / "mlartifacts", place / "mlartifacts")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{fresh}")
    case.know_corner(monkeypatch)
    return tracking.connect()


@pytest.fixture
def models(store, capsys):
    """Runs one command; exit status and output."""

    def run(*words):
        with pytest.raises(SystemExit) as ended:
            cli.main(["models", words[0], "--name", "corner", *words[1:]])
        told = capsys.readouterr()
        return ended.value.code, told.out + "".join(line for line in told.err.splitlines(True) if "error" in line)

    return run


def aliases(store):
    return {alias: int(number) for alias, number in store.client.get_registered_model("corner").aliases.items()}


def entries(store):
    return ledgers.read(store.client.get_registered_model("corner").tags).entries


def test_print_all(models, store_of_all):
    for words in (
        ("list",),
        ("show", "champion"),
        ("compare", "1", "champion"),
        ("history",),
        ("verify", "3"),
        ("verify", "2", "--data", str(store_of_all[1])),
        ("approve", *WHY),
        ("rollback", *WHY),
        ("rollback", *WHY, "--data", str(store_of_all[1])),
        ("history",),
        ("list",),
        ("reproduce", "1"),
    ):
        status, text = models(*words)
        print("$", *words, "->", status)
        print(text)
    raise AssertionError
