"""Checks parsed JSON against the models of kfp_server_api; returns plain values.

Stricter than a real server, which drops unknown fields: here a misspelt field fails the test.
"""

import re
from typing import Any

import kfp_server_api

RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
# 64-bit integers: protobuf's JSON writes them as strings and reads both.
LONGS = ("max_concurrency", "interval_second")


class Refused(Exception):  # noqa: N818
    """A request that the API refuses; `status` is the HTTP status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


def check(value: Any, kind: str, where: str) -> Any:
    """Return the value if it is of a kind that kfp_server_api names: 'str', 'list[V2beta1Run]', 'V2beta1Trigger'."""

    def require(fulfilled: bool, expected: str = kind) -> None:
        if not fulfilled:
            raise Refused(400, f"{where}: expected {expected}, got {value!r}")

    if kind == "object":
        return value
    if kind.startswith("dict("):
        require(isinstance(value, dict), "an object")
        return {key: check(item, kind[:-1].split(", ", 1)[1], f"{where}.{key}") for key, item in value.items()}
    if kind.startswith("list["):
        require(isinstance(value, list), "a list")
        return [check(item, kind[5:-1], where) for item in value]
    if kind == "str" and where.rsplit(".", 1)[-1] in LONGS and isinstance(value, int):
        return str(value)
    if plain := {"str": str, "int": int, "bool": bool}.get(kind):
        require(isinstance(value, plain) and (plain is bool or not isinstance(value, bool)))
        return value
    if kind == "datetime":
        require(isinstance(value, str) and bool(RFC3339.fullmatch(value)), "an RFC 3339 time")
        return value
    model = getattr(kfp_server_api, kind)
    if not model.openapi_types:
        allowed = [getattr(model, name) for name in dir(model) if name.isupper()]
        require(value in allowed, f"one of {allowed}")
        return value
    require(isinstance(value, dict))
    types = {model.attribute_map[name]: kind for name, kind in model.openapi_types.items()}
    unknown = sorted(set(value) - set(types))
    if unknown:
        raise Refused(400, f"{where}: {kind} has no field {', '.join(unknown)}")
    return {key: check(item, types[key], f"{where}.{key}") for key, item in value.items()}
