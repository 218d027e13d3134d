"""Reads compiled pipelines as the server does: parses a package and checks a run's parameters against it."""

import json
import re
from typing import Any

import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from tests.support.kfp_server.shape import Refused

TYPES = {"STRUCT": dict, "STRING": str, "BOOLEAN": bool, "LIST": list}


def parse(package: bytes) -> dict[str, Any]:
    """`pipeline_spec` and, if there is one, `platform_spec`, as in a version's spec."""
    try:
        spec, *platform = yaml.load_all(package, yaml.CSafeLoader)
    except (yaml.YAMLError, ValueError) as error:
        raise Refused(400, f"Failed to parse the PipelineSpec: {error}") from None
    return check_spec({"pipeline_spec": spec} | ({"platform_spec": platform[0]} if platform else {}))


def check_spec(specs: dict[str, Any]) -> dict[str, Any]:
    """Return the specs if protobuf can read them; also takes a pipeline spec alone, as a run may carry it."""
    try:
        json_format.ParseDict(specs.get("pipeline_spec", specs), pipeline_spec_pb2.PipelineSpec())
        json_format.ParseDict(specs.get("platform_spec", {}), pipeline_spec_pb2.PlatformSpec())
    except (json_format.ParseError, ValueError) as error:
        raise Refused(400, f"Failed to parse the PipelineSpec: {error}") from None
    return specs


def check_parameters(spec: dict[str, Any], parameters: dict[str, Any]) -> None:
    """Refuse parameters that the pipeline does not take, as the API server does before it creates a workflow."""
    pipeline = spec.get("pipeline_spec", spec)
    known = pipeline.get("root", {}).get("inputDefinitions", {}).get("parameters", {})
    for name, value in parameters.items():
        if name not in known:
            raise Refused(400, f"parameter {name} is not found in the pipeline job's root input definitions")
        kind = known[name]["parameterType"]
        expected = TYPES.get(kind, (int, float))
        if not isinstance(value, expected) or (isinstance(value, bool) and kind != "BOOLEAN"):
            raise Refused(400, f"input parameter {name} requires type {kind}, but the parameter value is {value!r}")
    for name, definition in known.items():
        if name not in parameters and "defaultValue" not in definition and not definition.get("isOptional"):
            raise Refused(400, f"parameter {name} is required but not provided")
    json.dumps(parameters, allow_nan=False)


def multipart(body: bytes, content_type: str, field: str) -> bytes:
    """The file in a form's field."""
    boundary = re.search(r'boundary="?([^";]+)', content_type)
    for part in body.split(b"--" + boundary.group(1).encode()) if boundary else []:
        head, _, content = part.partition(b"\r\n\r\n")
        if f'name="{field}"; filename='.encode() in head:
            return content.removesuffix(b"\r\n")
    raise Refused(400, "Failed to read pipeline from file")
