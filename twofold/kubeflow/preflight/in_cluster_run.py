"""`doctor --in-cluster`: the checks as a short run, in two pods placed as `ingest` and `finetune_all` are.

In: a server, images, resources, sections. Out: the findings of the pods. Kubeflow's API gives no task's output; it is
their log that is read, from Kubernetes where the kubeconfig reaches it, else through Kubeflow's own addresses.
"""

import contextlib
import io
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
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

from twofold.core.errors import ServerError
from twofold.core.progress import say
from twofold.kubeflow.definition.compiler import project_module
from twofold.kubeflow.definition.images import Images
from twofold.kubeflow.definition.placement import place
from twofold.kubeflow.definition.resources import Resources, Retries, Task
from twofold.kubeflow.preflight.cluster_checks import PATIENCE, ClusterLocation
from twofold.kubeflow.server.kfp_client import Client
from twofold.kubeflow.server.run_watcher import retry_until_answered
from twofold.orchestration.preflight_findings import Finding, failure, from_log, ok

NAME = "twofold-doctor"
TASKS: tuple[Task, ...] = ("ingest", "finetune_all")
ENDED = ("SUCCEEDED", "SKIPPED", "FAILED", "CANCELED")
EVERY = 5.0  # seconds between two looks at the run
# The names that Argo's templates have in Kubeflow's workflows are part of a pod's name: workflow-template-number.
TEMPLATES = ("system-container-impl", "metadata-0-{labels}-system-container-impl")


class ClusterRunRequest(NamedTuple):
    """What the pods are told to look at."""

    images: Images
    resources: Resources | None  # None: `--cpu`
    source: str
    bucket: str
    backbone: str
    weights: str


def run_in_cluster(
    client: Client, cluster: ClusterLocation, asked: ClusterRunRequest, patience: float
) -> list[Finding]:
    """Start the run, wait for it, and read its pods' findings.

    Args:
        cluster: where the pods' logs may be read.
        patience: seconds, after which the run is stopped.
    """
    run_id = _start(client, cluster.namespace, asked)
    link = f"{client.link}/#/runs/details/{run_id}"
    say(f"{NAME}: {link}")
    begin = time.monotonic()
    run = _wait(client, run_id, link, begin + patience)
    spent = time.monotonic() - begin
    state = str(run.state) if run.state in ENDED else f"still {run.state or 'PENDING'} after {patience:.0f} s: stopped"
    labels = len(asked.resources.labels) if asked.resources else 0
    found, whys = _findings(client, cluster, run, labels)
    lost = [task for task in TASKS if not any(each.check.startswith(f"{task}: ") for each in found)]
    check, seen = "run in the cluster", f"{state} in {spent:.0f} s, {link}"
    if run.state != "SUCCEEDED":
        remedy = (
            "see the pods' events in Kubeflow's page or with `kubectl describe pod`: no node, image or claim, mostly"
        )
        return [*found, failure(check, seen, remedy)]
    if lost:
        seen = f"{seen}; nothing to be read of {', '.join(lost)} ({'; '.join(whys)})"
        return [*found, failure(check, seen, "open the link: each task's page (Markdown) has its lines")]
    return [*found, ok(check, seen)]


def pipeline(asked: ClusterRunRequest) -> Callable[..., Any]:
    """The two tasks, each with its step's image and place, tried once and for ten minutes at most."""
    component = project_module("components.doctor").doctor
    resources = _once(asked.resources) if asked.resources else None

    @dsl.pipeline(name=NAME, description="What the steps would find in their pods")  # type: ignore[untyped-decorator]
    def checks() -> None:
        for name in TASKS:
            step = asked.resources.steps[name] if asked.resources else None
            task = component(
                promise={
                    "task": name,
                    "gpus": step.gpu.count if step and step.gpu else 0,
                    "shm": int(parse_quantity(step.shm)) if step and step.shm else 0,
                    "checkpoints": resources is not None,
                    "source": asked.source,
                    "bucket": asked.bucket,
                    "backbone": asked.backbone,
                    "weights": asked.weights,
                }
            )
            task.set_display_name(f"{name}-pod").set_caching_options(False)
            task.set_container_image(asked.images.data if name == "ingest" else asked.images.train)
            if resources is not None:
                place(task, name, resources)

    return checks  # type: ignore[no-any-return]


