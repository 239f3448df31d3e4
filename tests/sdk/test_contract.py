"""The client and the OpenAPI document say the same: paths, roles, bodies, answers; and it imports nothing of ours."""

from __future__ import annotations

import ast
import dataclasses
import json
import sys
import types
import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from jsonschema import Draft202012Validator

from common.wire.messages import SlotRequest
from common.wire.pick import Pick as WirePick
from common.wire.pick import PrivatePick
from reticent_client import answers, calls
from reticent_client.asked import Asked, DeviceMessage, Pick, Signals, Slot
from reticent_client.calls import Again, Call
from reticent_client.decode import fields
from reticent_client.errors import UnexpectedAnswer

ROOT: Final = Path(__file__).resolve().parents[2]
DOCUMENT: Final[dict[str, Any]] = json.loads((ROOT / "docs" / "openapi.json").read_text("utf-8"))
HANDLE: Final = "q3Yx0mVbS1uJ7eHcKf2nPw"
SIGNALS: Final = Signals(gpc=True, tcf="C", gpp="D", us_privacy="1YNN")
CALLS: Final[tuple[Call[Any], ...]] = (
    calls.decide(
        [Slot("home-top", 2)],
        handle=HANDLE,
        context={"page": "recipes", "depth": 2.0},
        locale="zh-CN",
        signals=SIGNALS,
        tmax_ms=200,
        blocked_categories=["tea"],
        blocked_advertisers=["a"],
        pick=Pick("default", 3, 1, 1.0, "0" * 64),
    ),
    calls.decide([Slot("a")], tmax_ms=1),
    calls.confirm("rft3." + "x" * 60, "click"),
    calls.check(HANDLE, ["place.personalised"], SIGNALS),
    calls.record(HANDLE, "0" * 64, {"train.local": "given"}, locale="en", surface="settings", signals=SIGNALS),
    calls.withdraw(HANDLE, None),
    calls.withdraw(HANDLE, ["train.local"]),
    calls.notice("en", "CN"),
)
PLAIN: Final = {str: "string", int: "integer", bool: "boolean", float: "number"}
CLOSED: Final = {
    "DecisionMode": answers.Mode,
    "FollowUp": answers.FollowUp,
    "Purpose": answers.Purpose,
}


def operation(call: Call[Any]) -> dict[str, Any]:
    return dict(DOCUMENT["paths"][call.path][call.method.lower()])


