"""Compiled pipelines as the server reads them: a package's bytes in, parsed spec and checked parameters out."""

import json
import re
from typing import Any

import yaml
from google.protobuf import json_format
from kfp.pipeline_spec import pipeline_spec_pb2

from tests.support.kfp_server.shape import Refused

TYPES = {"STRUCT": dict, "STRING": str, "BOOLEAN": bool, "LIST": list}


def parse(package: bytes) -> dict[str, Any]:
    """`pipeline_spec` and, if there is one, `platform_spec`, as a version's spec holds them."""
    try:
        spec, *platform = yaml.load_all(package, yaml.CSafeLoader)
        json_format.ParseDict(spec, pipeline_spec_pb2.PipelineSpec())
        for document in platform:
            json_format.ParseDict(document, pipeline_spec_pb2.PlatformSpec())
    except (yaml.YAMLError, json_format.ParseError, ValueError) as error:
        raise Refused(400, f"Failed to parse the PipelineSpec: {error}") from None
    return {"pipeline_spec": spec} | ({"platform_spec": platform[0]} if platform else {})


def check_parameters(spec: dict[str, Any], parameters: dict[str, Any]) -> None:
    """Refuse what a run of this pipeline does not take, as the API server does before it makes a workflow."""
    pipeline = spec.get("pipeline_spec", spec)
    known = pipeline.get("root", {}).get("inputDefinitions", {}).get("parameters", {})
    for name, value in parameters.items():
        if name not in known:
            raise Refused(400, f"parameter {name} is not found in the pipeline job's root input definitions")
        kind = known[name]["parameterType"]
        wanted = TYPES.get(kind, (int, float))
        if not isinstance(value, wanted) or (isinstance(value, bool) and kind != "BOOLEAN"):
            raise Refused(400, f"input parameter {name} requires type {kind}, but the parameter value is {value!r}")
    for name, definition in known.items():
        optional = "defaultValue" in definition or definition.get("isOptional")
        if name not in parameters and not optional:
            raise Refused(400, f"parameter {name} is required but not provided")
    json.dumps(parameters, allow_nan=False)


def multipart(body: bytes, content_type: str, field: str) -> bytes:
    """The file that a form holds under `field`."""
    boundary = re.search(r'boundary="?([^";]+)', content_type)
    for part in body.split(b"--" + boundary.group(1).encode()) if boundary else []:
        head, _, content = part.partition(b"\r\n\r\n")
        if f'name="{field}"; filename='.encode() in head:
            return content.removesuffix(b"\r\n")
    raise Refused(400, "Failed to read pipeline from file")
