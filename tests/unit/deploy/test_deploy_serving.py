"""deploy/serving: an InferenceService that KServe accepts, with pods that meet the restricted standard.

The manifest is checked against KServe's own names and types (`tests/support/kserve`) and Kubernetes' schema; the
predictor's PodSpec is checked for each version of Kubernetes. The other rules of KServe's webhook are written out here.
"""

import copy
import json
import re
from importlib.resources import files

import kubernetes_validate
import pytest
from jsonschema import Draft202012Validator, ValidationError
from referencing import Registry, Resource

from tests.support.kserve.making import KUBERNETES, SCHEMA
from tests.support.tools.pod_security import violations
from tests.unit.deploy.test_deploy import DEPLOY, ROOT, VERSIONS, documents, example_secrets, named, secret_keys

DOC = (ROOT / "docs" / "guides" / "serving.md").read_text()
WRONG = (AssertionError, ValidationError, kubernetes_validate.ValidationError)


def kubernetes():
    """Strict definitions of the newest Kubernetes version tested, which forbid unknown fields."""
    folder = files(kubernetes_validate).joinpath("kubernetes-json-schema", f"v{VERSIONS[-1]}.0-local-strict")
    return json.loads(folder.joinpath("_definitions.json").read_text())


KUBERNETES_OWN = kubernetes()
KSERVES = json.loads(SCHEMA.read_text().replace(f'"{KUBERNETES}', f'"{KUBERNETES_OWN["$id"]}#/$defs/'))
# The fields of a predictor that are not a PodSpec's.
OWN = set(KSERVES["$defs"]["V1beta1PredictorSpec"]["properties"]) - set(
    KUBERNETES_OWN["$defs"]["io.k8s.api.core.v1.PodSpec"]["properties"]
)


@pytest.fixture
def service():
    (found,) = documents("serving/inferenceservice.yaml")
    return found


def pod_spec(service):
    return {key: value for key, value in service["spec"]["predictor"].items() if key not in OWN}


def valid(service, version):
    registry = Registry().with_resource(KUBERNETES_OWN["$id"], Resource.from_contents(KUBERNETES_OWN))
    Draft202012Validator(KSERVES, registry=registry).validate(service)
    assert (service["apiVersion"], service["kind"]) == ("serving.kserve.io/v1beta1", "InferenceService")
    predictor = service["spec"]["predictor"]
    assert 0 <= predictor["minReplicas"] <= predictor["maxReplicas"]
    assert predictor["scaleMetric"] in ("cpu", "memory", "concurrency", "rps")
    # KServe finds the serving container by this name.
    assert [each["name"] for each in predictor["containers"]] == ["kserve-container"]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": service["metadata"], "spec": pod_spec(service)}
    kubernetes_validate.validate(pod, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_it_is_valid(service, version):
    valid(service, version)


def test_the_schema_is_of_a_known_release_and_has_a_predictors_own_fields():
    assert re.search(r"kserve [0-9.]+, Copyright .* Apache License 2\.0", KSERVES["$comment"])
    extension = set(KSERVES["$defs"]["V1beta1TransformerSpec"]["properties"]) & OWN
    assert {"minReplicas", "maxReplicas", "scaleTarget", "scaleMetric", "timeout", "canaryTrafficPercent"} <= extension
    assert "containers" not in OWN


BREAKS_PREDICTOR = [
    lambda predictor: predictor.update(minReplica=1),
    lambda predictor: predictor.update(timeout="60"),
    lambda predictor: predictor.update(model={"modelFormat": {"nome": "mlflow"}}),
    lambda predictor: predictor.update(autoScaling={"metrics": [{"type": 1}]}),
    lambda predictor: predictor.update(labels={"app": 1}),
    lambda predictor: predictor.update(minReplicas="1"),
    lambda predictor: predictor.update(maxReplicas=0),
    lambda predictor: predictor.update(scaleMetric="gpu"),
    lambda predictor: predictor["containers"][0].update(name="model"),
    lambda predictor: predictor["containers"][0].update(imagePullPolice="Always"),
]
BREAKS_AROUND = [
    lambda service: service.update(specs={}),
    lambda service: service["spec"].update(predictors={}),
    lambda service: service["spec"].pop("predictor"),
    lambda service: service["metadata"].update(label={}),
    lambda service: service.update(status={}),
]


@pytest.mark.parametrize(
    ("breaks", "within"), [*((each, True) for each in BREAKS_PREDICTOR), *((each, False) for each in BREAKS_AROUND)]
)
def test_the_check_finds_what_is_wrong(service, breaks, within):
    broken = copy.deepcopy(service)
    breaks(broken["spec"]["predictor"] if within else broken)
    with pytest.raises(WRONG):
        valid(broken, VERSIONS[-1])


def test_its_pods_meet_the_restricted_standard(service):
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


def test_its_secret_is_in_the_example_with_the_keys_that_it_needs(service):
    needed = secret_keys(service["spec"]["predictor"])
    (kustomization,) = documents("serving/kustomization.yaml")
    assert needed == example_secrets(kustomization["namespace"])
    ((name, space, literals),) = re.findall(
        r"kubectl create secret generic (\S+) --namespace (\S+) \\\n((?:.*\\\n)*.*)", DOC
    )
    assert (name, space) == (*needed, kustomization["namespace"])
    assert set(re.findall(r"--from-literal=(\w+)=", literals)) == needed[name]


def test_mlflow_accepts_connections_of_its_pods(service):
    labels = service["spec"]["predictor"]["labels"]
    callers = named(documents("mlflow/network.yaml"), "mlflow")["spec"]["ingress"][0]["from"][0]
    assert callers["namespaceSelector"] == {}
    assert callers["podSelector"]["matchLabels"].items() <= labels.items()


def test_the_patch_of_the_image_matches_the_manifest(service):
    (kustomization,) = documents("serving/kustomization.yaml")
    (patch,) = kustomization["patches"]
    group, _, version = service["apiVersion"].partition("/")
    target = {"group": group, "version": version, "kind": service["kind"], "name": service["metadata"]["name"]}
    assert patch["target"] == target
    assert "/spec/predictor/containers/0/image" in patch["patch"]
    assert (DEPLOY / "serving" / kustomization["resources"][0]).is_file()
