"""The manifests of deploy/: valid, restricted, and consistent with resources.yaml, the images and the pipeline."""

import copy
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from kfp.compiler import Compiler
from ruamel.yaml import YAML

from tests.support.tools.pod_security import violations
from twofold.kubeflow.definition.compiler import compile_pipeline
from twofold.kubeflow.definition.images import Images
from twofold.kubeflow.definition.resources import load_resources
from twofold.kubeflow.preflight import in_cluster_run
from twofold.orchestration.params_file import check_all, load_yaml

ROOT = Path(__file__).resolve().parents[3]
DEPLOY = ROOT / "deploy"
RESOURCES = load_resources()
APPLIED_BY_HAND = {"runs/loader.yaml", "secrets.example.yaml"}  # in no kustomization
FILES = sorted(path.relative_to(DEPLOY).as_posix() for path in DEPLOY.rglob("*.yaml"))
MANIFESTS = [name for name in FILES if not name.endswith(("kustomization.yaml", "resources.yaml"))]
VERSIONS = ("1.29", "1.33", "1.37")


def documents(name):
    # This parser reads YAML 1.2, as kubectl does, and refuses duplicate keys.
    return [each for each in YAML(typ="safe").load_all((DEPLOY / name).read_text()) if each]


# test_deploy_serving.py checks KServe's objects.
OBJECTS = [
    (f"{name}: {each['kind']} {each['metadata']['name']}", each)
    for name in MANIFESTS
    for each in documents(name)
    if each["apiVersion"] != "serving.kserve.io/v1beta1"
]


def of_kind(kind):
    return [each for _, each in OBJECTS if each["kind"] == kind]


def named(things, name):
    (found,) = [each for each in things if each["metadata"]["name"] == name]
    return found


def secret_keys(spec):
    """{secret: keys} that the environment of a pod's first container refers to."""
    found = {}
    for entry in spec["containers"][0].get("env", []):
        if "valueFrom" in entry:
            reference = entry["valueFrom"]["secretKeyRef"]
            found.setdefault(reference["name"], set()).add(reference["key"])
    return found


def pod_spec(thing):
    if thing["kind"] == "Pod":
        return thing["spec"]
    return thing["spec"]["template"]["spec"] if "template" in thing.get("spec", {}) else None


PODS = [(name, pod_spec(each)) for name, each in OBJECTS if pod_spec(each)]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(("name", "thing"), OBJECTS, ids=[name for name, _ in OBJECTS])
def test_every_object_is_valid_by_kubernetes_own_schema(name, thing, version):
    kubernetes_validate.validate(thing, version, strict=True)


def test_the_schema_check_finds_a_misspelt_field():
    broken = copy.deepcopy(of_kind("Deployment")[0])
    broken["spec"]["template"]["spec"]["containers"][0]["imagePullPolice"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, VERSIONS[-1], strict=True)


def test_every_manifest_is_in_a_kustomization_or_applied_by_hand():
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
    assert {each for each in listed if each.endswith(".yaml")} == set(MANIFESTS) - APPLIED_BY_HAND


@pytest.mark.parametrize(("name", "spec"), PODS, ids=[name for name, _ in PODS])
def test_every_pod_meets_the_restricted_standard(name, spec):
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


@pytest.mark.parametrize("field", BREAKS)
def test_the_check_of_the_standard_finds_each_violation(field):
    spec = copy.deepcopy(pod_spec(of_kind("Deployment")[0]))
    BREAKS[field](spec)
    assert any(field in each for each in violations(spec)), violations(spec)


# What Kubeflow Pipelines since 2.16 sets on every task's container, whatever the pipeline says.
BY_KUBEFLOW = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
# Allowed keys of a task in the platform spec: those that make volumes, and the others.
MOUNTS = {"pvcMount": "persistentVolumeClaim", "emptyDirMounts": "emptyDir", "secretAsVolume": "secret"}
HARMLESS = {
    *("secretAsEnv", "podMetadata", "tolerations", "nodeSelector", "imagePullSecret"),
    *("activeDeadlineSeconds", "securityContext", "enabledSharedMemory", "fieldPathAsEnv", "imagePullPolicy"),
}


def pods_of(path):
    """The pods that Kubeflow makes from a compiled pipeline, as far as the pipeline determines them."""
    spec, platform = yaml.safe_load_all(path.read_text())
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    for name, executor in spec["deploymentSpec"]["executors"].items():
        settings = executors[name]
        assert set(settings) <= HARMLESS | set(MOUNTS), f"{name}: does the standard allow {set(settings)}?"
        volumes = [
            {"name": f"{key}-{n}", MOUNTS[key]: {}} for key in MOUNTS for n, _ in enumerate(settings.get(key, []))
        ]
        # kfp writes 64-bit integers as text.
        given = {
            key: int(value) if isinstance(value, str) else value for key, value in settings["securityContext"].items()
        }
        context = BY_KUBEFLOW | given
        container = {"name": name, "image": executor["container"]["image"], "securityContext": context}
        yield name, settings, {"containers": [container], "volumes": volumes}


