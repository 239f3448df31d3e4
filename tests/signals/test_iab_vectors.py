"""Strings made and read by IAB's own JavaScript libraries: our decoders say the same about every one of them."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from common.signals.gpp import decode_gpp
from common.signals.tcf import TcString, decode_tcf
from common.signals.us import SECTIONS, UsSection
from common.signals.usp import UsPrivacy
from tests.signals.fuzz import iab_vectors

VECTORS = iab_vectors()
USP = {"Y": True, "N": False, "-": None}


def as_they_say(ours: TcString) -> dict[str, Any]:
    return {
        "created": ours.created,
        "last_updated": ours.last_updated,
        "cmp_id": ours.cmp_id,
        "cmp_version": ours.cmp_version,
        "language": ours.language,
        "vendor_list_version": ours.vendor_list_version,
        "policy_version": ours.policy_version,
        "purposes": sorted(ours.purposes),
        "purpose_one_undisclosed": ours.purpose_one_undisclosed,
        "publisher_country": ours.publisher_country,
        "vendors": [list(entry) for entry in ours.vendors.ranges],
        "restrictions": sorted(
            [r.purpose, int(r.kind), [list(e) for e in r.vendors.ranges]] for r in ours.restrictions
        ),
        "disclosed": None if ours.disclosed is None else [list(entry) for entry in ours.disclosed.ranges],
    }


def check_tcf(ours: TcString, theirs: dict[str, Any]) -> None:
    assert as_they_say(ours) == theirs | {"restrictions": sorted(theirs["restrictions"])}


def check_us(ours: UsSection, theirs: dict[str, Any]) -> None:
    for name, answers in ours.fields.items():
        assert list(answers) == (theirs[name] if isinstance(theirs[name], list) else [theirs[name]]), name
    assert ours.version == theirs.get("Version", theirs.get("MspaVersion"))
    assert ours.gpc == (theirs.get("Gpc") if theirs.get("GpcSegmentIncluded") else None)


def check_gpp(text: str, theirs: dict[str, Any]) -> None:
    sections = decode_gpp(text)
    assert [section.name for section in sections] == sorted(theirs, key=list(theirs).index)
    for section in sections:
        expected = theirs[section.name]
        if isinstance(section.content, TcString):
            check_tcf(section.content, expected)
        elif isinstance(section.content, UsPrivacy):
            said = (section.content.notice, section.content.sale_opt_out, section.content.lspa_covered)
            assert said == tuple(USP[expected[name]] for name in ("Notice", "OptOutSale", "LspaCovered"))
        else:
            assert isinstance(section.content, UsSection), section
            check_us(section.content, expected)


def test_every_vector_agrees(capsys: pytest.CaptureFixture[str]) -> None:
    seen = set[str]()
    for vector in VECTORS:
        if vector["kind"] == "tcf":
            check_tcf(decode_tcf(str(vector["text"])), vector["tcf"])  # type: ignore[arg-type]
            seen.add("tc string")
        else:
            check_gpp(str(vector["text"]), vector["sections"])  # type: ignore[arg-type]
            seen |= set(vector["sections"])  # type: ignore[call-overload]
    with capsys.disabled():
        sys.stdout.write(f"\n{len(VECTORS)} vectors of IAB's libraries agree: {', '.join(sorted(seen))}\n")
    assert seen == {"tc string", "tcfeuv2", "uspv1"} | {layout.prefix for layout in SECTIONS.values()}
