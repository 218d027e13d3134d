"""The manifests of deploy/: valid, restricted, and of one mind with resources.yaml, the images and the pipeline."""

import copy
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from kfp.compiler import Compiler
from ruamel.yaml import YAML

from tests.support.tools.pod_security import violations
from twofold.kubeflow.definition.compiler import compile_to
from twofold.kubeflow.definition.images import Images
from twofold.kubeflow.definition.resources import load
from twofold.kubeflow.preflight import in_cluster_run
from twofold.orchestration.params_file import check_all, load_yaml

ROOT = Path(__file__).resolve().parents[3]
DEPLOY = ROOT / "deploy"
RESOURCES = load()
BY_HAND = {"runs/loader.yaml", "secrets.example.yaml"}  # in no kustomization
FILES = sorted(path.relative_to(DEPLOY).as_posix() for path in DEPLOY.rglob("*.yaml"))
MANIFESTS = [name for name in FILES if not name.endswith(("kustomization.yaml", "resources.yaml"))]
VERSIONS = ("1.29", "1.33", "1.37")


def documents(name):
    # YAML 1.2 as kubectl reads it, and no key twice.
    return [each for each in YAML(typ="safe").load_all((DEPLOY / name).read_text()) if each]


# What is not Kubernetes' own has a test of its own (test_deploy_serving.py).
OBJECTS = [
    (f"{name}: {each['kind']} {each['metadata']['name']}", each)
    for name in MANIFESTS
    for each in documents(name)
    if each["apiVersion"] != "serving.kserve.io/v1beta1"
]


def of_kind(kind):
    return [each for _, each in OBJECTS if each["kind"] == kind]


def pod_spec(thing):
    if thing["kind"] == "Pod":
        return thing["spec"]
    return thing["spec"]["template"]["spec"] if "template" in thing.get("spec", {}) else None


PODS = [(name, pod_spec(each)) for name, each in OBJECTS if pod_spec(each)]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("name", "thing"), OBJECTS, ids=[name for name, _ in OBJECTS])
def test_every_object_is_valid_by_kubernetes_own_schema(name, thing, version):
    kubernetes_validate.validate(thing, version, strict=True)


def test_the_schema_check_sees_a_misspelt_field():
    broken = copy.deepcopy(of_kind("Deployment")[0])
    broken["spec"]["template"]["spec"]["containers"][0]["imagePullPolice"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, VERSIONS[-1], strict=True)


def test_every_manifest_is_in_a_kustomization_but_those_for_hands():
    listed = set()
    for name in FILES:
        if name.endswith("kustomization.yaml"):
            folder = (DEPLOY / name).parent
            (kustomization,) = documents(name)
            assert set(kustomization) <= {"apiVersion", "kind", "namespace", "resources", "images", "patches"}
            for resource in kustomization["resources"]:
                path = (folder / resource).resolve()
                assert path.exists(), f"{name}: {resource}"
                listed.add(path.relative_to(DEPLOY).as_posix())
    assert {each for each in listed if each.endswith(".yaml")} == set(MANIFESTS) - BY_HAND


@pytest.mark.parametrize(("name", "spec"), PODS, ids=[name for name, _ in PODS])
def test_every_pod_fulfils_the_restricted_standard(name, spec):
    assert violations(spec) == []


def test_the_namespace_enforces_it():
    (namespace,) = of_kind("Namespace")
    labels = namespace["metadata"]["labels"]
    assert {labels[f"pod-security.kubernetes.io/{mode}"] for mode in ("enforce", "audit", "warn")} == {"restricted"}


