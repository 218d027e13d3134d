"""Filter, sort and pages of a list call: resources and query parameters in, one page and the next token out."""

import base64
import json
from typing import Any

from tests.support.kfp_server.shape import Refused, check

OPERATIONS = {1: "EQUALS", 2: "NOT_EQUALS", 8: "IN", 9: "IS_SUBSTRING"}


def page(resources: list[dict[str, Any]], query: dict[str, str]) -> tuple[list[dict[str, Any]], int, str]:
    """(resources of this page, how many there are in all, token of the next page or "")."""
    matches({}, query.get("filter", ""))  # refused even where there is nothing to list
    kept = [resource for resource in resources if matches(resource, query.get("filter", ""))]
    field, _, order = (query.get("sort_by") or "created_at").partition(" ")
    kept.sort(key=lambda resource: (str(resource.get(field, "")), resource["created_at"]), reverse=order == "desc")
    size = int(query.get("page_size") or 0) or 20
    if size < 0:
        raise Refused(400, f"The page size should be greater than 0. Got {size}")
    start = 0
    criteria = [query.get("filter", ""), query.get("sort_by", "")]
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
    """Whether all predicates hold; a filter that protobuf would not read is refused."""
    if not text:
        return True
    try:
        predicates = json.loads(text)["predicates"]
    except (ValueError, KeyError, TypeError) as error:
        raise Refused(400, f"failed to parse valid filter from {text!r}: {error!r}") from None
    return all(_holds(resource, predicate) for predicate in predicates)


def _holds(resource: dict[str, Any], predicate: dict[str, Any]) -> bool:
    names = {"stringValue": "string_value", "intValue": "int_value", "stringValues": "string_values"}
    named = {names.get(key, key): value for key, value in predicate.items()}
    # protobuf reads an enum by its name or by its number; kfp.Client sends the number.
    operation: Any = named.get("operation")
    named["operation"] = OPERATIONS.get(operation, operation)
    check(named, "V2beta1Predicate", "filter")
    if named["key"] not in ("display_name", "name", "created_at", "status", "storage_state"):
        raise Refused(400, f"no support for filtering on unrecognized field {named['key']!r}")
    found, wanted = resource.get(named["key"]), named.get("string_value")
    if named["operation"] == "EQUALS":
        # As MySQL, KFP's usual database, compares.
        return str(found).lower() == str(wanted).lower()
    if named["operation"] == "IS_SUBSTRING":
        return str(wanted) in str(found)
    raise Refused(400, f"the stand-in knows no {named['operation']}")
