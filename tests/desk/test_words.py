"""Everything that is said is said in both languages."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

from common.taxonomy import (
    CapState,
    ConsentMethod,
    ConsentState,
    ControlScope,
    DenialReason,
    LogKind,
    NeighbouringRelation,
    PlanKind,
    RefusalReason,
    RejectionReason,
    ReleaseKind,
    RequestKind,
    RequestStatus,
    ReviewState,
    TrustModel,
)
from policies.notices import Locale
from server.dashboard.desk import DONE
from server.dashboard.menu import _MENU
from server.reports.exports import EXPORTS
from server.words import chosen, words

SERVER = Path("server")
ROOMS = ("dashboard", "reports")


def said(room: str) -> set[str]:
    """Every English text that code and templates of a room say."""
    found = set()
    for file in (SERVER / room).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text("utf-8"))):
            if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
                name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
                if name == "say" and isinstance(node.args[0].value, str):
                    found.add(node.args[0].value)
    for file in (SERVER / room).rglob("*.html"):
        text = file.read_text("utf-8")
        found |= set(re.findall(r'_\(\s*"((?:[^"\\]|\\.)*)"\s*[,)]', text))
        found |= set(re.findall(r"_\(\s*'((?:[^'\\]|\\.)*)'\s*[,)]", text))
    return found


def translations(room: str) -> dict[str, str]:
    found: dict[str, str] = json.loads((SERVER / room / "zh-CN.json").read_text("utf-8"))
    return found


@pytest.mark.parametrize("room", ROOMS)
def test_every_text_has_its_translation(room: str) -> None:
    texts, known = said(room), translations(room)
    assert len(texts) > 100
    assert sorted(texts - known.keys()) == []
    for text, translated in known.items():
        assert set(re.findall(r"{(\w+)}", text)) == set(re.findall(r"{(\w+)}", translated)), text
        assert translated.strip()


def test_codes_and_fixed_lists_have_theirs() -> None:
    known = translations("dashboard")
    codes = {
        member.value
        for kind in (
            CapState, ConsentMethod, ConsentState, ControlScope, DenialReason, LogKind, NeighbouringRelation,
            PlanKind, RefusalReason, RejectionReason, ReleaseKind, RequestKind, RequestStatus, ReviewState, TrustModel,
        )
        for member in kind
    }  # fmt: skip
    fixed = {*DONE.values(), *(export.title for export in EXPORTS.values())}
    fixed |= {group for group, _ in _MENU} | {name for _, pages in _MENU for _, name in pages}
    assert sorted((codes | fixed) - known.keys()) == []


def test_both_rooms_agree() -> None:
    first, second = translations("dashboard"), translations("reports")
    assert {text for text in first.keys() & second.keys() if first[text] != second[text]} <= {"Personal data"}


@pytest.mark.parametrize(
    ("wishes", "locale"),
    [
        (("", "de,fr"), "en"),
        (("zh-CN", "en"), "zh-CN"),
        (("", "zh-Hans;q=0.9"), "zh-CN"),
        (("", "de, en-GB, zh"), "en"),
        (("",), "en"),
    ],
)
def test_the_language_that_is_wished_for(wishes: tuple[str, ...], locale: Locale) -> None:
    assert chosen(*wishes) == locale
    assert words(locale, "dashboard")("Sign in") == {"en": "Sign in", "zh-CN": "登录"}[locale]