ROOT_USER = {"runAsUser": 0}
BREAKS = {
    "hostNetwork": lambda spec: spec.update(hostNetwork=True),
    "hostPath": lambda spec: spec["volumes"].append({"name": "host", "hostPath": {"path": "/"}}),
    "sysctl": lambda spec: spec["securityContext"].update(sysctls=[{"name": "kernel.msgmax", "value": "1"}]),
    "privileged": lambda spec: spec["containers"][0]["securityContext"].update(privileged=True),
    "allowPrivilegeEscalation": lambda spec: spec["containers"][0]["securityContext"].pop("allowPrivilegeEscalation"),
    "runAsNonRoot": lambda spec: spec["securityContext"].pop("runAsNonRoot"),
    "runAsUser": lambda spec: spec["containers"][0]["securityContext"].update(ROOT_USER),
    "seccompProfile": lambda spec: spec["securityContext"].pop("seccompProfile"),
    "drop ALL": lambda spec: spec["containers"][0]["securityContext"].pop("capabilities"),
    "SYS_ADMIN": lambda spec: spec["containers"][0]["securityContext"]["capabilities"].update(add=["SYS_ADMIN"]),
    "hostPort": lambda spec: spec["containers"][0]["ports"][0].update(hostPort=80),
    "probe": lambda spec: spec["containers"][0]["readinessProbe"]["httpGet"].update(host="other"),
    "procMount": lambda spec: spec["containers"][0]["securityContext"].update(procMount="Unmasked"),
    "appArmor": lambda spec: spec["securityContext"].update(appArmorProfile={"type": "Unconfined"}),
    "seLinux": lambda spec: spec["securityContext"].update(seLinuxOptions={"type": "spc_t"}),
    "init": lambda spec: spec.update(initContainers=[{"name": "init"}]),
}


@pytest.mark.parametrize("said", BREAKS)
def test_the_check_of_the_standard_sees_each_breach(said):
    spec = copy.deepcopy(pod_spec(of_kind("Deployment")[0]))
    BREAKS[said](spec)
    assert any(said in each for each in violations(spec)), violations(spec)


# What Kubeflow Pipelines 2.16 and newer gives every task's container by itself, whatever the pipeline says.
BY_KUBEFLOW = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
# What may stand in a task's part of the platform spec, and what volumes it makes.
MOUNTS = {"pvcMount": "persistentVolumeClaim", "emptyDirMounts": "emptyDir", "secretAsVolume": "secret"}
HARMLESS = {
    *("secretAsEnv", "podMetadata", "tolerations", "nodeSelector", "imagePullSecret"),
    *("activeDeadlineSeconds", "securityContext", "enabledSharedMemory", "fieldPathAsEnv", "imagePullPolicy"),
}


def pods_of(path):
    """The pods that Kubeflow makes of a compiled pipeline, as far as the pipeline says."""
    spec, platform = yaml.safe_load_all(path.read_text())
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    for name, executor in spec["deploymentSpec"]["executors"].items():
        asked = executors[name]
        assert set(asked) <= HARMLESS | set(MOUNTS), f"{name}: does the standard allow {set(asked)}?"
        volumes = [{"name": f"{key}-{n}", MOUNTS[key]: {}} for key in MOUNTS for n, _ in enumerate(asked.get(key, []))]
        given = asked.get("securityContext", {})
        # kfp writes 64-bit integers as text.
        context = BY_KUBEFLOW | {
            key: int(v) if key.startswith("runAs") and v is not True else v for key, v in given.items()
        }
        container = {"name": name, "image": executor["container"]["image"], "securityContext": context}
        yield name, asked, {"containers": [container], "volumes": volumes}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    path = tmp_path_factory.mktemp("compiled") / "training.yaml"
    params = {name: each.model_dump(mode="json") for name, each in check_all(load_yaml(ROOT / "params.yaml")).items()}
    images = Images("registry.example/twofold-data:1", "registry.example/twofold-train:1")
    compile_to(path, cpu=False, images=images, resources=RESOURCES, params=params)
    asked = in_cluster_run.ClusterRunRequest(images, RESOURCES, "/data/parts", "", "resnet50", "imagenet1k_v1")
    Compiler().compile(in_cluster_run.pipeline(asked), str(path.with_name("doctor.yaml")))
    return [*pods_of(path), *pods_of(path.with_name("doctor.yaml"))]


def test_every_pod_of_the_pipeline_fulfils_the_restricted_standard(compiled):
    assert len(compiled) == 7 + 2  # and those of `doctor --in-cluster`
    for name, _, spec in compiled:
        assert violations(spec) == [], name
        assert spec["containers"][0]["securityContext"]["runAsUser"] == RESOURCES.security.run_as_user


