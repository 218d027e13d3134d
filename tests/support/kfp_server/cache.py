"""Which tasks of a run a server takes from its cache, and which ones it tries again, as a real one was seen to do.

The key holds parameters, image, command, volume claims, and the *id* of each input artifact; no environment variable
(kubeflow/pipelines#14339). A task that runs gives its artifacts new ids; a hit hands on the old ones. What a task
writes is a function of what it reads, and for `source_version` and `ingest` also of `content`, which stands for the
images.

KFP's own settings of Argo give every template the retry policy OnError: a pod that is lost is tried again, as often as
the task says, and a step that fails is not.
"""

import hashlib
import json
from typing import Any

Resource = dict[str, Any]
ARTIFACT, VALUE = "artifacts", "parameters"
NOT_READ = ("force", "run", "version")  # parameters that change no output


def _hash(*parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class TaskCache:
    """The cache of one server; an artifact is (its id, what is in it)."""

    def __init__(self) -> None:
        self.content = "images"
        self.retry_policy = "OnError"  # "OnFailure": Argo's, without KFP's settings
        self.endings: dict[str, list[str]] = {}  # by task, how its next tries end: "lost" or "failed"
        self.tries: dict[str, int] = {}  # of each task in the last run
        self._entries: dict[str, Resource] = {}
        self._ids = 0

    def run(self, specs: Resource, arguments: Resource) -> list[str]:
        """Run a pipeline; return the tasks that really ran, in their order."""
        spec = specs.get("pipeline_spec", specs)
        platform = specs.get("platform_spec", {}).get("platforms", {}).get("kubernetes", {})
        self._spec, self._pods = spec, platform.get("deploymentSpec", {}).get("executors", {})
        self.tries, self._failed = {}, False
        root = spec.get("root", {})
        defaults = root.get("inputDefinitions", {}).get(VALUE, {})
        values = {name: given.get("defaultValue") for name, given in defaults.items()} | arguments
        return self._run_dag(root["dag"], {VALUE: values})[1] if root else []

    def _run_dag(self, dag: Resource, inputs: Resource) -> tuple[Resource, list[str]]:
        outputs: Resource = {}
        ran: list[str] = []
        tasks = dict(dag["tasks"])
        while tasks:
            name = next(n for n, task in tasks.items() if set(task.get("dependentTasks", [])) <= set(outputs))
            task = tasks.pop(name)
            component = self._spec["components"][task["componentRef"]["name"]]
            given = task.get("inputs", {})
            reads = {
                kind: {key: _find(found, inputs, outputs) for key, found in given.get(kind, {}).items()}
                for kind in (VALUE, ARTIFACT)
            }
            if "dag" in component:
                outputs[name], inner = self._run_dag(component["dag"], reads)
                ran += inner
                continue
            key = self._key(component, reads)
            hit = self._entries.get(key) if task.get("cachingOptions", {}).get("enableCache") else None
            always = task.get("triggerPolicy", {}).get("strategy") == "ALL_UPSTREAM_TASKS_COMPLETED"
            outputs[name] = hit or {}
            if hit is None and (always or not self._failed):
                ran.append(name)
                if self._try(name, task.get("retryPolicy", {}).get("maxRetryCount", 0)):
                    self._entries[key] = outputs[name] = self._write(name, component, reads)
        return outputs, ran

    def _try(self, name: str, retries: int) -> bool:
        """Whether one of the tries of a task succeeds."""
        retried = {"OnError": "lost", "OnFailure": "failed"}[self.retry_policy]
        endings = self.endings.get(name, [])
        for attempt in range(1, 2 + retries):
            self.tries[name] = attempt
            ending = endings.pop(0) if endings else ""
            if not ending:
                return True
            if ending != retried:
                break
        self._failed = True
        return False

    def _key(self, component: Resource, reads: Resource) -> str:
        label = component["executorLabel"]
        container = self._spec["deploymentSpec"]["executors"][label]["container"]
        words = [container.get(word) for word in ("image", "command", "args")]
        claims = [mount["constant"] for mount in self._pods.get(label, {}).get("pvcMount", [])]
        ids = {name: identity for name, (identity, _) in reads[ARTIFACT].items()}
        return _hash(component.get("outputDefinitions"), words, claims, reads[VALUE], ids)

    def _write(self, name: str, component: Resource, reads: Resource) -> Resource:
        values = {key: value for key, value in reads[VALUE].items() if key not in NOT_READ}
        content = self.content if name in ("source-version", "ingest") else ""
        written = _hash(name, content, values, {key: held for key, (_, held) in reads[ARTIFACT].items()})
        declared = component.get("outputDefinitions", {})
        artifacts = {}
        for output in declared.get(ARTIFACT, {}):
            self._ids += 1
            artifacts[output] = (self._ids, _hash(output, written))
        constant = {"experiment": "cells", "source": "/data"}  # which no image and no other parameter changes
        parameters = {output: constant.get(output, _hash(output, written)) for output in declared.get(VALUE, {})}
        if name == "source-version":
            parameters["version"] = self.content
        return {VALUE: parameters, ARTIFACT: artifacts}


def _find(found: Resource, inputs: Resource, outputs: Resource) -> Any:
    """The value of a task's input: of the DAG around it, of another task, or a constant."""
    for kind, word in ((VALUE, "Parameter"), (ARTIFACT, "Artifact")):
        if outer := found.get(f"componentInput{word}"):
            return inputs[kind][outer]
        if other := found.get(f"taskOutput{word}"):
            return outputs[other["producerTask"]].get(kind, {}).get(other[f"output{word}Key"], (0, ""))
    return found.get("runtimeValue", {}).get("constant", "the run's status")
