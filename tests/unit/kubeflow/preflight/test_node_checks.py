"""Whether a task finds a node: every condition alone, as Kubernetes' scheduler sees it."""

import pytest
from kubernetes.client import ApiClient

from tests.support.kube_server.objects import node
from twofold.kubeflow.definition.resources import Step, Toleration, load
from twofold.kubeflow.preflight.node_checks import node_for

FINETUNE = load().steps["finetune_all"]
TAINT = "nvidia.com/gpu=present:NoSchedule"


class Response:
    def __init__(self, data):
        self.data = data


def nodes(*things):
    import json

    return [ApiClient().deserialize(Response(json.dumps(thing)), "V1Node") for thing in things]


def changed(**values):
    return FINETUNE.model_copy(update=values)


def gpu_node(name="gpu-1", **more):
    return node(name, gpus=1, taints=(TAINT,), **more)


def cordoned():
    thing = gpu_node()
    thing["spec"]["unschedulable"] = True
    return thing


def not_ready():
    thing = gpu_node()
    thing["status"]["conditions"][0]["status"] = "Unknown"
    return thing


def test_a_node_that_has_all_of_it_is_named():
    found = node_for("finetune_all", FINETUNE, nodes(node("cpu-1"), gpu_node()))
    assert found.level == "ok"
    assert "1 of 2 nodes could take it (gpu-1)" in found.seen


@pytest.mark.parametrize(
    ("things", "step", "seen", "remedy"),
    [
        ([], FINETUNE, "no nodes", "--in-cluster"),
        ([node("cpu-1")], FINETUNE, "none left that offers 1 nvidia.com/gpu; last were cpu-1", "GPU operator"),
        ([gpu_node()], changed(tolerations=[]), f"taint {TAINT}", "tolerations"),
        ([node("gpu-1", gpus=1, taints=(TAINT, "team=other:NoExecute"))], FINETUNE, "taint team=other:NoExecute", ""),
        (
            [gpu_node()],
            changed(node_selector={"nvidia.com/gpu.product": "H200"}),
            "nvidia.com/gpu.product=H200",
            "label",
        ),
        ([cordoned()], FINETUNE, "cordoned", "uncordon"),
        ([not_ready()], FINETUNE, "not ready", "describe node"),
        ([gpu_node()], changed(cpu="16"), "has 16 cores", "larger"),
        ([gpu_node()], changed(memory="63Gi"), "62 GiB", "larger"),
        # Each half of what is asked is there, on another node.
        (
            [node("gpu-1", gpus=1, taints=("team=other:NoSchedule",)), node("cpu-1")],
            FINETUNE,
            "of 2 nodes none left that has only taints",
            "",
        ),
    ],
)
def test_the_condition_at_which_the_last_node_was_lost_is_named(things, step, seen, remedy):
    found = node_for("finetune_all", step, nodes(*things))
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
    assert node_for("finetune_all", step, nodes(gpu_node())).level == level


def test_a_toleration_of_one_effect_does_not_bear_another():
    step = changed(tolerations=[Toleration(key="nvidia.com/gpu", operator="Exists", effect="NoSchedule")])
    evicting = node("gpu-1", gpus=1, taints=("nvidia.com/gpu=present:NoExecute",))
    assert node_for("finetune_all", step, nodes(evicting)).level == "failure"


def test_a_taint_that_only_prefers_and_a_label_that_fits_are_no_obstacle():
    thing = node("gpu-1", gpus=1, taints=("team=other:PreferNoSchedule",), **{"nvidia.com/gpu.product": "H200"})
    step = changed(node_selector={"nvidia.com/gpu.product": "H200"}, tolerations=[])
    assert node_for("finetune_all", step, nodes(thing)).level == "ok"


def test_a_step_without_a_gpu_needs_none():
    assert isinstance(FINETUNE, Step)
    assert node_for("ingest", load().steps["ingest"], nodes(node("cpu-1"))).level == "ok"
