"""The OpenAPI document. Owns what every operation says beside its own words: roles, scope, proofs, statuses, headers.

There is no ``default`` answer in it: a status that is not named is a fault, and a test looks for one.
"""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Callable, Mapping
from typing import Any, Final

from common.taxonomy import Role
from server.api import errors, security

_PROBLEM: Final = {"$ref": "#/components/schemas/Problem"}
_MEANING: Final = {
    400: "Not understood.",
    401: "No valid key or signature.",
    403: "Not allowed, or refused for a reason that is named.",
    404: "Not known.",
    409: "Not now: the state of things or a request before this one forbids it.",
    410: "Too late.",
    412: "It has changed since it was read.",
    413: "The body is too long.",
    422: "Not of the declared form.",
    429: "Too many requests with this credential.",
    503: "The database does not answer.",
}
# What single endpoints answer beside what their form implies.
_MORE: Final[Mapping[tuple[str, str], tuple[int, ...]]] = {
    ("POST", "/v1/events"): (403, 410),
    ("GET", "/openrtb2/billing/{token}"): (403, 409, 410),
    ("PUT", "/v1/catalog"): (412,),
    ("PUT", "/v1/placements/{slot_id}"): (412,),
    ("DELETE", "/v1/placements/{slot_id}"): (412,),
    ("PUT", "/v1/campaigns/{campaign_id}"): (412,),
    ("DELETE", "/v1/campaigns/{campaign_id}"): (409, 412),
    ("POST", "/v1/campaigns/{campaign_id}/moves"): (412,),
    ("POST", "/v1/campaigns/{campaign_id}/review"): (412,),
    ("POST", "/v1/creatives/{creative_id}/moves"): (412,),
    ("POST", "/v1/creatives/{creative_id}/review"): (412,),
    ("PUT", "/v1/creatives/{creative_id}"): (412,),
    ("DELETE", "/v1/creatives/{creative_id}"): (409, 412),
    ("GET", "/v1/dsr/{request_id}/package"): (409, 410),
}
_IDEMPOTENCY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Random; the same request with the same key within 24 hours gets the same answer.",
    "schema": {"type": "string", "minLength": 16, "maxLength": 255, "pattern": "^[!-~]+$"},
    "example": "8e03978e-40d5-43e8-bc93-6894a57f9324",
}
_SCHEMES: Final = {
    "api_key": {"type": "http", "scheme": "bearer", "bearerFormat": "rtk_…"},
    "device_signature": {
        "type": "apiKey",
        "in": "header",
        "name": "Signature",
        "description": "RFC 9421, Ed25519, tag reticent-device-v1, keyid = the subject's handle, or for an enrolment "
        "the public key that is enrolled; covers @method, "
        "@target-uri, content-digest and idempotency-key (where sent), with created (300 s) and a fresh nonce.",
    },
}
_LIMITS: Final = {
    "RateLimit": {"description": "What is left of the quota.", "schema": {"type": "string"}},
    "RateLimit-Policy": {"description": "The quota.", "schema": {"type": "string"}},
}


def documented(plain: Callable[[], dict[str, Any]]) -> Callable[[], dict[str, Any]]:
    """The framework's document, with what it does not know."""

    @functools.cache
    def openapi() -> dict[str, Any]:
        schema = plain()
        components = schema.setdefault("components", {})
        components["securitySchemes"] = dict(_SCHEMES)
        schemas = components.setdefault("schemas", {})
        schemas["Problem"] = errors.Problem.model_json_schema()
        for name in ("HTTPValidationError", "ValidationError"):
            schemas.pop(name, None)
        for path, item in schema["paths"].items():
            for method, operation in item.items():
                schemas |= _own_schemas(operation)
                _complete(method.upper(), path, operation)
        return schema

    return openapi


def text(schema: Mapping[str, Any]) -> str:
    """The document as it is checked in."""
    return json.dumps(schema, indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def _complete(method: str, path: str, operation: dict[str, Any]) -> None:
    roles = security.ACCESS.get((method, path), frozenset())
    if roles:
        operation["security"] = _proofs(roles)
        operation["x-roles"] = sorted(role.value for role in roles)
        operation["x-scope"] = security.scope_of(method, path)
    if method == "POST" and not security.reads(method, path) and path not in security.DECIDED_ANEW:
        operation.setdefault("parameters", []).append(_IDEMPOTENCY)
    if {"304"} & operation["responses"].keys():
        operation.setdefault("parameters", []).append(
            {"name": "If-None-Match", "in": "header", "required": False, "schema": {"type": "string"}}
        )
    for status in sorted(_statuses(method, path, operation, roles)):
        operation["responses"][str(status)] = _answer(status)
    if roles:
        for answer in operation["responses"].values():
            answer.setdefault("headers", {}).update(_LIMITS)


def _own_schemas(operation: dict[str, Any]) -> dict[str, Any]:
    """The parts of a body that was declared by hand: they belong to all the others, where references look for them."""
    operation |= copy.deepcopy({name: found for name, found in operation.items() if name == "requestBody"})
    bodies = operation.get("requestBody", {}).get("content", {}).values()
    return {name: part for body in bodies for name, part in body["schema"].pop("$defs", {}).items()}


def _proofs(roles: frozenset[Role]) -> list[dict[str, list[str]]]:
    proofs: list[dict[str, list[str]]] = []
    if Role.DEVICE in roles:
        proofs.append({"device_signature": []})
    if roles - {Role.DEVICE}:
        proofs.append({"api_key": []})
    return proofs


def _statuses(method: str, path: str, operation: Mapping[str, Any], roles: frozenset[Role]) -> set[int]:
    """What the form of an endpoint implies, without what it names itself."""
    found = {503} | set(_MORE.get((method, path), ()))
    if roles:
        found |= {401, 403, 429} | ({409} if Role.DEVICE in roles else set())
    if operation.get("parameters"):
        found |= {400, 422}
    if "{" in path or roles or method != "GET":
        found |= {404}
    if method in {"POST", "PUT", "PATCH"}:
        found |= {400, 409, 413, 422, 429} if method == "POST" else {400, 409, 413, 422}
    own = {int(status) for status in operation["responses"] if status.isdecimal() and status != "422"}
    return found - own


def _answer(status: int) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "description": _MEANING[status],
        "content": {errors.MEDIA_TYPE: {"schema": dict(_PROBLEM)}},
    }
    if status in {429, 503}:
        answer["headers"] = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
    return answer