def test_the_policies_of_the_network_know_the_pods_of_the_pipeline_by_their_label(compiled):
    policies = {each["metadata"]["name"]: each["spec"] for each in of_kind("NetworkPolicy")}
    wanted = policies["twofold-runs"]["podSelector"]["matchLabels"]
    assert wanted.items() <= RESOURCES.labels.items()
    for name, asked, _ in compiled:
        assert wanted.items() <= asked["podMetadata"]["labels"].items(), name
    callers = policies["mlflow"]["ingress"][0]["from"][0]
    assert callers == {"namespaceSelector": {}, "podSelector": {"matchLabels": wanted}}
    # Nobody else: all of the namespace is closed, and PostgreSQL answers MLflow alone.
    assert policies["nobody"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    assert policies["postgres"]["ingress"][0]["from"] == [{"podSelector": policies["mlflow"]["podSelector"]}]


def example_secrets(namespace):
    return {
        each["metadata"]["name"]: set(each["stringData"])
        for each in documents("secrets.example.yaml")
        if each["metadata"]["namespace"] == namespace
    }


def test_the_secrets_have_the_names_and_keys_that_resources_yaml_asks_for():
    assert example_secrets("kubeflow") == {each.name: set(each.keys) for each in RESOURCES.secrets.values()}


def test_the_servers_find_their_secrets_and_keys_too():
    known = example_secrets("twofold")
    asked = {}
    for _, spec in PODS:
        for entry in spec["containers"][0].get("env", []):
            if "valueFrom" in entry:
                reference = entry["valueFrom"]["secretKeyRef"]
                asked.setdefault(reference["name"], set()).add(reference["key"])
    assert asked == known


def test_the_example_holds_no_secret():
    for each in documents("secrets.example.yaml"):
        for key, value in each["stringData"].items():
            assert (
                value in ("", "mlflow", "twofold", "admin", "reader")
                or "REPLACE" in value
                or "REGION" in value
                or ".svc:" in value
            ), key


def test_claims_users_and_names_are_those_of_resources_yaml_and_the_images():
    assert {each["metadata"]["name"] for each in of_kind("PersistentVolumeClaim")} == {
        volume.claim for volume in RESOURCES.volumes
    }
    loader = of_kind("Pod")[0]["spec"]
    assert {each["persistentVolumeClaim"]["claimName"] for each in loader["volumes"]} == {
        volume.claim for volume in RESOURCES.volumes
    }
    assert {each["mountPath"] for each in loader["containers"][0]["volumeMounts"]} == {
        volume.path for volume in RESOURCES.volumes
    }
    user, group = RESOURCES.security.run_as_user, RESOURCES.security.run_as_group
    assert (loader["securityContext"]["runAsUser"], loader["securityContext"]["fsGroup"]) == (user, group)
    assert f"USER {user}:{group}" in (ROOT / "docker" / "Dockerfile").read_text()
    assert pod_spec(of_kind("Deployment")[0])["securityContext"]["runAsUser"] == user
    uri = next(each for each in documents("secrets.example.yaml") if each["metadata"]["name"] == "twofold-mlflow")
    service = next(each for each in of_kind("Service") if each["metadata"]["name"] == "mlflow")
    assert uri["stringData"]["tracking_uri"] == f"http://mlflow.twofold.svc:{service['spec']['ports'][0]['port']}"


def test_no_image_is_left_to_chance():
    for name, spec in PODS:
        for container in spec["containers"]:
            image = container["image"]
            assert not image.endswith(":latest"), name
            # The server's is named in the kustomization.
            assert ":" in image or image == "twofold-server", f"{name}: {image}"
    (kustomization,) = documents("mlflow/kustomization.yaml")
    assert [each["name"] for each in kustomization["images"]] == ["twofold-server"]
    assert kustomization["namespace"] == "twofold"


def test_the_resources_for_kind_differ_in_what_is_asked_only():
    small = load(DEPLOY / "kind" / "resources.yaml")
    assert not any(step.gpu or step.tolerations or step.node_selector for step in small.steps.values())
    for field in ("security", "secrets", "volumes", "labels"):
        assert getattr(small, field) == getattr(RESOURCES, field), field


def test_every_policy_that_limits_what_a_pod_may_call_lets_it_ask_for_names():
    dns = {"kubernetes.io/metadata.name": "kube-system"}
    for policy in of_kind("NetworkPolicy"):
        rules = policy["spec"].get("egress", [])
        asking = [
            rule
            for rule in rules
            if {"namespaceSelector": {"matchLabels": dns}} in rule.get("to", [])
            and {"ipBlock": {"cidr": "169.254.20.10/32"}} in rule["to"]
            and {(port["protocol"], port["port"]) for port in rule["ports"]} == {("UDP", 53), ("TCP", 53)}
        ]
        assert bool(asking) == bool(rules), policy["metadata"]["name"]