def resolved(schema: Mapping[str, Any]) -> dict[str, Any]:
    if "$ref" in schema:
        return dict(DOCUMENT["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    return dict(schema)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: f"{call.method} {call.path}")
def test_every_call_is_one_that_a_backend_may_make(call: Call[Any]) -> None:
    found = operation(call)
    assert "app_backend" in found.get("x-roles", ["app_backend"])
    takes_key = any(one["name"] == "Idempotency-Key" for one in found.get("parameters", []))
    assert (call.idempotency_key is not None) is takes_key
    repeatable = takes_key or call.method == "GET" or call.path in {"/v1/consents/check", "/v1/consents/withdraw"}
    assert (call.again is Again.SAFE) is repeatable
    assert {one["name"] for one in found.get("parameters", []) if one["in"] == "query"} >= set(call.params)


@pytest.mark.parametrize("call", [call for call in CALLS if call.body is not None], ids=lambda call: call.path)
def test_every_body_is_of_the_declared_form(call: Call[Any]) -> None:
    schema = operation(call)["requestBody"]["content"]["application/json"]["schema"]
    validator = Draft202012Validator({**schema, "components": DOCUMENT["components"]})
    assert call.body is not None
    assert list(validator.iter_errors(json.loads(json.dumps(call.body)))) == []
    assert set(call.body) <= set(resolved(schema)["properties"])
    wrong = {**call.body, "unheard_of": 1}
    assert list(validator.iter_errors(wrong)), "the control: what is not declared is caught"


def answer_schema(call: Call[Any]) -> dict[str, Any]:
    good = operation(call)["responses"].keys() & {"200", "201", "202"}
    (answer,) = (operation(call)["responses"][status] for status in good)
    return dict(answer["content"]["application/json"]["schema"])


@pytest.mark.parametrize(
    ("call", "name"), [(call, "NoticeAnswer" if call.path.startswith("/v1/notices") else "") for call in CALLS], ids=str
)
def test_every_answer_is_read_as_it_is_declared(call: Call[Any], name: str) -> None:
    """Each field that the client reads is there, of its type, and may be missing only where the client knows it."""
    schema = {"$ref": f"#/components/schemas/{name}"} if name else answer_schema(call)
    assert list(differences(call.answer, schema, call.answer.__name__)) == []


def differences(kind: Any, schema: Mapping[str, Any], where: str) -> Iterator[str]:  # noqa: ANN401 - any type
    """Where a type of the client and a schema do not agree."""
    origin, args, plain = typing.get_origin(kind), typing.get_args(kind), resolved(schema)
    if origin in {types.UnionType, typing.Union}:
        inner = [one for one in schema.get("anyOf", []) if one.get("type") != "null"]
        if len(inner) == len(schema.get("anyOf", [])):
            yield f"{where} is never null"
        for one in inner:
            yield from differences(next(arg for arg in args if arg is not types.NoneType), one, where)
    elif dataclasses.is_dataclass(kind):
        yield from _of_object(typing.cast("type", kind), plain, where)
    elif origin is tuple:
        yield from differences(args[0], plain.get("items", {}), f"{where}[]")
    elif origin is Mapping:
        yield from differences(args[1], plain.get("additionalProperties", {}), f"{where}{{}}")
    elif plain.get("type") != PLAIN[kind]:
        yield f"{where}: {plain.get('type')} read as {kind.__name__}"


@pytest.mark.parametrize(
    ("call", "name"), [(call, "NoticeAnswer" if call.path.startswith("/v1/notices") else "") for call in CALLS], ids=str
)
def test_every_declared_field_of_an_answer_is_carried(call: Call[Any], name: str) -> None:
    """An app must not have to read the service's JSON beside the client."""
    schema = {"$ref": f"#/components/schemas/{name}"} if name else answer_schema(call)
    assert list(left_out(call.answer, schema, call.answer.__name__)) == []


def left_out(kind: Any, schema: Mapping[str, Any], where: str) -> Iterator[str]:  # noqa: ANN401 - any type
    """Fields of the document that a type of the client does not have, however deep."""
    origin, args, plain = typing.get_origin(kind), typing.get_args(kind), resolved(schema)
    if origin in {types.UnionType, typing.Union}:
        for one in schema.get("anyOf", []):
            if one.get("type") != "null":
                yield from left_out(next(arg for arg in args if arg is not types.NoneType), one, where)
    elif dataclasses.is_dataclass(kind):
        carried = fields(typing.cast("type", kind))
        for name, declared in plain.get("properties", {}).items():
            if name in carried:
                yield from left_out(carried[name][0], declared, f"{where}.{name}")
            else:
                yield f"{where}.{name}"
    elif origin is tuple:
        yield from left_out(args[0], plain.get("items", {}), f"{where}[]")
    elif origin is Mapping:
        yield from left_out(args[1], plain.get("additionalProperties", {}), f"{where}{{}}")


def test_a_field_left_out_is_caught() -> None:
    """The control, at the top, in a list, and behind a null."""
    schema = answer_schema(CALLS[0])

    def without(kind: type, name: str, **instead: object) -> type:
        kept = [(n, instead.get(n, hint)) for n, (hint, _) in fields(kind).items() if n != name]
        return dataclasses.make_dataclass(kind.__name__, kept)

    assert list(left_out(without(answers.Decision, "permit"), schema, "D")) == ["D.permit"]
    creative = without(answers.Creative, "call_to_action")
    position = without(answers.Position, "", creative=creative | None)
    decision = without(answers.Decision, "", slots=tuple[position, ...])  # type: ignore[valid-type]
    assert list(left_out(decision, schema, "D")) == ["D.slots[].creative.call_to_action"]
    signal = without(answers.PrivacySignal, "signals")
    decision = without(answers.Decision, "", privacy_signal=signal)
    assert list(left_out(decision, schema, "D")) == ["D.privacy_signal.signals"]


def test_everything_that_a_decision_takes_can_be_said() -> None:
    """``kind`` is for a device's own message."""
    taken = resolved(operation(CALLS[0])["requestBody"]["content"]["application/json"]["schema"])["properties"]
    assert set(CALLS[0].body or {}) == set(taken) - {"kind"}
    assert set(Asked.__optional_keys__) - {"tmax_ms"} == set(taken) - {"kind", "tmax", "slots"}


def test_what_has_no_meaning_is_not_dropped_silently() -> None:
    with pytest.raises(TypeError, match="signal"):
        calls.decide([Slot("a")], signal=Signals(gpc=True))  # type: ignore[call-arg]


def test_a_devices_message_is_read_and_its_pick_handed_on_as_it_is() -> None:
    message = PrivatePick(
        handle=HANDLE,
        slots=(SlotRequest(slot_id="top", count=2),),
        context={"page": "recipes"},
        locale="zh-CN",
        pick=WirePick(slot_group="default", epoch=7, index=3, epsilon=1.0, list_hash="a" * 64),
    )
    read = DeviceMessage.read(message.model_dump_json())
    assert (read.handle, read.slots, read.context, read.locale) == (
        HANDLE,
        (Slot("top", 2),),
        {"page": "recipes"},
        "zh-CN",
    )
    assert read.pick.told() == message.pick.model_dump()
    assert DeviceMessage.read(message.model_dump(mode="json")) == read
    assert HANDLE not in repr(read)
    assert "index" not in repr(read)
    for broken in ("", "[]", b"{}", '{"handle": "h"}', message.model_dump_json().replace('"index":3', '"index":"3"')):
        with pytest.raises(UnexpectedAnswer):
            DeviceMessage.read(broken)


def _of_object(kind: type, schema: Mapping[str, Any], where: str) -> Iterator[str]:
    for name, (hint, optional) in fields(kind).items():
        found = schema.get("properties", {}).get(name)
        if found is None:
            yield f"{where}.{name} is not in the document"
            continue
        if not optional and name not in schema.get("required", []) and "default" not in found:
            yield f"{where}.{name} may be missing"
        yield from differences(hint, found, f"{where}.{name}")


def test_a_difference_is_caught() -> None:
    """The control: a field that is gone, one of another type, one that may be null."""
    schema = {"$ref": "#/components/schemas/Verdict"}

    def differs(**hints: object) -> list[str]:
        made = dataclasses.make_dataclass("Made", list(hints.items()))
        return list(differences(made, schema, "Made"))

    assert differs(permitted=bool) == []
    assert differs(allowed=bool)
    assert differs(permitted=int)
    assert differs(reason=str)


def test_closed_lists_are_those_of_the_service() -> None:
    for name, words in CLOSED.items():
        assert set(DOCUMENT["components"]["schemas"][name]["enum"]) == set(typing.get_args(words)), name


def imported(source: str) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {one.name.partition(".")[0] for one in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add((node.module or "").partition(".")[0] if not node.level else ".")
    return found


def test_the_client_imports_httpx_and_nothing_of_ours() -> None:
    allowed = set(sys.stdlib_module_names) | {"httpx", "reticent_client"}
    sources = list((ROOT / "sdk" / "reticent_client").rglob("*.py"))
    assert len(sources) > 5
    for source in sources:
        assert imported(source.read_text("utf-8")) <= allowed, source.name
    for offence in (
        "import server.api",
        "from common.errors import X",
        "def f():\n import pydantic",
        "from . import x",
    ):
        assert not imported(offence) <= allowed, offence
