"""Writes a JSON Schema of KServe's InferenceService, from the typed models of its Python package.

Reads a wheel of `kserve` (`pip download --no-deps kserve==…`) without executing it; its models are generated from
KServe's OpenAPI document. Writes `inferenceservice.json`, against which `test_deploy_serving.py` checks the manifest;
it refers to Kubernetes' own definitions by name. To write it again:

    python -m tests.support.kserve.making kserve-0.21.0-py3-none-any.whl

Unknown fields are forbidden, as with `kubectl apply --validate=strict`. The models contain only names and types, no
ranges or allowed values.
"""

import ast
import hashlib
import json
import re
import sys
import zipfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SCHEMA = HERE / "inferenceservice.json"
ROOT = "V1beta1InferenceService"
LEFT_OUT = {"V1beta1InferenceServiceStatus"}  # written by KServe only
PLAIN = {"str": "string", "int": "integer", "bool": "boolean", "float": "number", "object": "object"}
KUBERNETES = "kubernetes:"  # prefix of the name of a Kubernetes definition
_PARTS = {
    "V1ObjectMeta": "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta",
    "ResourceQuantity": "io.k8s.apimachinery.pkg.api.resource.Quantity",
    "V1beta1MetricQuantity": "io.k8s.apimachinery.pkg.api.resource.Quantity",  # missing in the package
    "K8sIoApiAppsV1DeploymentStrategy": "io.k8s.api.apps.v1.DeploymentStrategy",
    "K8sIoApiAutoscalingV2HorizontalPodAutoscalerBehavior": (
        "io.k8s.api.autoscaling.v2.HorizontalPodAutoscalerBehavior"
    ),
}


def make(wheel: Path) -> dict[str, Any]:
    """The schema of an InferenceService and all types that it refers to."""
    with zipfile.ZipFile(wheel) as files:
        models = dict(
            model
            for name in files.namelist()
            if re.fullmatch(r"kserve/models/v1beta1_\w+\.py", name)
            for model in _models(files.read(name).decode())
        )
    wanted, found = [ROOT], {}
    while wanted:
        name = wanted.pop()
        if name not in found:
            fields, required = models[name]
            found[name] = {
                "type": "object",
                "additionalProperties": False,
                "properties": {field: _schema(kind, wanted) for field, kind in sorted(fields.items())},
                **({"required": required} if required else {}),
            }
    version = wheel.name.split("-")[1]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$comment": f"Names and types from the Python package kserve {version}, Copyright 2023 The KServe Authors, "
        "Apache License 2.0 (see LICENSE); put into this form by tests/support/kserve/making.py. SHA-256 of the wheel: "
        + hashlib.sha256(wheel.read_bytes()).hexdigest(),
        "$ref": f"#/$defs/{ROOT}",
        "$defs": dict(sorted(found.items())),
    }


def _models(source: str) -> list[tuple[str, tuple[dict[str, str], list[str]]]]:
    """The models of a source file: (class, ({field as in YAML: type}, required fields))."""
    found = []
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef):
            tables = {
                target.id: ast.literal_eval(each.value)
                for each in node.body
                if isinstance(each, ast.Assign)
                for target in each.targets
                if isinstance(target, ast.Name) and target.id in ("openapi_types", "attribute_map")
            }
            names = tables["attribute_map"]
            fields = {names[key]: kind for key, kind in tables["openapi_types"].items() if kind not in LEFT_OUT}
            required = re.findall(r"Invalid value for `(\w+)`, must not be `None`", ast.unparse(node))
            found.append((node.name, (fields, sorted({names[key] for key in required}))))
    return found


def _schema(kind: str, wanted: list[str]) -> dict[str, Any]:
    if kind in PLAIN:
        return {"type": PLAIN[kind]}
    if inner := re.fullmatch(r"list\[(.+)\]", kind):
        return {"type": "array", "items": _schema(inner[1], wanted)}
    if inner := re.fullmatch(r"dict\(str, (.+)\)", kind):
        return {"type": "object", "additionalProperties": _schema(inner[1], wanted)}
    if kind.startswith("V1beta1") and kind not in _PARTS:
        wanted.append(kind)
        return {"$ref": f"#/$defs/{kind}"}
    return {"$ref": KUBERNETES + _PARTS.get(kind, f"io.k8s.api.core.v1.{kind.removeprefix('V1')}")}


if __name__ == "__main__":
    SCHEMA.write_text(json.dumps(make(Path(sys.argv[1])), indent=1) + "\n")
