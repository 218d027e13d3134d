"""Bodies as the published API has them: in comes parsed JSON and a model of kfp_server_api, out comes a plain dict.

Stricter than a real server, which drops fields that it does not know: a misspelt field shall fail a test.
"""

import re
from typing import Any

import kfp_server_api

RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
# 64-bit integers, which protobuf's JSON writes as strings and reads as either.
LONGS = ("max_concurrency", "interval_second")


class Refused(Exception):  # noqa: N818
    """A request that the API refuses; status is HTTP's, as the gateway derives it from the gRPC code."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def check(value: Any, kind: str, where: str) -> Any:
    """`value` if it is of the kind that kfp_server_api names: 'str', 'list[V2beta1Run]', 'V2beta1Trigger'..."""
    if kind == "object":
        return value
    if kind.startswith("dict("):
        inner = kind[:-1].split(", ", 1)[1]
        if not isinstance(value, dict):
            raise Refused(400, f"{where}: expected an object, got {value!r}")
        return {key: check(item, inner, f"{where}.{key}") for key, item in value.items()}
    if kind.startswith("list["):
        if not isinstance(value, list):
            raise Refused(400, f"{where}: expected a list, got {value!r}")
        return [check(item, kind[5:-1], where) for item in value]
    plain = {"str": str, "int": int, "bool": bool}.get(kind)
    if plain is str and where.rsplit(".", 1)[-1] in LONGS and isinstance(value, int):
        return str(value)
    if plain is not None:
        if not isinstance(value, plain) or (plain is int and isinstance(value, bool)):
            raise Refused(400, f"{where}: expected {kind}, got {value!r}")
        return value
    if kind == "datetime":
        if not isinstance(value, str) or not RFC3339.fullmatch(value):
            raise Refused(400, f"{where}: expected an RFC 3339 time, got {value!r}")
        return value
    model = getattr(kfp_server_api, kind)
    if not model.openapi_types:
        allowed = [getattr(model, name) for name in dir(model) if name.isupper()]
        if value not in allowed:
            raise Refused(400, f"{where}: {value!r} is none of {allowed}")
        return value
    if not isinstance(value, dict):
        raise Refused(400, f"{where}: expected {kind}, got {value!r}")
    types = {model.attribute_map[name]: kind for name, kind in model.openapi_types.items()}
    unknown = sorted(set(value) - set(types))
    if unknown:
        raise Refused(400, f"{where}: {kind} has no field {', '.join(unknown)}")
    return {key: check(item, types[key], f"{where}.{key}") for key, item in value.items()}
