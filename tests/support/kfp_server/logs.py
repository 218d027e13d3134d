"""The stand-in with pods' logs, with runs of a pipeline that nobody has uploaded, and with an end to a run.

In: each pod's log by the pod's name, and which of Kubeflow's two servers the client talks to. Out: the log as the API
server gives it (`/apis/v1alpha1/…/log`) or as the UI's server does (`/k8s/pod/logs`); a 500 where there is no such pod.
"""

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from tests.support.kfp_server.server import KfpServer, _Handler
from tests.support.kfp_server.shape import Refused
from tests.support.kfp_server.store import Resource


class KfpWithLogs(KfpServer):
    """Set `logs` (by pod name) and `nodes` (a task's display name -> the id of its node in Argo)."""

    def __init__(self) -> None:
        super().__init__()
        self.logs: dict[str, str] = {}
        self.nodes: dict[str, str] = {}
        self.stopped: list[str] = []
        self.started: Callable[[str], None] = lambda run_id: None  # what else happens when a run begins
        self._http.RequestHandlerClass = type("Handler", (_LogHandler,), {"kfp": self})

    def _runnable(self, resource: Resource) -> Resource:
        spec = resource.get("pipeline_spec")
        if spec is None:
            return super()._runnable(resource)
        try:
            json_format.ParseDict(spec.get("pipeline_spec", spec), pipeline_spec_pb2.PipelineSpec())
            json_format.ParseDict(spec.get("platform_spec", {}), pipeline_spec_pb2.PlatformSpec())
        except (json_format.ParseError, ValueError) as error:
            raise Refused(400, f"Failed to parse the PipelineSpec: {error}") from None
        self._get(self.experiments, resource.get("experiment_id", ""), "Experiment")
        return resource

    def create_run(self, body: Any) -> Resource:
        run = super().create_run(body)
        self.started(run["run_id"])
        return run

    def _task(self, run: Resource, name: str, state: str, before: Resource | None) -> Resource:
        task = super()._task(run, name, state, before)
        # As the real one: a task names its children by the ids of their nodes; `pod_name` it leaves empty.
        children = [{"pod_name": self.nodes[name]}] if name in self.nodes else []
        return task | ({"child_tasks": children} if children else {})

    def answer(self, method: str, path: str, query: dict[str, str], body: Any) -> Resource:
        if method == "POST" and (found := re.fullmatch(r"/runs/([^/:]+):terminate", path)):
            self._get(self.runs, found[1], "Run")
            self.stopped.append(found[1])
            return {}
        return super().answer(method, path, query, body)


class _LogHandler(_Handler):
    kfp: KfpWithLogs
    disable_nagle_algorithm = True  # head and body are two packets: the second would wait 40 ms for the first one's ACK

    def do_GET(self) -> None:  # noqa: N802
        address, kfp = urlsplit(self.path), self.kfp
        pod = ""
        if found := re.fullmatch(r"/apis/v1alpha1/runs/[^/]+/nodes/([^/]+)/log", address.path):
            pod = "" if kfp.behind_ui else found[1]
        elif address.path == "/k8s/pod/logs":
            pod = parse_qs(address.query).get("podname", [""])[0] if kfp.behind_ui else ""
        else:
            super().do_GET()
            return
        kfp.calls.append(f"GET {address.path}")
        if kfp.token and self.headers.get("Authorization") != f"Bearer {kfp.token}":
            self._send(401, b"Unauthorized", "text/plain")
        elif not pod:
            self._send(404, b"404 page not found\n", "text/plain")
        elif pod not in kfp.logs:
            self._send(500, b'{"error_message": "failed to read the log"}', "application/json")
        else:
            self._send(200, kfp.logs[pod].encode(), "text/plain")
