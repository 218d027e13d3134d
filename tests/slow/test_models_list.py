"""`twofold models list` asks as often for many versions as for few, on SQLite and on MLflow's server with PostgreSQL.

Prints its calls, requests and seconds of CPU, for as many versions as TWOFOLD_VERSIONS says; in `make soak` 300.
"""

import json
import os
import shutil
import subprocess
import sys

import pytest

from tests.support.tools.faulty_proxy import between
from tests.support.tools.servers import mlflow, postgres
from twofold.tracking.registry_client import FIGURES, KEY

pytestmark = pytest.mark.slow
VERSIONS = int(os.environ.get("TWOFOLD_VERSIONS", "30"))
METRICS, PARAMS, PASSWORD = 250, 100, "p4ss"
TAGS = {"twofold.lineage": 4000, "twofold.gates.0123456789ab": 1500, "twofold.conditions": 800, "twofold.best": 400}
# In a process that has imported everything, as the list of an empty model makes sure.
MEASURE = """
import json, time
from twofold.registry.version_catalog import list_versions, open_catalog
from twofold.registry.version_text import format_table, list_rows
from twofold.tracking import store as tracking

calls = []

class Counting:
    def __init__(self, client):
        self.client = client

    def __getattr__(self, name):
        calls.append(name)
        return getattr(self.client, name)

client = tracking._client
tracking._client = lambda uri: Counting(client(uri))
store = tracking.connect()
list_versions(open_catalog("empty", store))
calls.clear()
begin = time.process_time()
text = format_table(list_rows(list_versions(open_catalog("corner", store))))
listing = time.process_time() - begin
print(json.dumps([listing, time.process_time(), len(calls), len(text.splitlines()), text.count("0.875")]))
"""


def fill(address: str, tagged: bool) -> None:
    """Create versions like Twofold's, each with its run."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param, RunTag

    client = MlflowClient(address, address)
    client.create_registered_model("corner")
    metrics = [Metric(name, 0.875, 0, 0) for name in ("accuracy", "f1", "roc_auc")] + [Metric("n", 656, 0, 0)]
    metrics += [Metric(f"slices.column.value-{number}.accuracy", 0.5, 0, 0) for number in range(METRICS)]
    params = [Param(f"step.parameter.{number}", "value") for number in range(PARAMS)]
    figures = {"accuracy": 0.875, "f1": 0.875, "roc_auc": 0.875, "n": 656}
    for number in range(VERSIONS):
        run = client.create_run("0").info.run_id
        client.log_batch(run, metrics, params, [RunTag(f"twofold.tag.{each}", "x" * 40) for each in range(30)])
        tags = {name: "x" * length for name, length in TAGS.items()} | {KEY: f"{number:064d}"}
        tags |= {f"twofold.digest.{each}": "d" * 64 for each in range(6)}
        tags |= {FIGURES: json.dumps(figures)} if tagged else {}
        client.create_model_version("corner", "s3://nowhere/model", run, tags)


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request, empty_store, tmp_path, monkeypatch):
    """The store's address, for the client and for filling it."""
    if request.param == "sqlite":
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{shutil.copy(empty_store, tmp_path / 'mlflow.db')}")
        yield os.environ["MLFLOW_TRACKING_URI"], None
        return
    with postgres(tmp_path / "postgres", "mlflow", "mlflow", PASSWORD) as port:
        store = f"postgresql+psycopg2://mlflow:{PASSWORD}@127.0.0.1:{port}/mlflow"
        with (
            mlflow(tmp_path / "server", "--backend-store-uri", store) as server,
            between(server, None, monkeypatch, "MLFLOW_TRACKING_URI") as proxy,
        ):
            yield store, proxy


@pytest.mark.parametrize("tagged", [True, False])
def test_a_list_takes_a_few_requests_however_many_versions_there_are(address, tagged):
    store, proxy = address
    fill(store, tagged)
    before = proxy.calls if proxy else 0
    done = subprocess.run([sys.executable, "-c", MEASURE], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    listing, whole, calls, lines, figures = json.loads(done.stdout.splitlines()[-1])
    requests = f", {proxy.calls - before} HTTP requests with those before it" if proxy else ""
    kind = "with their metrics in a tag" if tagged else "of an earlier Twofold"
    print(
        f"{VERSIONS} versions {kind}, {'PostgreSQL' if proxy else 'SQLite'}: {listing:.2f} s of CPU (process "
        f"{whole:.2f} s), {calls} calls{requests}"
    )
    assert (lines, figures) == (VERSIONS + 1, 3 * VERSIONS)
    assert calls <= 5
