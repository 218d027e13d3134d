"""Objects of a cluster on which the pipeline can run, as its API writes them."""

import base64
import json
from typing import Any

from tests.support.kube_server.server import Kube
from twofold.kubeflow.definition.resources import Resources

NAMESPACE = "runs"


def node(name: str, *, gpus: int = 0, taints: tuple[str, ...] = (), **labels: str) -> dict[str, Any]:
    """A node with 16 cores and 64 GiB; a taint is written `key=value:Effect`."""
    amounts = {"cpu": "15890m", "memory": "63920Mi", "pods": "110"}
    if gpus:
        amounts["nvidia.com/gpu"] = str(gpus)
    spec: dict[str, Any] = {}
    for taint in taints:
        pair, _, effect = taint.partition(":")
        key, _, value = pair.partition("=")
        spec.setdefault("taints", []).append({"key": key, "effect": effect} | ({"value": value} if value else {}))
    ready = {"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:00Z"}
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name} | labels},
        "spec": spec,
        "status": {"allocatable": amounts, "capacity": amounts, "conditions": [ready]},
    }


def namespace(name: str, level: str = "restricted") -> dict[str, Any]:
    labels = {"pod-security.kubernetes.io/enforce": level} if level else {}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def secret(name: str, type_: str = "Opaque", **values: str) -> dict[str, Any]:
    data = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
    meta = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": "v1", "kind": "Secret", "type": type_, "metadata": meta, "data": data}


def pull_secret(name: str, *registries: str) -> dict[str, Any]:
    logins = {host: {"username": "puller", "password": "p4ss-of-the-registry"} for host in registries}
    return secret(name, "kubernetes.io/dockerconfigjson", **{".dockerconfigjson": json.dumps({"auths": logins})})


def claim(name: str, phase: str = "Bound") -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "50Gi"}}},
        "status": {"phase": phase} | ({"capacity": {"storage": "50Gi"}} if phase == "Bound" else {}),
    }


def pod(name: str, **labels: str) -> dict[str, Any]:
    container = {"name": "main", "image": "registry.example/twofold-train:1"}
    meta = {"name": name, "namespace": NAMESPACE, "labels": {key.replace("__", "/"): v for key, v in labels.items()}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": {"containers": [container]}}


def whole(kube: Kube, resources: Resources) -> None:
    """Fill a cluster with everything that the pipeline needs."""
    kube.add(namespace(NAMESPACE))
    kube.add(node("cpu-1"))
    kube.add(node("gpu-1", gpus=2, taints=("nvidia.com/gpu=present:NoSchedule",)))
    for wanted in resources.secrets.values():
        kube.add(secret(wanted.name, **{key: f"s3cret-{key}" for key in wanted.keys}))
    for name in resources.image_pull_secrets:
        kube.add(pull_secret(name, "registry.example"))
    for volume in resources.volumes:
        kube.add(claim(volume.claim))
