"""Asks the Kubeflow server which step ended a pipeline run, and how.

KFP's own final status is RUNNING when a pod was killed, because nothing in that pod could write another one. The server
has the tasks' real states; the reasons are in Argo's workflow, which only its API v1beta1 shows.

Environment: KF_PIPELINES_ENDPOINT (the server; default in a pod: the service `ml-pipeline`), KF_PIPELINES_SA_TOKEN_PATH
(a token for a multi-user server).
"""

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import requests

from twofold.core.errors import ServerError
from twofold.core.progress import say
from twofold.core.redaction import redact
from twofold.orchestration.params_file import STEPS

TASKS = ("source_version", *STEPS)
TOKEN = "/var/run/secrets/kubeflow/pipelines/token"  # noqa: S105  # the path that kfp.Client reads too
TIMEOUT = 10  # seconds


def describe_ending(run: str, state: str, message: str) -> str:
    """Return how a run that did not succeed ended, such as `failed in train_head: its time limit was exceeded`.

    Args:
        run: id of the pipeline run.
        state: in KFP's final status: FAILED if a step reported its failure, RUNNING if nothing was reported.
        message: KFP's error message, if there is one.
    """
    told, step, failed, pod = _one_line(message), "", False, dict[str, Any]()
    try:
        answer = _ask(f"apis/v2beta1/runs/{run}")
        step, failed = _find_step(answer)
        if answer.get("state") in ("CANCELING", "CANCELED") and state != "FAILED":
            return "was terminated by a user of Kubeflow" + (f" during {step}" if step else "")
        pod = _find_pod(_ask(f"apis/v1beta1/runs/{run}"), step) if step else {}
    except (ServerError, LookupError, ValueError, TypeError, AttributeError) as problem:
        say(f"notify: the Kubeflow server does not say how the run ended: {problem!r}")
    if not step:
        how = "failed" if state == "FAILED" else "did not finish"
        return f"{how}; which step ended it is unknown" + (f": {told}" if told else "")
    reason = _one_line(str(pod.get("message") or ""))
    if "longer than the specified deadline" in reason:
        why = f"its time limit{pod['limit']} was exceeded"
    elif "exceeded its deadline" in reason:
        why = "the time limit of the run was exceeded"
    elif pod.get("phase") == "Error":
        why = f"its pod was lost or could not start, and no retry was left ({reason or 'no reason given'})"
    elif state == "FAILED" or "exit code" in reason:
        why = f"it exited with an error ({told or reason or 'no message'}); its log says more"
    else:
        why = reason or "a time limit or the loss of its pod stopped it; which of them is unknown"
    return f"{'failed' if failed else 'was stopped'} in {step}: {why}"


def _ask(path: str) -> dict[str, Any]:
    """Return the server's answer, or raise a ServerError that holds no token."""
    address = os.environ.get("KF_PIPELINES_ENDPOINT", "").rstrip("/")
    if not address and "KUBERNETES_SERVICE_HOST" not in os.environ:
        raise ServerError("it was not asked, because this is no pod and KF_PIPELINES_ENDPOINT is not set")
    host = os.environ.get("ML_PIPELINE_SERVICE_HOST") or "ml-pipeline.kubeflow.svc.cluster.local"
    host, port = f"[{host}]" if ":" in host else host, os.environ.get("ML_PIPELINE_SERVICE_PORT") or "8888"
    try:
        token, url = Path(os.environ.get("KF_PIPELINES_SA_TOKEN_PATH") or TOKEN), address or f"http://{host}:{port}"
        headers = {"Authorization": f"Bearer {token.read_text().strip()}"} if token.is_file() else {}
        response = requests.get(f"{url}/{path}", headers=headers, timeout=TIMEOUT, allow_redirects=False)
        if response.status_code != 200:
            raise ServerError(f"it answered {response.status_code} to {path}")
        return dict(response.json())
    except (OSError, ValueError, TypeError) as error:
        # Of a failed connection the reason; the messages of others may quote the token.
        reason = getattr(next(iter(error.args), None), "reason", "")
        raise ServerError(f"no answer to {path}: {type(error).__name__} {reason}") from None


def _find_step(run: Mapping[str, Any]) -> tuple[str, bool]:
    """Return the first step that failed, otherwise the one that had not finished or "", and whether it failed.

    If a step's driver fails, its own node is omitted. A node of one try, such as `train-head(0)`, says nothing.
    """
    tasks = run["run_details"]["task_details"]
    states = {(task["display_name"].removesuffix("-driver").replace("-", "_"), task.get("state")) for task in tasks}
    for wanted in ("FAILED", "CANCELED", "CANCELING", "RUNNING", "PENDING"):
        for step in TASKS:
            if (step, wanted) in states:
                return step, wanted == "FAILED"
    return "", False


def _find_pod(run: Mapping[str, Any], step: str) -> dict[str, Any]:
    """Return Argo's node of the step's pod that failed last, if any; `limit` is its time limit, such as ` of 60 s`."""
    nodes = json.loads(run["pipeline_runtime"]["workflow_manifest"])["status"]["nodes"].values()
    # A node's name is the path to it: workflow.root.exit-handler-1.train-head(0).executor(1).
    path = re.compile(rf"\.{step.replace('_', '-')}(-driver)?(\(\d+\))?(\.|$)")
    found = [node for node in nodes if node["type"] == "Pod" and path.search(node["name"])]
    failed = [node for node in found if node.get("phase") in ("Failed", "Error")]
    pod = dict(max(failed, key=lambda node: node.get("finishedAt") or "", default={}))
    inputs = {one["name"]: one.get("value") for one in pod.get("inputs", {}).get("parameters", [])}
    seconds = json.loads(inputs.get("pod-spec-patch") or "{}").get("activeDeadlineSeconds")
    return pod | {"limit": f" of {seconds} s" if seconds else ""}


def _one_line(text: str) -> str:
    return redact(" ".join(text.split()))[:1000].rstrip(". ")
