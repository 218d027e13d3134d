"""deploy/serving: an InferenceService that KServe takes, and pods that fulfil the restricted standard.

KServe's `v1beta1` describes a predictor as a PodSpec with fields of its own beside (`ComponentExtensionSpec`). The
PodSpec is held to Kubernetes' schema, and KServe's fields to the names, types and rules of its API.
"""

import copy
import re

import kubernetes_validate
import pytest

from tests.tools.pod_security import violations
from tests.unit.test_deploy import DEPLOY, ROOT, VERSIONS, documents, example_secrets

DOC = (ROOT / "docs" / "serving.md").read_text()
# Name -> type, of those that Twofold may use; `logger` and `batcher` would pass images on, or turn the request round.
KSERVE = {
    "minReplicas": int,
    "maxReplicas": int,
    "scaleTarget": int,
    "scaleMetric": str,
    "containerConcurrency": int,
    "timeout": int,
    "canaryTrafficPercent": int,
    "labels": dict,
    "annotations": dict,
}


@pytest.fixture
def service():
    (found,) = documents("serving/inferenceservice.yaml")
    return found


def pod_spec(service):
    return {key: value for key, value in service["spec"]["predictor"].items() if key not in KSERVE}


def valid(service, version):
    assert set(service) == {"apiVersion", "kind", "metadata", "spec"}
    assert (service["apiVersion"], service["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    assert set(service["spec"]) == {"predictor"}
    predictor = service["spec"]["predictor"]
    own = {key: value for key, value in predictor.items() if key in KSERVE}
    assert all(type(value) is KSERVE[key] for key, value in own.items())
    assert 0 <= own["minReplicas"] <= own["maxReplicas"]
    assert own["scaleMetric"] in ("cpu", "memory", "concurrency", "rps")
    # By this name KServe finds the container that answers.
    assert [each["name"] for each in predictor["containers"]] == ["kserve-container"]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": service["metadata"], "spec": pod_spec(service)}
    kubernetes_validate.validate(pod, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_it_is_valid(service, version):
    valid(service, version)


@pytest.mark.parametrize(
    "breaks",
    [
        lambda predictor: predictor.update(minReplica=1),
        lambda predictor: predictor.update(minReplicas="1"),
        lambda predictor: predictor.update(maxReplicas=0),
        lambda predictor: predictor.update(scaleMetric="gpu"),
        lambda predictor: predictor["containers"][0].update(name="model"),
        lambda predictor: predictor["containers"][0].update(imagePullPolice="Always"),
    ],
)
def test_the_check_sees_what_is_wrong(service, breaks):
    broken = copy.deepcopy(service)
    breaks(broken["spec"]["predictor"])
    with pytest.raises((AssertionError, kubernetes_validate.ValidationError)):
        valid(broken, VERSIONS[-1])


def test_its_pods_fulfil_the_restricted_standard(service):
    assert violations(pod_spec(service)) == []


def test_it_serves_a_version_out_of_the_image_that_trained_it_and_runs_no_pickle(service):
    (container,) = service["spec"]["predictor"]["containers"]
    assert container["image"] == "twofold-train:set-me"
    words = container["args"]
    assert words[:3] == ["mlflow", "models", "serve"]
    assert words[words.index("--model-uri") + 1].rpartition("/")[2].isdecimal()
    assert words[words.index("--port") + 1] == str(container["ports"][0]["containerPort"])
    assert {"name": "MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "value": "false"} in container["env"]
    user = service["spec"]["predictor"]["securityContext"]["runAsUser"]
    assert f"USER {user}:" in (ROOT / "docker" / "Dockerfile").read_text()


def test_its_secret_is_in_the_example_and_holds_what_is_asked_for(service):
    asked = {}
    for entry in service["spec"]["predictor"]["containers"][0]["env"]:
        if "valueFrom" in entry:
            reference = entry["valueFrom"]["secretKeyRef"]
            asked.setdefault(reference["name"], set()).add(reference["key"])
    (kustomization,) = documents("serving/kustomization.yaml")
    assert asked == example_secrets(kustomization["namespace"])
    (made,) = re.findall(r"kubectl create secret generic (\S+) --namespace (\S+) \\\n((?:.*\\\n)*.*)", DOC)
    assert made[:2] == (*asked, kustomization["namespace"])
    assert set(re.findall(r"--from-literal=(\w+)=", made[2])) == asked[made[0]]


def test_mlflow_lets_its_pods_in(service):
    labels = service["spec"]["predictor"]["labels"]
    (policy,) = [
        each for each in documents("mlflow/network.yaml") if each["metadata"]["name"] == "mlflow" and "spec" in each
    ]
    callers = policy["spec"]["ingress"][0]["from"][0]
    assert callers["namespaceSelector"] == {}
    assert callers["podSelector"]["matchLabels"].items() <= labels.items()


def test_the_patch_of_the_image_meets_the_image(service):
    (kustomization,) = documents("serving/kustomization.yaml")
    (patch,) = kustomization["patches"]
    group, _, version = service["apiVersion"].partition("/")
    assert patch["target"] == {
        "group": group,
        "version": version,
        "kind": service["kind"],
        "name": service["metadata"]["name"],
    }
    assert "/spec/predictor/containers/0/image" in patch["patch"]
    assert (DEPLOY / "serving" / kustomization["resources"][0]).is_file()
