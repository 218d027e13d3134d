"""KFP 2.17's MLflow plugin: a run for each pipeline run, nested runs for its tasks, and the variables of a task's pod.

As in KFP's `backend/src/apiserver/plugins/mlflow` and `backend/src/v2/common/plugins/mlflow`, with injectUserEnvVars.
"""

from typing import Any

from tests.support.kfp_server.shape import Refused
from twofold.tracking.store import MlflowStore
from twofold.tracking.store import experiment as ensure_experiment

PARENT = "mlflow.parentRunId"
ENDS = {"SUCCEEDED": "FINISHED", "CANCELED": "KILLED"}  # KFP's state -> MLflow's


class MlflowPlugin:
    """Set it as `KfpServer.plugin`; `parents` holds (experiment, run) by the id of the pipeline run."""

    def __init__(self, store: MlflowStore) -> None:
        self.store, self.client = store, store.client
        self.parents: dict[str, tuple[str, str]] = {}

    def start(self, run: dict[str, Any]) -> None:
        """Open the run of a new pipeline run, in the experiment of its `plugins_input`."""
        wanted = run.get("plugins_input", {}).get("mlflow", {})
        if unknown := set(wanted) - {"experiment_name", "experiment_id", "disabled"}:
            raise Refused(400, f"plugins_input.mlflow must follow schema, has {unknown}")
        experiment = ensure_experiment(self.store, wanted.get("experiment_name") or "KFP-Default")
        tags = {"kfp.pipeline_run_id": run["run_id"], "kfp.pipeline_run_url": ""}
        parent = self.client.create_run(experiment, tags=tags, run_name=run["display_name"]).info.run_id
        self.parents[run["run_id"]] = experiment, parent
        entries = {"experiment_id": {"value": experiment}, "root_run_id": {"value": parent}}
        run["plugins_output"] = {"mlflow": {"entries": entries, "state": "PLUGIN_SUCCEEDED"}}

    def environment(self, pipeline_run: str, task: str, within: tuple[str, ...] = ()) -> dict[str, str]:
        """Open a task's nested run, below those of the DAGs that it is in; return what its pod is given."""
        experiment, parent = self.parents[pipeline_run]
        for name in (*within, task):
            parent = self.client.create_run(experiment, tags={PARENT: parent}, run_name=name).info.run_id
        return {"MLFLOW_RUN_ID": parent, "MLFLOW_EXPERIMENT_ID": experiment}

    def end(self, pipeline_run: str, state: str) -> None:
        """End the run and those below it that are still open."""
        experiment, parent = self.parents[pipeline_run]
        below = [parent]
        for run in below:
            below += [one.info.run_id for one in self.client.search_runs([experiment], f"tags.`{PARENT}` = '{run}'")]
        for run in below:
            if self.client.get_run(run).info.status == "RUNNING":
                self.client.set_terminated(run, ENDS.get(state, "FAILED"))
