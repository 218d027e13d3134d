"""`doctor --in-cluster`: runs the checks in two pods, placed like those of `ingest` and `finetune_all`.

Takes a server, images, resources and parameters; returns the pods' findings. Kubeflow's API does not give a task's
output, so the findings are read from the pods' logs: from Kubernetes if the kubeconfig allows it, otherwise through
Kubeflow's own log addresses.
"""

import contextlib
import io
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from urllib.parse import quote, urlencode

from kfp import dsl
from kfp.compiler import Compiler
from kfp_server_api import ApiException
from kubernetes.client import ApiException as KubernetesError
from kubernetes.client import CoreV1Api
from kubernetes.config import ConfigException
from kubernetes.utils.quantity import parse_quantity
from urllib3.exceptions import HTTPError

from twofold.core.drafts import scratch_folder
from twofold.core.errors import ServerError
from twofold.core.progress import say
from twofold.kubeflow.definition.compiler import import_project_module
from twofold.kubeflow.definition.images import Images
from twofold.kubeflow.definition.placement import place
from twofold.kubeflow.definition.resources import Resources, Retries, Task
from twofold.kubeflow.preflight.cluster_checks import TIMEOUT, ClusterLocation
from twofold.kubeflow.server.kfp_client import Client
from twofold.kubeflow.server.run_watcher import END_STATES, retry_until_answered
from twofold.orchestration.preflight_findings import Finding, failure, from_log, ok

NAME = "twofold-doctor"
TASKS: tuple[Task, ...] = ("ingest", "finetune_all")
POLL_INTERVAL = 5.0  # seconds
# A pod's name is workflow-template-number. These are Argo's templates in Kubeflow's workflows.
TEMPLATES = ("system-container-impl", "metadata-0-{labels}-system-container-impl")


class ClusterRunRequest(NamedTuple):
    """What the pods check."""

    images: Images
    resources: Resources
    source: str
    bucket: str
    experiment: str
    backbone: str
    weights: str


def run_in_cluster(
    client: Client, cluster: ClusterLocation, request: ClusterRunRequest, timeout: float
) -> list[Finding]:
    """Start the run, wait for it, and read its pods' findings.

    Args:
        cluster: where the pods' logs may be read.
        timeout: seconds after which the run is stopped.
    """
    run_id = _start(client, cluster.namespace, request)
    link = f"{client.link}/#/runs/details/{run_id}"
    say(f"{NAME}: {link}")
    begin = time.monotonic()
    run = _wait(client, run_id, link, begin + timeout)
    spent = time.monotonic() - begin
    ended = run.state in END_STATES
    state = str(run.state) if ended else f"still {run.state or 'PENDING'} after {timeout:.0f} s: stopped"
    findings, reasons = _read_findings(client, cluster, run, len(request.resources.labels))
    missing = [task for task in TASKS if not any(each.check.startswith(f"{task}: ") for each in findings)]
    check, text = "run in the cluster", f"{state} in {spent:.0f} s, {link}"
    if run.state != "SUCCEEDED":
        remedy = "see the pods' events (Kubeflow UI, `kubectl describe pod`); often a node, image or claim is missing"
        return [*findings, failure(check, text, remedy)]
    if missing:
        text += f"; found no findings of {', '.join(missing)} ({'; '.join(reasons)})"
        return [*findings, failure(check, text, "open the link: each task's Markdown page shows its findings")]
    return [*findings, ok(check, text)]


def pipeline(request: ClusterRunRequest) -> Callable[..., Any]:
    """Build the two tasks, each with its step's image and placement, no retries and a limit of ten minutes."""
    component = import_project_module("components.doctor").doctor
    resources = _without_retries(request.resources)

    @dsl.pipeline(name=NAME, description="What the steps would find in their pods")  # type: ignore[untyped-decorator]
    def checks() -> None:
        for name in TASKS:
            step = resources.steps[name]
            task = component(
                promise={
                    "task": name,
                    "gpus": step.gpu.count if step.gpu else 0,
                    "shm": int(parse_quantity(step.shm)) if step.shm else 0,
                    "checkpoints": bool(resources.volumes),
                    "source": request.source,
                    "bucket": request.bucket,
                    "experiment": request.experiment,
                    "backbone": request.backbone,
                    "weights": request.weights,
                }
            )
            task.set_display_name(f"{name}-pod").set_caching_options(False)
            task.set_container_image(request.images.data if name == "ingest" else request.images.train)
            place(task, name, resources)

    return checks  # type: ignore[no-any-return]


