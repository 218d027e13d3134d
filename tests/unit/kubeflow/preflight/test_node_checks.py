"""Whether a node can take a task's pod: each condition alone, as Kubernetes' scheduler applies it."""

import json
from types import SimpleNamespace

import pytest
from kubernetes.client import ApiClient

from tests.support.kube_server.objects import node
from twofold.kubeflow.definition.resources import NodeAffinityTerm, Toleration, load_resources
from twofold.kubeflow.preflight.node_checks import check_nodes

STEPS = load_resources().steps
FINETUNE = STEPS["finetune_all"]
TAINT = "nvidia.com/gpu=present:NoSchedule"


def nodes(*things):
    return [ApiClient().deserialize(SimpleNamespace(data=json.dumps(thing)), "V1Node") for thing in things]


def changed(**values):
    return FINETUNE.model_copy(update=values)


def gpu_node(name="gpu-1", **more):
    return node(name, gpus=1, taints=(TAINT,), **more)


CORDONED, NOT_READY = gpu_node(), gpu_node()
CORDONED["spec"]["unschedulable"] = True
NOT_READY["status"]["conditions"][0]["status"] = "Unknown"
# As Kubernetes taints them.
CORDONED["spec"]["taints"].append({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"})
NOT_READY["spec"]["taints"].append({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"})


def test_a_node_that_meets_all_conditions_is_named():
    found = check_nodes("finetune_all", FINETUNE, nodes(node("cpu-1"), gpu_node()))
    assert found.level == "ok"
    assert "1 of 2 nodes could take it (gpu-1)" in found.seen


@pytest.mark.parametrize(
    ("things", "step", "seen", "remedy"),
    [
        ([], FINETUNE, "no nodes", "--in-cluster"),
        ([node("cpu-1")], FINETUNE, "none is left that offers 1 nvidia.com/gpu; the last were cpu-1", "GPU operator"),
        ([gpu_node()], changed(tolerations=[]), f"taint {TAINT}", "tolerations"),
        ([node("gpu-1", gpus=1, taints=(TAINT, "team=other:NoExecute"))], FINETUNE, "taint team=other:NoExecute", ""),
        ([gpu_node()], changed(node_selector={"gpu.product": "H200"}), "gpu.product=H200", "label"),
        ([CORDONED], FINETUNE, "cordoned", "uncordon"),
        ([NOT_READY], FINETUNE, "not ready", "describe node"),
        ([gpu_node()], changed(cpu="16"), "has 16 cores", "larger"),
        ([gpu_node()], changed(memory="63Gi"), "62 GiB", "larger"),
        # Two nodes, each of which meets one half of the conditions.
        (
            [node("gpu-1", gpus=1, taints=("team=other:NoSchedule",)), node("cpu-1")],
            FINETUNE,
            "of 2 nodes none is left that has only taints",
            "",
        ),
    ],
)
def test_the_condition_that_no_node_meets_is_named(things, step, seen, remedy):
    found = check_nodes("finetune_all", step, nodes(*things))
    assert found.level == "failure"
    assert seen in found.seen, found
    assert remedy in found.remedy, found


@pytest.mark.parametrize(
    ("toleration", "level"),
    [
        ({"key": "nvidia.com/gpu", "operator": "Exists"}, "ok"),
        ({"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}, "ok"),
        ({"operator": "Exists"}, "ok"),
        ({"operator": "Exists", "effect": "NoSchedule"}, "ok"),
        ({"key": "nvidia.com/gpu", "value": "absent"}, "failure"),
        ({"key": "nvidia.com/gpu"}, "failure"),  # Equal to no value
        ({"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoExecute"}, "failure"),
        ({"key": "nvidia.com/mig", "operator": "Exists"}, "failure"),
    ],
)
def test_a_taint_is_tolerated_by_kubernetes_rule(toleration, level):
    step = changed(tolerations=[Toleration(**toleration)])
    assert check_nodes("finetune_all", step, nodes(gpu_node())).level == level


def test_a_toleration_of_one_effect_does_not_tolerate_another():
    step = changed(tolerations=[Toleration(key="nvidia.com/gpu", operator="Exists", effect="NoSchedule")])
    evicting = node("gpu-1", gpus=1, taints=("nvidia.com/gpu=present:NoExecute",))
    assert check_nodes("finetune_all", step, nodes(evicting)).level == "failure"


def test_a_preferred_taint_and_a_matching_label_do_not_block():
    thing = node("gpu-1", gpus=1, taints=("team=other:PreferNoSchedule",), **{"nvidia.com/gpu.product": "H200"})
    step = changed(node_selector={"nvidia.com/gpu.product": "H200"}, tolerations=[])
    assert check_nodes("finetune_all", step, nodes(thing)).level == "ok"


LABELS = {"nvidia.com/gpu.product": "H200", "nvidia.com/gpu.memory": "143771"}


def affinity(*terms):
    """Node affinity; each requirement is written as `key operator value …`."""
    split = [[text.split() for text in term] for term in terms]
    return [
        NodeAffinityTerm(match_expressions=[{"key": key, "operator": how, "values": rest} for key, how, *rest in term])
        for term in split
    ]


@pytest.mark.parametrize(
    ("terms", "level"),
    [
        ([["nvidia.com/gpu.product In H100 H200"]], "ok"),
        ([["nvidia.com/gpu.product In H100"]], "failure"),
        ([["nvidia.com/gpu.product NotIn H100"]], "ok"),
        ([["nvidia.com/gpu.product NotIn H200"]], "failure"),
        ([["spot NotIn true"]], "ok"),  # as Kubernetes does for a node without the label
        ([["spot In true"]], "failure"),
        ([["nvidia.com/gpu.product Exists"]], "ok"),
        ([["spot Exists"]], "failure"),
        ([["spot DoesNotExist"]], "ok"),
        ([["nvidia.com/gpu.product DoesNotExist"]], "failure"),
        ([["nvidia.com/gpu.memory Gt 80000"]], "ok"),
        ([["nvidia.com/gpu.memory Gt 143771"]], "failure"),
        ([["nvidia.com/gpu.memory Lt 200000"]], "ok"),
        ([["nvidia.com/gpu.memory Lt 80000"]], "failure"),
        ([["nvidia.com/gpu.product Gt 1"]], "failure"),
        ([["spot Lt 1"]], "failure"),
        ([["spot DoesNotExist", "spot Exists"]], "failure"),  # all requirements of a term
        ([["spot Exists"], ["spot DoesNotExist"]], "ok"),  # one term of several
    ],
)
def test_required_node_affinity_is_applied_by_kubernetes_rule(terms, level):
    step = changed(node_affinity=affinity(*terms))
    found = check_nodes("finetune_all", step, nodes(gpu_node(**LABELS)))
    assert found.level == level, found
    if level == "failure":
        assert f"meets the node affinity {terms[0][0]}" in found.seen
        assert "node_affinity" in found.remedy


def test_preferred_node_affinity_does_not_block():
    (term,) = affinity(["spot Exists"])
    step = changed(node_affinity=[term.model_copy(update={"weight": 1})])
    assert check_nodes("finetune_all", step, nodes(gpu_node())).level == "ok"


def test_a_step_without_a_gpu_or_a_request_needs_none():
    assert check_nodes("ingest", STEPS["ingest"], nodes(node("cpu-1"))).level == "ok"
    found = check_nodes("ingest", changed(cpu=None, gpu=None, memory="2Gi"), nodes(node("cpu-1")))
    assert found.seen == "2Gi: 1 of 1 nodes could take it (cpu-1)"
