"""Filters, sorts and pages the resources of a list call."""

import base64
import json
from typing import Any

from tests.support.kfp_server.shape import Refused, check


def page(resources: list[dict[str, Any]], query: dict[str, str]) -> tuple[list[dict[str, Any]], int, str]:
    """Return (resources of this page, number of all resources, token of the next page or "")."""
    criteria = [query.get("filter", ""), query.get("sort_by", "")]
    matches({}, criteria[0])  # refuses a wrong filter even if there is nothing to list
    kept = [resource for resource in resources if matches(resource, criteria[0])]
    field, _, order = (criteria[1] or "created_at").partition(" ")
    kept.sort(key=lambda resource: (str(resource.get(field, "")), resource["created_at"]), reverse=order == "desc")
    size = int(query.get("page_size") or 0) or 20
    if size < 0:
        raise Refused(400, f"The page size should be greater than 0. Got {size}")
    start = 0
    if query.get("page_token"):
        try:
            token = json.loads(base64.b64decode(query["page_token"]))
        except ValueError:
            raise Refused(400, "Invalid package token.") from None
        if criteria != ["", ""] and token["criteria"] != criteria:
            raise Refused(400, "page token does not match the supplied sort by and/or filtering criteria.")
        start = token["start"]
    end = start + min(size, 200)
    rest = json.dumps({"criteria": criteria, "start": end}).encode()
    return kept[start:end], len(kept), base64.b64encode(rest).decode() if end < len(kept) else ""


def matches(resource: dict[str, Any], text: str) -> bool:
    """Whether all predicates of a filter hold; a filter that protobuf could not read is refused."""
    if not text:
        return True
    try:
        predicates = json.loads(text)["predicates"]
    except (ValueError, KeyError, TypeError) as error:
        raise Refused(400, f"failed to parse valid filter from {text!r}: {error!r}") from None
    return all(_holds(resource, predicate) for predicate in predicates)


def _holds(resource: dict[str, Any], predicate: dict[str, Any]) -> bool:
    renamed = {"string_value" if key == "stringValue" else key: value for key, value in predicate.items()}
    # protobuf reads an enum by name or number; kfp.Client sends the number.
    operation = renamed["operation"] = {1: "EQUALS"}.get(renamed.get("operation"), renamed.get("operation"))
    check(renamed, "V2beta1Predicate", "filter")
    if renamed["key"] not in ("display_name", "name", "created_at", "status", "storage_state"):
        raise Refused(400, f"no support for filtering on unrecognized field {renamed['key']!r}")
    if operation != "EQUALS":
        raise Refused(400, f"the stand-in does not support {operation}")
    # Case-insensitive, like KFP's usual database, MySQL.
    return str(resource.get(renamed["key"])).lower() == str(renamed.get("string_value")).lower()
