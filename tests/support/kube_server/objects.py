"""Kubernetes objects as the API writes them, and a cluster with everything that the pipeline needs."""

import base64
import json
from typing import Any

from tests.support.kube_server.server import CLUSTER_SCOPED, Kube
from twofold.kubeflow.definition.resources import Resources

NAMESPACE = "runs"


def create(kind: str, name: str, labels: dict[str, str] | None = None, **fields: Any) -> dict[str, Any]:
    meta = {"name": name} | ({} if kind in CLUSTER_SCOPED else {"namespace": NAMESPACE})
    return {"apiVersion": "v1", "kind": kind, "metadata": meta | ({"labels": labels} if labels else {}), **fields}


def node(name: str, *, gpus: int = 0, taints: tuple[str, ...] = (), **labels: str) -> dict[str, Any]:
    """A node with 16 cores and 64 GiB; a taint is written `key=value:Effect`."""
    amounts = {"cpu": "15890m", "memory": "63920Mi", "pods": "110"} | ({"nvidia.com/gpu": str(gpus)} if gpus else {})
    spec: dict[str, Any] = {}
    for taint in taints:
        pair, _, effect = taint.partition(":")
        key, _, value = pair.partition("=")
        spec.setdefault("taints", []).append({"key": key, "effect": effect} | ({"value": value} if value else {}))
    ready = {"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:00Z"}
    status = {"allocatable": amounts, "capacity": amounts, "conditions": [ready]}
    return create("Node", name, {"kubernetes.io/hostname": name} | labels, spec=spec, status=status)


def namespace(name: str, level: str = "restricted") -> dict[str, Any]:
    return create("Namespace", name, {"pod-security.kubernetes.io/enforce": level} if level else None)


def secret(name: str, type_: str = "Opaque", **values: str) -> dict[str, Any]:
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    return create("Secret", name, type=type_, data=data)


def pull_secret(name: str, *registries: str) -> dict[str, Any]:
    logins = {host: {"username": "puller", "password": "p4ss-of-the-registry"} for host in registries}
    return secret(name, "kubernetes.io/dockerconfigjson", **{".dockerconfigjson": json.dumps({"auths": logins})})


def claim(name: str, phase: str = "Bound") -> dict[str, Any]:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "50Gi"}}}
    status = {"phase": phase} | ({"capacity": {"storage": "50Gi"}} if phase == "Bound" else {})
    return create("PersistentVolumeClaim", name, spec=spec, status=status)


def controller_settings(policy: str | None) -> dict[str, Any]:
    """Argo's settings as KFP 2.17 writes them; without a policy, none is set for templates."""
    defaults = f"spec:\n  templateDefaults:\n    retryStrategy: {{limit: '2', retryPolicy: {policy}}}\n"
    data = {"executor": "imagePullPolicy: IfNotPresent\n"} | ({"workflowDefaults": defaults} if policy else {})
    made = create("ConfigMap", "workflow-controller-configmap", data=data)
    return made | {"metadata": made["metadata"] | {"namespace": "kubeflow"}}


def pod(name: str, **labels: str) -> dict[str, Any]:
    """A pod; `__` in a label's name stands for `/`."""
    container = {"name": "main", "image": "registry.example/twofold-train:1"}
    labels = {key.replace("__", "/"): value for key, value in labels.items()}
    return create("Pod", name, labels, spec={"containers": [container]})


def fill(kube: Kube, resources: Resources) -> None:
    """Put everything that the pipeline needs into a cluster."""
    kube.add(namespace(NAMESPACE))
    kube.add(controller_settings("OnError"))
    kube.add(node("cpu-1"))
    kube.add(node("gpu-1", gpus=2, taints=("nvidia.com/gpu=present:NoSchedule",)))
    for each in resources.secrets.values():
        kube.add(secret(each.name, **{key: f"s3cret-{key}" for key in each.keys}))
    for name in resources.image_pull_secrets:
        kube.add(pull_secret(name, "registry.example"))
    for volume in resources.volumes:
        kube.add(claim(volume.claim))
