"""Checks whether any node can take a task's pod: labels, affinity, GPU, taints, readiness, cores, memory.

Takes the task's resources and the cluster's nodes; returns a finding that names the condition which no node meets.
Resources in use by other pods are not subtracted, because a busy node becomes free again.
"""

from collections.abc import Callable, Sequence

from kubernetes.client import V1Node, V1Taint
from kubernetes.utils.quantity import parse_quantity

from twofold.kubeflow.definition.resources import NodeRequirement, Step, Toleration
from twofold.orchestration.preflight_findings import Finding, failure, ok

Condition = tuple[str, str, Callable[[V1Node], bool]]  # text, remedy if no node meets it, test
AUTOSCALING = "or, if a node group scales up from zero, check with --in-cluster"


def check_nodes(task: str, step: Step, nodes: Sequence[V1Node]) -> Finding:
    """Check whether any node could take the task's pod."""
    check, left = f"node for {task}", list(nodes)
    if not left:
        return failure(check, "the cluster has no nodes", f"add one, {AUTOSCALING}")
    for text, remedy, holds in _conditions(step):
        fitting = [node for node in left if holds(node)]
        if not fitting:
            last = ", ".join(f"{node.metadata.name} ({_describe(node, step)})" for node in left[:3])
            more = f" and {len(left) - 3} more" if len(left) > 3 else ""
            return failure(check, f"of {len(nodes)} nodes none is left that {text}; the last were {last}{more}", remedy)
        left = fitting
    wanted = [f"{step.cpu} cores" if step.cpu else "", step.memory or "", f"1 {step.gpu.type}" if step.gpu else ""]
    text = ", ".join(filter(None, wanted)) or "no requests"
    names = ", ".join(node.metadata.name for node in left[:3]) + (" …" if len(left) > 3 else "")
    return ok(check, f"{text}: {len(left)} of {len(nodes)} nodes could take it ({names})")


def _conditions(step: Step) -> list[Condition]:
    """What a node must have, in the order in which a person would check it."""
    conditions: list[Condition] = []
    remedy = f"label a node, or correct node_selector or node_affinity in resources.yaml, {AUTOSCALING}"
    labels = step.node_selector
    if labels:
        text = ", ".join(f"{key}={value}" for key, value in labels.items())
        conditions.append(
            (f"has the labels {text}", remedy, lambda node: labels.items() <= (node.metadata.labels or {}).items())
        )
    terms = [term.match_expressions for term in step.node_affinity if term.weight is None]
    if terms:
        texts = [[" ".join([each.key, each.operator, *each.values]) for each in term] for term in terms]
        text = " or ".join(map(", ".join, texts))
        conditions.append((f"meets the node affinity {text}", remedy, lambda node: _meets(terms, node)))
    if step.gpu:
        type_, count = step.gpu.type, step.gpu.count
        remedy = f"install the GPU operator or device plugin, correct gpu.type, {AUTOSCALING}"
        conditions.append((f"offers {count} {type_}", remedy, lambda node: _allocatable(node, type_) >= count))
    cpu, memory = parse_quantity(step.cpu or "0"), parse_quantity(step.memory or "0")
    return [
        *conditions,
        # Before the taints: Kubernetes taints a node that is not ready or is cordoned, and nobody should tolerate that.
        (
            "is ready and accepts new pods",
            "see `kubectl describe node`; `kubectl uncordon` it",
            lambda node: _is_ready(node) and not node.spec.unschedulable,
        ),
        (
            "has only taints that the task tolerates",
            "add the taint to the task's tolerations in resources.yaml",
            lambda node: not _blocking_taints(node, step.tolerations),
        ),
        (
            f"has {step.cpu or 0} cores and {step.memory or 0} in total",
            "request less in resources.yaml, or add a larger node",
            lambda node: _allocatable(node, "cpu") >= cpu and _allocatable(node, "memory") >= memory,
        ),
    ]


def _meets(terms: Sequence[Sequence[NodeRequirement]], node: V1Node) -> bool:
    """Apply Kubernetes' rule: one term is enough, and all of its requirements must hold."""
    return any(all(_holds(each, (node.metadata.labels or {}).get(each.key)) for each in term) for term in terms)


def _holds(requirement: NodeRequirement, found: str | None) -> bool:
    operator, values = requirement.operator, requirement.values
    if operator in ("Gt", "Lt"):
        sign = 1 if operator == "Gt" else -1
        return found is not None and found.isdecimal() and sign * int(found) > sign * int(values[0])
    holds = found in values if values else found is not None
    return holds == (operator in ("In", "Exists"))


def _allocatable(node: V1Node, resource: str) -> float:
    """How much of a resource the node has for pods."""
    return float(parse_quantity((node.status.allocatable or {}).get(resource, "0")))


def _is_ready(node: V1Node) -> bool:
    return any(condition.type == "Ready" and condition.status == "True" for condition in node.status.conditions or [])


def _blocking_taints(node: V1Node, tolerations: Sequence[Toleration]) -> list[str]:
    """The node's taints that keep the pod away, as kubectl writes them."""
    return [
        f"{taint.key}{'=' + taint.value if taint.value else ''}:{taint.effect}"
        for taint in node.spec.taints or []
        if taint.effect in ("NoSchedule", "NoExecute") and not any(_tolerates(each, taint) for each in tolerations)
    ]


def _tolerates(toleration: Toleration, taint: V1Taint) -> bool:
    """Apply Kubernetes' rule: no effect means all effects, Exists without a key means all taints."""
    if toleration.effect not in (None, taint.effect) or toleration.key not in (None, taint.key):
        return False
    return toleration.operator == "Exists" or (toleration.value or "") == (taint.value or "")


def _describe(node: V1Node, step: Step) -> str:
    facts = [f"{_allocatable(node, 'cpu'):g} cores", f"{_allocatable(node, 'memory') / 2**30:.0f} GiB"]
    if step.gpu:
        facts.append(f"{_allocatable(node, step.gpu.type):g} {step.gpu.type}")
    facts += [f"taint {taint}" for taint in _blocking_taints(node, step.tolerations)]
    if not _is_ready(node):
        facts.append("not ready")
    if node.spec.unschedulable:
        facts.append("cordoned")
    return ", ".join(facts)