def _once(resources: Resources) -> Resources:
    once = {"retries": Retries(count=0, backoff="1s", factor=1), "timeout": "10m"}
    steps = {name: step.model_copy(update=once) for name, step in resources.steps.items()}
    # What finetune_all has no use for, register and the others on its image have.
    secrets = {
        name: secret.model_copy(update={"tasks": sorted({*secret.tasks, "finetune_all"})})
        for name, secret in resources.secrets.items()
        if name != "webhook"
    }
    return resources.model_copy(update={"steps": steps, "secrets": secrets})


def _start(client: Client, namespace: str, asked: ClusterRunRequest) -> str:
    with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(io.StringIO()):
        # kfp prints links of its own meanwhile.
        path = Path(scratch) / "doctor.yaml"
        Compiler().compile(pipeline(asked), str(path))
        started = client.create_run_from_pipeline_package(
            str(path),
            run_name=f"{NAME} {time.strftime('%Y-%m-%d %H:%M:%S')}",
            experiment_name=NAME,
            namespace=namespace if client.multi_user else None,
            enable_caching=False,
        )
    return str(started.run_id)


def _wait(client: Client, run_id: str, link: str, until: float) -> Any:
    last = ""
    while True:
        run = retry_until_answered(lambda: client.get_run(run_id), link)
        if (run.state or "PENDING") != last:
            last = run.state or "PENDING"
            say(f"{NAME}: {last}")
        if run.state in ENDED:
            return run
        if time.monotonic() > until:
            # A pod that finds no node would wait for one for ever, and keep the claims.
            client.terminate_run(run_id)
            return run
        time.sleep(EVERY)


def _findings(client: Client, cluster: ClusterLocation, run: Any, labels: int) -> tuple[list[Finding], list[str]]:
    """What the pods' logs hold, by the first way that gives any; and why the ways before it gave none."""
    ways: dict[str, Callable[[], Iterator[str]]] = {
        "Kubernetes": lambda: _from_kubernetes(cluster, run.run_id),
        "Kubeflow": lambda: _from_kubeflow(client, cluster, run, labels),
    }
    whys: list[str] = []
    for name, texts in ways.items():
        found: list[Finding] = []
        try:
            for text in texts():
                found += [each for each in from_log(text) if each not in found]
            why = "no log of these pods"
        except (ConfigException, KubernetesError, ServerError, HTTPError, OSError) as error:
            why = client.redacted(str(getattr(error, "reason", None) or error).splitlines()[0])
        if found:
            return found, whys
        whys.append(f"{name}: {why}")
    return [], whys


def _from_kubernetes(cluster: ClusterLocation, run_id: str) -> Iterator[str]:
    api = CoreV1Api(cluster.connect())
    selector = f"pipeline/runid={run_id}"
    pods = api.list_namespaced_pod(cluster.namespace, label_selector=selector, _request_timeout=PATIENCE)
    for pod in pods.items:
        try:
            yield api.read_namespaced_pod_log(
                pod.metadata.name, cluster.namespace, container="main", _request_timeout=PATIENCE
            )
        except KubernetesError as error:
            if error.status not in (400, 404):  # a pod that has not begun, or is gone
                raise


def _from_kubeflow(client: Client, cluster: ClusterLocation, run: Any, labels: int) -> Iterator[str]:
    """Through the API server's address for logs, and that of the UI's server, whichever --host is."""
    for pod in _pod_names(run, labels):
        yield _text(client, f"/apis/v1alpha1/runs/{run.run_id}/nodes/{quote(pod)}/log")
        query = urlencode({"podname": pod, "podnamespace": cluster.namespace, "runid": run.run_id})
        yield _text(client, f"/k8s/pod/logs?{query}")


def _text(client: Client, path: str) -> str:
    """An address of the server that kfp has no call for, with the same credentials; nothing where it has no answer."""
    api = client._healthz_api.api_client
    headers = dict(api.default_headers) | ({"Cookie": api.cookie} if api.cookie else {})
    api.update_params_for_auth(headers, [], ["Bearer"])
    try:
        answer = api.rest_client.GET(api.configuration.host + path, headers=headers, _request_timeout=PATIENCE)
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
