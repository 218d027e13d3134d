"""Whether a task finds a node: labels, taints, GPU, cores, memory, one condition after the other.

In: what `resources.yaml` asks for a task, and the cluster's nodes. Out: a finding that names the condition at which the
last node was lost. What other pods use at the moment is not counted: a busy node comes free.
"""

from collections.abc import Callable, Sequence

from kubernetes.client import V1Node, V1Taint
from kubernetes.utils.quantity import parse_quantity

from twofold.kubeflow.definition.resources import Step, Toleration
from twofold.orchestration.preflight_findings import Finding, failure, ok

Condition = tuple[str, str, Callable[[V1Node], bool]]  # what it asks, what to do where none has it, the test
SCALES = "or, where a group of nodes grows from zero, see with --in-cluster"


def node_for(task: str, step: Step, nodes: Sequence[V1Node]) -> Finding:
    """Whether any node could take the task's pod."""
    check, left = f"node for {task}", list(nodes)
    if not left:
        return failure(check, "the cluster has no nodes", f"add one, {SCALES}")
    for wanted, remedy, holds in conditions(step):
        fitting = [node for node in left if holds(node)]
        if not fitting:
            lost = ", ".join(f"{node.metadata.name} ({_state(node, step)})" for node in left[:3])
            more = f" and {len(left) - 3} more" if len(left) > 3 else ""
            return failure(check, f"of {len(nodes)} nodes none left that {wanted}; last were {lost}{more}", remedy)
        left = fitting
    gpu = f", {step.gpu.count} {step.gpu.type}" if step.gpu else ""
    names = ", ".join(node.metadata.name for node in left[:3]) + (" …" if len(left) > 3 else "")
    return ok(check, f"{step.cpu} cores, {step.memory}{gpu}: {len(left)} of {len(nodes)} nodes could take it ({names})")


def conditions(step: Step) -> list[Condition]:
    """What a node must have, in the order in which a person would look."""
    labels = step.node_selector
    found: list[Condition] = []
    if labels:
        wanted = ", ".join(f"{key}={value}" for key, value in labels.items())
        remedy = f"label a node, or correct node_selector in resources.yaml, {SCALES}"
        found.append((f"has the labels {wanted}", remedy, lambda node: has_labels(node, labels)))
    if step.gpu:
        type_, count = step.gpu.type, step.gpu.count
        remedy = f"install the GPU operator or device plugin, correct gpu.type, {SCALES}"
        found.append((f"offers {count} {type_}", remedy, lambda node: amount(node, type_) >= count))
    cpu, memory = parse_quantity(step.cpu), parse_quantity(step.memory)
    return [
        *found,
        (
            "has only taints that the task tolerates",
            "add the taint to the task's tolerations in resources.yaml",
            lambda node: not blocking(node, step.tolerations),
        ),
        (
            "is ready and takes new pods",
            "see `kubectl describe node`; `kubectl uncordon` it",
            lambda node: is_ready(node) and not node.spec.unschedulable,
        ),
        (
            f"has {step.cpu} cores and {step.memory} in all",
            "ask for less in resources.yaml, or add a larger node",
            lambda node: amount(node, "cpu") >= cpu and amount(node, "memory") >= memory,
        ),
    ]


def has_labels(node: V1Node, wanted: dict[str, str]) -> bool:
    labels = node.metadata.labels or {}
    return all(labels.get(key) == value for key, value in wanted.items())


def amount(node: V1Node, resource: str) -> float:
    """How much of a resource the node has for pods."""
    return float(parse_quantity((node.status.allocatable or {}).get(resource, "0")))


def is_ready(node: V1Node) -> bool:
    return any(condition.type == "Ready" and condition.status == "True" for condition in node.status.conditions or [])


def blocking(node: V1Node, tolerations: Sequence[Toleration]) -> list[str]:
    """The node's taints that keep the pod away, as kubectl writes them."""
    return [
        f"{taint.key}{'=' + taint.value if taint.value else ''}:{taint.effect}"
        for taint in node.spec.taints or []
        if taint.effect in ("NoSchedule", "NoExecute") and not any(tolerates(each, taint) for each in tolerations)
    ]


def tolerates(toleration: Toleration, taint: V1Taint) -> bool:
    """Kubernetes' rule: no effect means every effect, Exists without a key means every taint."""
    if toleration.effect not in (None, taint.effect) or toleration.key not in (None, taint.key):
        return False
    return toleration.operator == "Exists" or (toleration.value or "") == (taint.value or "")


def _state(node: V1Node, step: Step) -> str:
    said = [f"{amount(node, 'cpu'):g} cores", f"{amount(node, 'memory') / 2**30:.0f} GiB"]
    if step.gpu:
        said.append(f"{amount(node, step.gpu.type):g} {step.gpu.type}")
    said += [f"taint {taint}" for taint in blocking(node, step.tolerations)]
    if not is_ready(node):
        said.append("not ready")
    if node.spec.unschedulable:
        said.append("cordoned")
    return ", ".join(said)
