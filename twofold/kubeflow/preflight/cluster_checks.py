"""What the Kubernetes API can say before a run: namespace, nodes, secrets, claims.

In: the kubeconfig's context, the namespace of the runs, `resources.yaml`, the images. Out: findings. Only names, labels
and the names of a secret's keys are ever looked at; what the API refuses to show is "not checked from here".
"""

import base64
import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kubernetes import config
from kubernetes.client import ApiClient, ApiException, CoreV1Api
from kubernetes.config import ConfigException
from urllib3.exceptions import HTTPError
from yaml import YAMLError

from twofold.kubeflow.definition.images import Images
from twofold.kubeflow.definition.resources import Resources, Secret, Volume
from twofold.kubeflow.preflight.node_checks import node_for
from twofold.orchestration.preflight_findings import Finding, failure, not_checked, ok, warning

PATIENCE = 10  # seconds for an answer
LEVEL = "pod-security.kubernetes.io/enforce"
ASK = "ask who runs the cluster, or use --in-cluster"


class ClusterLocation(NamedTuple):
    """Which part of which cluster.

    Attributes:
        namespace: of the runs.
        kubeconfig: None looks where kubectl does.
        context: of the kubeconfig; None takes its current one.
    """

    namespace: str
    kubeconfig: Path | None = None
    context: str | None = None

    def connect(self) -> ApiClient:
        """The API's client.

        Raises:
            ConfigException: there is no kubeconfig, it is none, or it has no such context.
        """
        name = str(self.kubeconfig) if self.kubeconfig else None
        try:
            client = config.new_client_from_config(config_file=name, context=self.context)
        except (YAMLError, TypeError, ValueError, KeyError, AttributeError, OSError) as error:
            # Not the error's own words: they may quote the line that holds the token.
            raise ConfigException(f"{name or 'the one found'} cannot be read ({type(error).__name__})") from None
        # urllib3 would try three times: a cluster that cannot be reached shall not cost minutes.
        client.configuration.retries = False
        return ApiClient(client.configuration)


def cluster_findings(place: ClusterLocation, resources: Resources | None, images: Images | None) -> list[Finding]:
    """Everything that the Kubernetes API shows; one line where there is no such API from here.

    Args:
        resources: None where the pipeline asks for nothing (`--cpu`).
        images: None where their names are not valid.
    """
    try:
        client = place.connect()
    except ConfigException as error:
        why = f"no kubeconfig: {error}".splitlines()[0]
        return [not_checked("cluster", why, "name one: --kubeconfig, --context; or use --in-cluster")]
    cluster = _Cluster(CoreV1Api(client), place.namespace)
    checks: list[Callable[[], Iterator[Finding]]] = [lambda: cluster.namespace_is_there(resources)]
    if resources:
        checks.append(lambda: cluster.nodes(resources))
        checks += [lambda secret=secret: cluster.secret(secret) for secret in resources.secrets.values()]  # type: ignore[misc]
        checks += [lambda volume=volume: cluster.claim(volume) for volume in resources.volumes]  # type: ignore[misc]
        checks.append(lambda: cluster.pull_secrets(resources.image_pull_secrets, images))
    findings: list[Finding] = []
    for check in checks:
        try:
            findings += check()
        except (HTTPError, OSError) as error:
            host = client.configuration.host
            why = f"the Kubernetes API at {host} is out of reach: {type(error).__name__}"
            return [
                *findings,
                not_checked("cluster", why, "set --context, connect to its network, or use --in-cluster"),
            ]
        if cluster.gone:
            break
    return findings


