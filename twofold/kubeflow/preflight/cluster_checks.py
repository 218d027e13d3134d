"""Checks a cluster through the Kubernetes API before a run: namespace, nodes, secrets, volume claims.

Takes a kubeconfig, the namespace of the runs, the resources and the images; returns findings. Reads names, labels and
the key names of secrets, never a secret's value. What the API refuses to show is "not checked from here".
"""

import base64
import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from kubernetes import config
from kubernetes.client import ApiClient, ApiException, CoreV1Api
from kubernetes.config import ConfigException
from urllib3.exceptions import HTTPError
from yaml import YAMLError, safe_load

from twofold.kubeflow.definition.images import Images
from twofold.kubeflow.definition.resources import Resources, Secret, Volume
from twofold.kubeflow.preflight.node_checks import check_nodes
from twofold.orchestration.preflight_findings import Finding, failure, not_checked, ok, warning

TIMEOUT = 10  # seconds for an answer
LEVEL = "pod-security.kubernetes.io/enforce"
ASK_ADMIN = "ask the cluster's administrator, or use --in-cluster"
CONTROLLER = ("workflow-controller-configmap", "kubeflow")  # Argo's settings, and KFP's own namespace


class ClusterLocation(NamedTuple):
    """The namespace of the runs, and how to reach its cluster."""

    namespace: str
    kubeconfig: Path | None = None  # None searches where kubectl does
    context: str | None = None  # of the kubeconfig; None takes its current one

    def connect(self) -> ApiClient:
        """Create a client of the Kubernetes API.

        Raises:
            ConfigException: there is no kubeconfig, it is invalid, or it has no such context.
        """
        name = str(self.kubeconfig) if self.kubeconfig else None
        try:
            client = config.new_client_from_config(config_file=name, context=self.context)
        except (YAMLError, TypeError, ValueError, KeyError, AttributeError, OSError) as error:
            # Without the error's own text, which may quote the line that holds the token.
            raise ConfigException(f"{name or 'the default file'} cannot be read ({type(error).__name__})") from None
        # By default urllib3 tries three times, which takes minutes if the cluster is unreachable.
        client.configuration.retries = False
        return ApiClient(client.configuration)


def cluster_findings(place: ClusterLocation, resources: Resources, images: Images | None) -> list[Finding]:
    """Check everything that the Kubernetes API shows; one finding if the API cannot be used from here.

    Args:
        images: None if their names are invalid.
    """
    try:
        client = place.connect()
    except ConfigException as error:
        reason = f"no kubeconfig: {error}".splitlines()[0]
        return [not_checked("cluster", reason, "name one with --kubeconfig and --context, or use --in-cluster")]
    cluster = _Cluster(CoreV1Api(client), place.namespace)
    checks: list[Callable[[], Iterator[Finding]]] = [cluster.check_namespace, cluster.check_retries]
    checks.append(partial(cluster.check_nodes, resources))
    checks += [partial(cluster.check_secret, secret) for secret in resources.secrets.values()]
    checks += [partial(cluster.check_claim, volume) for volume in resources.volumes]
    checks.append(partial(cluster.check_pull_secrets, resources.image_pull_secrets, images))
    findings: list[Finding] = []
    for check in checks:
        try:
            for finding in check():
                findings.append(finding)  # one by one, to keep those before an exception
        except _UnreadableError as error:
            findings.append(error.finding)
        except (HTTPError, OSError) as error:
            reason = f"the Kubernetes API at {client.configuration.host} is unreachable: {type(error).__name__}"
            remedy = "set --context, connect to its network, or use --in-cluster"
            return [*findings, not_checked("cluster", reason, remedy)]
        if cluster.namespace_missing:
            break
    return findings


class _UnreadableError(Exception):
    """The API does not show an object; a check ends with this finding."""

    def __init__(self, finding: Finding) -> None:
        self.finding = finding


