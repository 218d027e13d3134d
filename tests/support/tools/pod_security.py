"""The `restricted` Pod Security Standard, after kubernetes.io/docs/concepts/security/pod-security-standards."""

from collections.abc import Iterator, Mapping
from typing import Any

KINDS = ("initContainers", "containers", "ephemeralContainers")
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}
SELINUX = (None, "", "container_t", "container_init_t", "container_kvm_t", "container_engine_t")
SAFE_SYSCTLS = {
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
}
HANDLERS = ("livenessProbe", "readinessProbe", "startupProbe")


def violations(spec: Mapping[str, Any]) -> list[str]:
    """What a namespace that enforces the standard would refuse in a pod's spec: each field, and why."""
    containers = [container for kind in KINDS for container in spec.get(kind, [])]
    return [*_check_pod(spec), *(each for container in containers for each in _check_container(container, spec))]


def _check_pod(spec: Mapping[str, Any]) -> Iterator[str]:
    context = spec.get("securityContext", {})
    for name in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(name):
            yield f"{name}: must not be true"
    for volume in spec.get("volumes", []):
        kind = set(volume) - {"name"}
        if not kind <= VOLUMES:
            yield f"volume {volume['name']}: {', '.join(sorted(kind))} is not allowed"
    for sysctl in context.get("sysctls", []):
        if sysctl["name"] not in SAFE_SYSCTLS:
            yield f"sysctl {sysctl['name']}: not allowed"
    yield from _check_context("pod", context)


def _check_container(container: Mapping[str, Any], spec: Mapping[str, Any]) -> Iterator[str]:
    name, context, pod = container["name"], container.get("securityContext", {}), spec.get("securityContext", {})
    if context.get("privileged"):
        yield f"{name}: privileged"
    if context.get("allowPrivilegeEscalation") is not False:
        yield f"{name}: allowPrivilegeEscalation must be false"
    if context.get("runAsNonRoot", pod.get("runAsNonRoot")) is not True:
        yield f"{name}: runAsNonRoot must be true"
    seccomp = context.get("seccompProfile", pod.get("seccompProfile", {})).get("type")
    if seccomp not in ("RuntimeDefault", "Localhost"):
        yield f"{name}: seccompProfile must be RuntimeDefault or Localhost, is {seccomp}"
    capabilities = context.get("capabilities", {})
    if "ALL" not in capabilities.get("drop", []):
        yield f"{name}: capabilities must drop ALL"
    if added := set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
        yield f"{name}: capabilities {', '.join(sorted(added))} must not be added"
    if context.get("procMount", "Default") != "Default":
        yield f"{name}: procMount must be Default"
    for port in container.get("ports", []):
        if port.get("hostPort"):
            yield f"{name}: hostPort is not allowed"
    lifecycle = container.get("lifecycle", {})
    for handler in [*(container.get(key, {}) for key in HANDLERS), *lifecycle.values()]:
        if any(handler.get(kind, {}).get("host") for kind in ("httpGet", "tcpSocket")):
            yield f"{name}: a probe or hook must not name a host"
    yield from _check_context(name, context)


def _check_context(name: str, context: Mapping[str, Any]) -> Iterator[str]:
    """The rules for both a pod's and a container's security context."""
    if context.get("runAsUser") == 0:
        yield f"{name}: runAsUser must not be 0"
    if context.get("runAsNonRoot") is False:
        yield f"{name}: runAsNonRoot must be true"
    selinux = context.get("seLinuxOptions", {})
    if selinux.get("type") not in SELINUX or selinux.get("user") or selinux.get("role"):
        yield f"{name}: seLinuxOptions must be a container's"
    if context.get("windowsOptions", {}).get("hostProcess"):
        yield f"{name}: hostProcess"
    if context.get("appArmorProfile", {}).get("type", "RuntimeDefault") not in ("RuntimeDefault", "Localhost"):
        yield f"{name}: appArmorProfile must be RuntimeDefault or Localhost"
    if context.get("seccompProfile", {}).get("type") == "Unconfined":
        yield f"{name}: seccompProfile must not be Unconfined"
