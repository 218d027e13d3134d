"""Many processes promote at once, on SQLite and on an MLflow server with PostgreSQL: one champion, a complete ledger.

4 processes with 5 promotions each; TWOFOLD_RACES=16x10x5 (`make soak`) runs 16 with 10 each, five times.
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
def test_concurrent_promotions_happen_one_after_the_other(address, tmp_path, turn):
    name = f"race-{turn}"
    results = race_case.run(address, name, PROCESSES, PROMOTIONS, tmp_path)
    promoted, refused = race_case.check(address, name, results)
    print(f"{PROCESSES} x {PROMOTIONS}, round {turn + 1}: {promoted} promoted, {refused} refused as stale")
    assert promoted >= PROMOTIONS