@pytest.fixture(scope="module", params=[RESOURCES, RESOURCES.without_requests()], ids=["resources.yaml", "--cpu"])
def compiled(tmp_path_factory, request):
    path = tmp_path_factory.mktemp("compiled") / "training.yaml"
    params = {name: each.model_dump(mode="json") for name, each in check_all(load_yaml(ROOT / "params.yaml")).items()}
    images = Images("registry.example/twofold-data:1", "registry.example/twofold-train:1")
    compile_pipeline(path, images=images, resources=request.param, params=params)
    checks = in_cluster_run.ClusterRunRequest(
        images, request.param, "/data/parts", "", "twofold", "resnet50", "imagenet1k_v1"
    )
    Compiler().compile(in_cluster_run.pipeline(checks), str(path.with_name("doctor.yaml")))
    return [*pods_of(path), *pods_of(path.with_name("doctor.yaml"))]


def test_every_pod_of_the_pipeline_meets_the_restricted_standard(compiled):
    assert len(compiled) == 9 + 2  # and those of `doctor --in-cluster`
    for name, _, spec in compiled:
        assert violations(spec) == [], name
        assert spec["containers"][0]["securityContext"]["runAsUser"] == RESOURCES.security.run_as_user


def test_the_network_policies_select_the_pods_of_the_pipeline_by_label(compiled):
    policies = {each["metadata"]["name"]: each["spec"] for each in of_kind("NetworkPolicy")}
    wanted = policies["twofold-runs"]["podSelector"]["matchLabels"]
    assert wanted.items() <= RESOURCES.labels.items()
    for name, settings, _ in compiled:
        assert wanted.items() <= settings["podMetadata"]["labels"].items(), name
    callers = policies["mlflow"]["ingress"][0]["from"][0]
    assert callers == {"namespaceSelector": {}, "podSelector": {"matchLabels": wanted}}
    # All other traffic is denied, and only MLflow reaches PostgreSQL.
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
    keys = {}
    for _, spec in PODS:
        for name, more in secret_keys(spec).items():
            keys[name] = keys.get(name, set()) | more
    assert keys == example_secrets("twofold")


def test_the_example_holds_no_secret():
    for each in documents("secrets.example.yaml"):
        for key, value in each["stringData"].items():
            placeholder = any(part in value for part in ("REPLACE", "REGION", ".svc:"))
            assert placeholder or value in ("", "mlflow", "twofold", "admin", "reader"), key


def test_claims_users_and_names_are_those_of_resources_yaml_and_the_images():
    claims, paths = ({getattr(volume, name) for volume in RESOURCES.volumes} for name in ("claim", "path"))
    assert {each["metadata"]["name"] for each in of_kind("PersistentVolumeClaim")} == claims
    loader = of_kind("Pod")[0]["spec"]
    assert {each["persistentVolumeClaim"]["claimName"] for each in loader["volumes"]} == claims
    assert {each["mountPath"] for each in loader["containers"][0]["volumeMounts"]} == paths
    user, group = RESOURCES.security.run_as_user, RESOURCES.security.run_as_group
    assert (loader["securityContext"]["runAsUser"], loader["securityContext"]["fsGroup"]) == (user, group)
    assert f"USER {user}:{group}" in (ROOT / "docker" / "Dockerfile").read_text()
    assert pod_spec(of_kind("Deployment")[0])["securityContext"]["runAsUser"] == user
    secret, service = named(documents("secrets.example.yaml"), "twofold-mlflow"), named(of_kind("Service"), "mlflow")
    assert secret["stringData"]["tracking_uri"] == f"http://mlflow.twofold.svc:{service['spec']['ports'][0]['port']}"


def test_every_image_has_a_fixed_tag():
    for name, spec in PODS:
        for container in spec["containers"]:
            image = container["image"]
            assert not image.endswith(":latest"), name
            # The kustomization sets the server's tag.
            assert ":" in image or image == "twofold-server", f"{name}: {image}"
    (kustomization,) = documents("mlflow/kustomization.yaml")
    assert [each["name"] for each in kustomization["images"]] == ["twofold-server"]
    assert kustomization["namespace"] == "twofold"


def test_the_resources_for_kind_differ_in_requests_only():
    small = load_resources(DEPLOY / "kind" / "resources.yaml")
    assert not any(step.gpu or step.tolerations or step.node_selector for step in small.steps.values())
    assert not any(step.cpu for step in small.steps.values()), "a node of two cores has no free core"
    for field in ("security", "secrets", "volumes", "labels"):
        assert getattr(small, field) == getattr(RESOURCES, field), field


def test_every_policy_that_restricts_egress_allows_dns():
    dns = {"kubernetes.io/metadata.name": "kube-system"}
    for policy in of_kind("NetworkPolicy"):
        rules = policy["spec"].get("egress", [])
        allowed = any(
            {"namespaceSelector": {"matchLabels": dns}} in rule.get("to", [])
            and {"ipBlock": {"cidr": "169.254.20.10/32"}} in rule["to"]
            and {(port["protocol"], port["port"]) for port in rule["ports"]} == {("UDP", 53), ("TCP", 53)}
            for rule in rules
        )
        assert allowed == bool(rules), policy["metadata"]["name"]
