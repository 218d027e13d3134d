"""Many processes that promote at once, on SQLite and on MLflow's server with PostgreSQL: one champion, all on record.

4 processes with 5 promotions each; TWOFOLD_RACES=16x10x5 (`make soak`) has 16 with 10, five times over.
"""

import os
import shutil

import pytest

from tests.support import race_case
from tests.support.tools.servers import mlflow, postgres

pytestmark = pytest.mark.slow
PROCESSES, PROMOTIONS, ROUNDS = map(int, os.environ.get("TWOFOLD_RACES", "4x5x1").split("x"))
PASSWORD = "p4ss"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """MLflow's server on PostgreSQL, over HTTP."""
    folder = tmp_path_factory.mktemp("servers")
    with postgres(folder / "postgres", "mlflow", "mlflow", PASSWORD) as port:
        store = f"postgresql+psycopg2://mlflow:{PASSWORD}@127.0.0.1:{port}/mlflow"
        with mlflow(folder / "server", "--backend-store-uri", store) as address:
            yield address


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request, empty_store, tmp_path):
    if request.param == "postgresql":
        return request.getfixturevalue("server")
    return f"sqlite:///{shutil.copy(empty_store, tmp_path / 'mlflow.db')}"


@pytest.mark.parametrize("turn", range(ROUNDS))
def test_promotions_at_the_same_time_are_one_after_the_other(address, tmp_path, turn):
    name = f"race-{turn}"
    results = race_case.run(address, name, PROCESSES, PROMOTIONS, tmp_path)
    won, told = race_case.check(address, name, results)
    print(f"{PROCESSES} x {PROMOTIONS}, round {turn + 1}: {won} promoted, {told} told that someone was faster")
    assert won >= PROMOTIONS