def _without_retries(resources: Resources) -> Resources:
    changes = {"retries": Retries(count=0, backoff="1s", factor=1), "timeout": "10m"}
    steps = {name: step.model_copy(update=changes) for name, step in resources.steps.items()}
    # finetune_all's pod also checks the secrets of register and the other tasks on its image.
    secrets = {
        name: secret.model_copy(update={"tasks": sorted({*secret.tasks, "finetune_all"})})
        for name, secret in resources.secrets.items()
        if name != "webhook"
    }
    return resources.model_copy(update={"steps": steps, "secrets": secrets})


def _start(client: Client, namespace: str, request: ClusterRunRequest) -> str:
    # kfp prints links of its own.
    with scratch_folder() as folder, contextlib.redirect_stdout(io.StringIO()):
        path = folder / "doctor.yaml"
        Compiler().compile(pipeline(request), str(path))
        run = client.create_run_from_pipeline_package(
            str(path),
            run_name=f"{NAME} {time.strftime('%Y-%m-%d %H:%M:%S')}",
            experiment_name=NAME,
            namespace=namespace if client.multi_user else None,
            enable_caching=False,
        )
    return str(run.run_id)


def _wait(client: Client, run_id: str, link: str, deadline: float) -> Any:
    last = ""
    while True:
        run = retry_until_answered(lambda: client.get_run(run_id), link)
        state = run.state or "PENDING"
        if state != last:
            last = state
            say(f"{NAME}: {state}")
        if state in END_STATES:
            return run
        if time.monotonic() > deadline:
            # A pod without a suitable node would wait forever and keep the claims.
            client.terminate_run(run_id)
            return run
        time.sleep(POLL_INTERVAL)


def _read_findings(client: Client, cluster: ClusterLocation, run: Any, labels: int) -> tuple[list[Finding], list[str]]:
    """The findings from the first source of logs that has any, and why the sources before it had none."""
    sources = {
        "Kubernetes": _logs_from_kubernetes(cluster, run.run_id),
        "Kubeflow": _logs_from_kubeflow(client, cluster, run, labels),
    }
    reasons: list[str] = []
    for name, logs in sources.items():
        findings: list[Finding] = []
        try:
            for text in logs:
                findings += [each for each in from_log(text) if each not in findings]
            reason = "no log of these pods"
        except (ConfigException, KubernetesError, ServerError, HTTPError, OSError) as error:
            reason = client.without_secrets(str(getattr(error, "reason", None) or error).splitlines()[0])
        if findings:
            return findings, reasons
        reasons.append(f"{name}: {reason}")
    return [], reasons


def _logs_from_kubernetes(cluster: ClusterLocation, run_id: str) -> Iterator[str]:
    api = CoreV1Api(cluster.connect())
    selector = f"pipeline/runid={run_id}"
    pods = api.list_namespaced_pod(cluster.namespace, label_selector=selector, _request_timeout=TIMEOUT)
    for pod in pods.items:
        try:
            yield api.read_namespaced_pod_log(
                pod.metadata.name, cluster.namespace, container="main", _request_timeout=TIMEOUT
            )
        except KubernetesError as error:
            if error.status not in (400, 404):  # the pod has not started, or is gone
                raise


def _logs_from_kubeflow(client: Client, cluster: ClusterLocation, run: Any, labels: int) -> Iterator[str]:
    """Try the log addresses of both the API server and the UI's server: `--host` may be either."""
    for pod in _pod_names(run, labels):
        yield _get_text(client, f"/apis/v1alpha1/runs/{run.run_id}/nodes/{quote(pod)}/log")
        query = urlencode({"podname": pod, "podnamespace": cluster.namespace, "runid": run.run_id})
        yield _get_text(client, f"/k8s/pod/logs?{query}")


def _get_text(client: Client, path: str) -> str:
    """Get a path for which kfp has no call, with the client's credentials; return "" if the server refuses."""
    api = client._healthz_api.api_client
    headers = dict(api.default_headers) | ({"Cookie": api.cookie} if api.cookie else {})
    api.update_params_for_auth(headers, [], ["Bearer"])
    try:
        answer = api.rest_client.GET(api.configuration.host + path, headers=headers, _request_timeout=TIMEOUT)
    except ApiException:
        return ""
    return answer.data.decode("utf-8", "replace") if isinstance(answer.data, bytes) else str(answer.data)


def _pod_names(run: Any, labels: int) -> Iterator[str]:
    details = run.run_details.task_details if run.run_details else None
    for task in details or []:
        for node in [task.pod_name, *(child.pod_name for child in task.child_tasks or [])]:
            if node:
                workflow, _, number = node.rpartition("-")
                yield from (f"{workflow}-{template.format(labels=labels)}-{number}" for template in TEMPLATES)
                yield node