class _Cluster:
    """The checks of one namespace of a cluster."""

    def __init__(self, api: CoreV1Api, namespace: str) -> None:
        self.api = api
        self.namespace = namespace
        self.namespace_missing = False  # if so, checking what is in it is pointless

    def _read(self, check: str, call: Callable[..., Any], *names: str) -> Any:
        """Return the object, or None if it does not exist."""
        try:
            return call(*names, _request_timeout=TIMEOUT)
        except ApiException as error:
            if error.status == 404:
                return None
            reasons = {
                0: f"no secure connection: {error.reason}",
                401: "the kubeconfig's credentials are refused",
                403: "your user may not read it",
            }
            reason = reasons.get(error.status, f"the Kubernetes API answers {error.status}")
            remedy = "log in again" if error.status == 401 else ASK_ADMIN
            raise _UnreadableError(not_checked(check, f"{reason} (HTTP {error.status})", remedy)) from None

    def check_namespace(self) -> Iterator[Finding]:
        check = f"namespace {self.namespace}"
        found = self._read(check, self.api.read_namespace, self.namespace)
        if found is None:
            self.namespace_missing = True
            yield failure(check, "not found", "name the namespace of the runs with --namespace")
            return
        yield ok(check, "found")
        level = (found.metadata.labels or {}).get(LEVEL, "")
        check = "pod security"
        if level != "restricted":
            remedy = f"kubectl label namespace {self.namespace} {LEVEL}=restricted (first with --dry-run=server)"
            yield warning(check, f"the namespace enforces {f'`{level}`' if level else 'nothing'}", remedy)
        else:
            yield ok(check, "the namespace enforces `restricted`, which the pods meet")

    def check_retries(self) -> Iterator[Finding]:
        """Which of the retries in the resources file will happen: Argo's settings decide."""
        check = "retries"
        found = self._read(check, self.api.read_namespaced_config_map, *CONTROLLER)
        if found is None:
            yield not_checked(check, f"no {CONTROLLER[0]} in the namespace {CONTROLLER[1]}", ASK_ADMIN)
            return
        try:
            values = safe_load((found.data or {}).get("workflowDefaults", "")) or {}
            for key in ("spec", "templateDefaults", "retryStrategy"):
                values = values.get(key, {})
            policy = values.get("retryPolicy", "OnFailure")  # Argo's own default
        except (YAMLError, AttributeError):
            policy = "unknown"
        if policy == "OnError":
            yield ok(check, "a lost pod is tried again; a step that fails or exceeds its time limit is not")
            return
        happens = {
            "Always": "failed steps are tried again too, bad data included, and tries multiply over the nested DAGs",
            "OnFailure": "failed steps are tried again, bad data included; a lost pod is not",
        }
        text = f"{CONTROLLER[0]}: retryPolicy is {policy}: {happens.get(policy, 'a lost pod may end the run')}"
        yield warning(check, text, "set OnError in workflowDefaults: spec.templateDefaults.retryStrategy, as KFP does")

    def check_nodes(self, resources: Resources) -> Iterator[Finding]:
        found = self._read("nodes", self.api.list_node)
        if found is None:
            yield not_checked("nodes", "the API cannot list them (HTTP 404)", ASK_ADMIN)
            return
        for task, step in resources.steps.items():
            yield check_nodes(task, step, found.items)

    def check_secret(self, secret: Secret) -> Iterator[Finding]:
        check = f"secret {secret.name}"
        found = self._read(check, self.api.read_namespaced_secret, secret.name, self.namespace)
        keys = ", ".join(secret.keys)
        remedy = f"create it in namespace {self.namespace} with the keys {keys} (deploy/secrets.example.yaml)"
        data = (found and found.data) or {}
        missing = [key for key in secret.keys if key not in data]
        empty = [key for key in secret.keys if key in data and not data[key]]
        if found is None and secret.optional:
            yield warning(check, f"not found; {', '.join(secret.tasks)} runs without it", remedy)
        elif found is None:
            yield failure(check, "not found", remedy)
        elif missing:
            has = ", ".join(sorted(data)) or "no key"
            yield failure(check, f"lacks {', '.join(missing)}; it has {has}", remedy)
        elif empty:
            yield warning(check, f"found; empty: {', '.join(empty)}", "give a value, unless it is empty on purpose")
        else:
            yield ok(check, f"found, with {keys}")

    def check_claim(self, volume: Volume) -> Iterator[Finding]:
        check = f"claim {volume.claim}"
        found = self._read(check, self.api.read_namespaced_persistent_volume_claim, volume.claim, self.namespace)
        if found is None:
            remedy = f"create it in namespace {self.namespace} (deploy/runs/claims.yaml)"
            yield failure(check, f"not found; {', '.join(volume.tasks)} would wait for it forever", remedy)
        elif found.status.phase == "Bound":
            size = (found.status.capacity or {}).get("storage", "?")
            yield ok(check, f"bound, {size}, {', '.join(found.spec.access_modes or [])}")
        elif found.status.phase == "Pending":
            remedy = "see `kubectl describe pvc`; this is normal if its storage class waits for the first pod"
            yield warning(check, "found, not bound yet", remedy)
        else:
            yield failure(check, f"{found.status.phase}", "its volume is lost: create the claim again")

    def check_pull_secrets(self, names: Sequence[str], images: Images | None) -> Iterator[Finding]:
        needed = sorted({registry(name) for name in images or ()})
        available: set[str] = set()
        for name in names:
            check = f"image pull secret {name}"
            found = self._read(check, self.api.read_namespaced_secret, name, self.namespace)
            if found is None:
                remedy = f"kubectl create secret docker-registry {name} --namespace {self.namespace} …"
                yield failure(check, "not found", remedy)
                return
            hosts = registries((found.data or {}).get(".dockerconfigjson", ""))
            if not hosts:
                yield failure(check, f"type {found.type}, without a registry", "create it as docker-registry")
                return
            available |= hosts
            yield ok(check, f"found, for {', '.join(sorted(hosts))}")
        if names and images and not set(needed) <= available:
            lacking = ", ".join(sorted(set(needed) - available))
            yield warning("image pull secrets", f"none for {lacking}", "add one, unless its images are public")
        text = f"whether the nodes can pull the images from {', '.join(needed) or '?'}"
        yield not_checked("image pull", text, "use --in-cluster")


def registry(image: str) -> str:
    """The registry's host in an image's name; Docker Hub if there is none."""
    host, slash, _ = image.partition("/")
    return host if slash and ("." in host or ":" in host or host == "localhost") else "docker.io"


def registries(encoded: str) -> set[str]:
    """The hosts that a `.dockerconfigjson` has logins for; the logins are not read."""
    try:
        hosts = json.loads(base64.b64decode(encoded))["auths"]
    except (ValueError, KeyError, TypeError):
        return set()
    plain = {str(host).removeprefix("https://").removeprefix("http://").split("/")[0] for host in hosts}
    return {"docker.io" if host in ("index.docker.io", "registry-1.docker.io") else host for host in plain}