class _Cluster:
    """One namespace of a cluster, through the API."""

    def __init__(self, api: CoreV1Api, namespace: str) -> None:
        self.api = api
        self.namespace = namespace
        self.gone = False  # the namespace is not there: nothing in it needs to be looked for

    def _read(self, check: str, call: Callable[..., Any], *words: str) -> Any:
        """The answer; None where there is none; a finding where the API does not tell."""
        try:
            return call(*words, _request_timeout=PATIENCE)
        except ApiException as error:
            if error.status == 404:
                return None
            whys = {
                0: f"no secure connection: {error.reason}",
                401: "the kubeconfig's credentials are refused",
                403: "your user may not read it",
            }
            why = f"{whys.get(error.status, f'the Kubernetes API answers {error.status}')} (HTTP {error.status})"
            return not_checked(check, why, "log in again" if error.status == 401 else ASK)

    def namespace_is_there(self, resources: Resources | None) -> Iterator[Finding]:
        check = f"namespace {self.namespace}"
        found = self._read(check, self.api.read_namespace, self.namespace)
        if isinstance(found, Finding):
            yield found
            return
        if found is None:
            self.gone = True
            yield failure(check, "not there", "name the namespace of the runs: --namespace")
            return
        yield ok(check, "there")
        level = (found.metadata.labels or {}).get(LEVEL, "")
        check = "pod security"
        if level == "restricted" and resources is None:
            seen = "the namespace enforces `restricted`, which pods compiled with --cpu do not fulfil"
            yield failure(check, seen, "leave out --cpu; give a --resources without GPUs instead")
        elif level == "restricted":
            yield ok(check, "the namespace enforces `restricted`, which the pods fulfil")
        else:
            remedy = f"kubectl label namespace {self.namespace} {LEVEL}=restricted (first with --dry-run=server)"
            yield warning(check, f"the namespace enforces {f'`{level}`' if level else 'nothing'}", remedy)

    def nodes(self, resources: Resources) -> Iterator[Finding]:
        found = self._read("nodes", self.api.list_node)
        if isinstance(found, Finding) or found is None:
            yield found or not_checked("nodes", "the API has none to list (HTTP 404)", ASK)
            return
        for task, step in resources.steps.items():
            yield node_for(task, step, found.items)

    def secret(self, wanted: Secret) -> Iterator[Finding]:
        check = f"secret {wanted.name}"
        found = self._read(check, self.api.read_namespaced_secret, wanted.name, self.namespace)
        keys = ", ".join(wanted.keys)
        make = f"make it in namespace {self.namespace} with the keys {keys} (deploy/secrets.example.yaml)"
        if isinstance(found, Finding):
            yield found
        elif found is None and wanted.optional:
            yield warning(check, f"not there; {', '.join(wanted.tasks)} runs without it", make)
        elif found is None:
            yield failure(check, "not there", make)
        else:
            data = found.data or {}
            missing = [key for key in wanted.keys if key not in data]
            empty = [key for key in wanted.keys if key in data and not data[key]]
            if missing:
                has = ", ".join(sorted(data)) or "no key"
                yield failure(check, f"without {', '.join(missing)}; it has {has}", make)
            elif empty:
                yield warning(check, f"there; empty: {', '.join(empty)}", "give a value, unless none is meant")
            else:
                yield ok(check, f"there, with {keys}")

    def claim(self, wanted: Volume) -> Iterator[Finding]:
        check = f"claim {wanted.claim}"
        found = self._read(check, self.api.read_namespaced_persistent_volume_claim, wanted.claim, self.namespace)
        if isinstance(found, Finding):
            yield found
        elif found is None:
            remedy = f"make it in namespace {self.namespace} (deploy/runs/claims.yaml)"
            yield failure(check, f"not there; {', '.join(wanted.tasks)} would wait for it for ever", remedy)
        elif found.status.phase == "Bound":
            size = (found.status.capacity or {}).get("storage", "?")
            yield ok(check, f"bound, {size}, {', '.join(found.spec.access_modes or [])}")
        elif found.status.phase == "Pending":
            remedy = "see `kubectl describe pvc`: right if its storage class waits for the first pod"
            yield warning(check, "there, not bound yet", remedy)
        else:
            yield failure(check, f"{found.status.phase}", "its volume is gone: make the claim anew")

    def pull_secrets(self, names: Sequence[str], images: Images | None) -> Iterator[Finding]:
        needed = sorted({registry(name) for name in images or ()})
        held: set[str] = set()
        for name in names:
            check = f"image pull secret {name}"
            found = self._read(check, self.api.read_namespaced_secret, name, self.namespace)
            if isinstance(found, Finding):
                yield found
                return
            if found is None:
                remedy = f"kubectl create secret docker-registry {name} --namespace {self.namespace} …"
                yield failure(check, "not there", remedy)
                return
            own = registries((found.data or {}).get(".dockerconfigjson", ""))
            if not own:
                yield failure(check, f"of type {found.type}, without a registry", "make it with docker-registry")
                return
            held |= own
            yield ok(check, f"there, for {', '.join(sorted(own))}")
        if names and images and not set(needed) <= held:
            lacking = ", ".join(sorted(set(needed) - held))
            yield warning("image pull secrets", f"none for {lacking}", "right only if its images are public")
        yield not_checked(
            "image pull", f"whether the nodes get the images from {', '.join(needed) or '?'}", "--in-cluster"
        )


def registry(image: str) -> str:
    """The host of an image's name; Docker Hub where there is none."""
    host, slash, _ = image.partition("/")
    return host if slash and ("." in host or ":" in host or host == "localhost") else "docker.io"


def registries(encoded: str) -> set[str]:
    """The hosts that a `.dockerconfigjson` has logins for; the logins are not looked at."""
    try:
        hosts = json.loads(base64.b64decode(encoded))["auths"]
    except (ValueError, KeyError, TypeError):
        return set()
    plain = {str(host).removeprefix("https://").removeprefix("http://").split("/")[0] for host in hosts}
    return {"docker.io" if host in ("index.docker.io", "registry-1.docker.io") else host for host in plain}
