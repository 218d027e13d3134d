"""The stand-in's resources, and what each call does to them; returns resources as JSON, or raises `Refused`."""

import datetime
import itertools
import json
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.support.kfp_server.cache import TaskCache
from tests.support.kfp_server.listing import page
from tests.support.kfp_server.mlflow_plugin import MlflowPlugin
from tests.support.kfp_server.shape import Refused, check
from tests.support.kfp_server.specs import check_parameters, check_spec, parse

Resource = dict[str, Any]
NEVER = "1970-01-01T00:00:00Z"  # what the API gives for unknown times


@dataclass
class Frame:
    """A run at one moment: its state, and the state of its tasks by display name.

    While the exit task runs, the run is RUNNING, or CANCELING if it was terminated. A task is FAILED in Argo's phases
    Failed and Error alike; one that never began because another failed is RUNTIME_STATE_UNSPECIFIED (Argo: Omitted).
    """

    state: str | None
    tasks: dict[str, str] = field(default_factory=dict)
    error: str = ""
    pods: dict[str, list[tuple[str, str]]] = field(default_factory=dict)  # of each try: Argo's phase and message
    limits: dict[str, int] = field(default_factory=dict)  # seconds that a pod of the task may run


class Store:
    """All resources. Each request for a new run shows the next frame of `script`; the last one stays."""

    def __init__(self) -> None:
        self.multi_user = False
        self.version = "2.17.0"
        self.plugin: MlflowPlugin | None = None
        self.script: Sequence[Frame] = [Frame("SUCCEEDED")]
        self.nodes: dict[str, str] = {}  # a task's display name -> the id of its node in Argo
        self.on_start: Callable[[str], None] = lambda run_id: None  # what else happens when a run starts
        self.stopped: list[str] = []  # ids of terminated runs
        self.cache = TaskCache()
        self.ran: dict[str, list[str]] = {}  # a run's id -> the tasks that were not taken from the cache
        self.pipelines: dict[str, Resource] = {}
        self.versions: dict[str, Resource] = {}
        self.experiments: dict[str, Resource] = {}
        self.runs: dict[str, Resource] = {}
        self.recurring: dict[str, Resource] = {}
        self._frames: dict[str, list[Frame]] = {}
        self._clock = itertools.count()
        self._add(self.experiments, "experiment_id", {"display_name": "Default", "storage_state": "AVAILABLE"})

    def _now(self) -> str:
        # Each call is a second later: lists are sorted by this time, and two resources must not tie.
        start = datetime.datetime(2026, 1, 5, tzinfo=datetime.UTC)
        return (start + datetime.timedelta(seconds=next(self._clock))).strftime("%Y-%m-%dT%H:%M:%SZ")

    def _add(self, table: dict[str, Resource], key: str, resource: Resource) -> Resource:
        identity = str(uuid.uuid4())
        table[identity] = {**resource, key: identity, "created_at": self._now()}
        return table[identity]

    @staticmethod
    def _get(table: dict[str, Resource], identity: str) -> Resource:
        if identity not in table:
            raise Refused(404, f"{identity} not found")
        return table[identity]

    def _unique(self, table: dict[str, Resource], kind: str, **values: str | None) -> None:
        if not values["display_name"]:
            raise Refused(400, f"{kind} name is empty. Please specify a valid name")
        if any(all(other.get(key) == value for key, value in values.items()) for other in table.values()):
            raise Refused(409, f"Already exist error: Failed to create a new {kind}. The name already exists")

    def _namespace(self, namespace: str | None) -> str | None:
        if self.multi_user and not namespace:
            raise Refused(400, "Invalid input error: in multi-user mode the namespace cannot be empty")
        return namespace or None

    def listed(self, table: dict[str, Resource], name: str, query: dict[str, str], **where: str | None) -> Resource:
        """A page of the resources that match `where`; empty fields are left out, as protobuf's JSON does."""
        chosen = [one for one in table.values() if all(one.get(k) == v for k, v in where.items() if v)]
        found, total, token = page(chosen, query)
        full: Resource = {name: found, "total_size": total, "next_page_token": token}
        return {key: value for key, value in full.items() if value}

    def create_pipeline(self, body: Any) -> Resource:
        pipeline = check(body, "V2beta1Pipeline", "pipeline")
        values = {"display_name": pipeline.get("display_name", ""), "namespace": pipeline.get("namespace")}
        self._unique(self.pipelines, "pipeline", **values)
        return self._add(self.pipelines, "pipeline_id", {"name": values["display_name"], **pipeline})

    def upload_version(self, package: bytes, query: dict[str, str]) -> Resource:
        pipeline = self._get(self.pipelines, query.get("pipelineid", ""))
        name = query.get("display_name") or query.get("name") or "pipeline.yaml"
        values = {"pipeline_id": pipeline["pipeline_id"], "display_name": name}
        self._unique(self.versions, "pipeline version", **values)
        described: Resource = {"description": query["description"]} if query.get("description") else {}
        if query.get("tags"):
            described["tags"] = check(json.loads(query["tags"]), "dict(str, str)", "tags")
            if any(len(text) > 63 for text in itertools.chain(*described["tags"].items())):
                raise Refused(400, "a tag's key and value must not be longer than 63 characters")
        version = {**values, **described, "name": name, "pipeline_spec": parse(package)}
        return self._add(self.versions, "pipeline_version_id", version)

    def create_experiment(self, body: Any) -> Resource:
        experiment = check(body, "V2beta1Experiment", "experiment")
        namespace = self._namespace(experiment.get("namespace"))
        self._unique(
            self.experiments, "experiment", display_name=experiment.get("display_name", ""), namespace=namespace
        )
        return self._add(self.experiments, "experiment_id", {**experiment, "storage_state": "AVAILABLE"})

    def _runnable(self, resource: Resource) -> Resource:
        """Check what runs and recurring runs need: an experiment, a pipeline version or spec, its parameters."""
        if not resource.get("display_name"):
            raise Refused(400, "Run name is empty. Please specify a valid name")
        if "plugins_input" in resource and self.version < "2.17":
            raise Refused(400, f"{self.version} has no field plugins_input")
        experiment = self._get(self.experiments, resource.get("experiment_id", ""))
        if experiment["storage_state"] != "AVAILABLE":
            raise Refused(400, f"experiment {experiment['experiment_id']} is not AVAILABLE")
        if "pipeline_spec" in resource:
            check_spec(resource["pipeline_spec"])
            return resource
        reference = resource.get("pipeline_version_reference", {})
        version = self._get(self.versions, reference.get("pipeline_version_id", ""))
        if version["pipeline_id"] != reference.get("pipeline_id"):
            raise Refused(400, "the pipeline version belongs to another pipeline")
        check_parameters(version["pipeline_spec"], resource.get("runtime_config", {}).get("parameters", {}))
        return {**resource, "namespace": experiment.get("namespace")} if experiment.get("namespace") else resource

    def create_run(self, body: Any) -> Resource:
        run = self._runnable(check(body, "V2beta1Run", "run"))
        run.pop("namespace", None)
        run = self._add(self.runs, "run_id", {**run, "storage_state": "AVAILABLE", "state": "PENDING"})
        self._frames[run["run_id"]] = list(self.script)
        version = self.versions.get(run.get("pipeline_version_reference", {}).get("pipeline_version_id"), run)
        arguments = run.get("runtime_config", {}).get("parameters", {})
        self.ran[run["run_id"]] = self.cache.run(version["pipeline_spec"], arguments)
        if self.plugin is not None:
            self.plugin.start(run)
        self.on_start(run["run_id"])
        return run

    def terminate_run(self, identity: str) -> Resource:
        self._get(self.runs, identity)
        self.stopped.append(identity)
        return {}

    def show_run(self, identity: str) -> Resource:
        """The run with its current frame; the next request gets the next frame."""
        run, frames = self._get(self.runs, identity), self._frames.get(identity, [])
        frame = frames.pop(0) if len(frames) > 1 else frames[0]
        run.pop("state", None)
        run |= {"state": frame.state} if frame.state else {}
        run |= {"error": {"code": 9, "message": frame.error}} if frame.error else {}
        known = {task["display_name"]: task for task in run.get("run_details", {}).get("task_details", [])}
        nodes = []
        for name, state in frame.tasks.items():
            # Argo's nodes: the driver's, the task's own, and the executor's.
            task = self._task(run, name, state, known.get(name))
            tries = [{**task, "display_name": f"{name}({turn})"} for turn in range(len(frame.pods.get(name, ())))]
            nodes += [*({**one, "state": "FAILED"} for one in tries), task]
            if f"{name}-driver" not in frame.tasks and not name.endswith("-driver"):
                nodes.insert(-1, {**task, "display_name": f"{name}-driver", "state": "SUCCEEDED"})
                nodes.append({**task, "display_name": "executor"})
        run["run_details"] = {"task_details": nodes}
        return run

    def show_workflow(self, identity: str) -> Resource:
        """A run as v1beta1 shows it: with Argo's workflow, whose nodes have messages, which v2beta1 leaves out."""
        self._get(self.runs, identity)
        frame, nodes = self._frames[identity][0], {}
        for name, tries in frame.pods.items():
            path = f"twofold-training-x7k2p.root.exit-handler-1.{name}"
            nodes[name] = {"name": path, "type": "Retry", "phase": tries[-1][0], "message": "No more retries left"}
            patch = json.dumps({"activeDeadlineSeconds": frame.limits[name]} if name in frame.limits else {})
            inputs = {"parameters": [{"name": "pod-spec-patch", "value": patch}]}
            for turn, (phase, message) in enumerate(tries):
                node = {"type": "Pod", "phase": phase, "message": message, "finishedAt": f"2026-01-05T00:0{turn}:00Z"}
                nodes[f"{name}{turn}"] = node | {"name": f"{path}({turn}).executor(0)", "inputs": inputs}
        spec = {"activeDeadlineSeconds": 0} if frame.state == "CANCELING" else {}
        manifest = json.dumps({"spec": spec, "status": {"phase": "Running", "nodes": nodes}})
        return {"run": {"id": identity}, "pipeline_runtime": {"workflow_manifest": manifest}}

    def _task(self, run: Resource, name: str, state: str, before: Resource | None) -> Resource:
        """A task as a real server writes it: with 1970 for unknown times, children by node id, and no `pod_name`."""
        now, task = self._now(), dict(before or {"task_id": str(uuid.uuid4()), "start_time": NEVER, "end_time": NEVER})
        if task["start_time"] == NEVER and state != "PENDING":
            task["start_time"] = now
        if task["end_time"] == NEVER and state in ("SUCCEEDED", "FAILED", "SKIPPED", "CANCELED"):
            task["end_time"] = now
        if name in self.nodes:
            task["child_tasks"] = [{"pod_name": self.nodes[name]}]
        return {**task, "run_id": run["run_id"], "display_name": name, "create_time": run["created_at"], "state": state}

    def create_recurring(self, body: Any) -> Resource:
        recurring = self._runnable(check(body, "V2beta1RecurringRun", "recurring_run"))
        if not 1 <= int(recurring.get("max_concurrency", 0)) <= 10:
            raise Refused(400, "Max concurrency of a recurring run must be at leas 1 and at most 10.")
        trigger = recurring.get("trigger", {})
        cron = trigger.get("cron_schedule", {}).get("cron")
        if (cron is None) == ("periodic_schedule" not in trigger):
            raise Refused(400, "a recurring run needs a cron or a periodic schedule")
        if cron is not None and len(cron.split()) not in (5, 6):
            raise Refused(400, "Schedule cron is not a supported format(https://godoc.org/github.com/robfig/cron).")
        if recurring.get("no_catchup") is False:
            del recurring["no_catchup"]
        status = "ENABLED" if recurring.get("mode") == "ENABLE" else "DISABLED"
        recurring = {"service_account": "pipeline-runner", **recurring, "status": status}
        return self._add(self.recurring, "recurring_run_id", recurring)

    def switch(self, identity: str, enabled: bool) -> Resource:
        recurring = self._get(self.recurring, identity)
        recurring |= {"status": "ENABLED", "mode": "ENABLE"} if enabled else {"status": "DISABLED", "mode": "DISABLE"}
        return {}

    def delete(self, table: dict[str, Resource], identity: str) -> Resource:
        self._get(table, identity)
        del table[identity]
        return {}
