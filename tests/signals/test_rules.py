"""What an installation can decide about signals, and that the strictest wins."""

from __future__ import annotations

import json
from itertools import permutations
from typing import Any

import pytest

from common.signals import gpc
from common.signals.rules import DisclosedVendors, GpcSubsection, SignalRules, VendorRule
from common.signals.verdict import Received, SignalVerdict, judge
from common.taxonomy import Purpose, SignalKind, SignalReason
from tests.signals.plain import bits_of, text_of
from tests.signals.test_own_vectors import FILE

TEXTS: dict[str, Any] = {vector["name"]: vector["text"] for vector in FILE["vectors"]}
ALL_GIVEN = TEXTS["all purposes, vendor 7"]
RULES, NOW = SignalRules(vendor=7), float(FILE["now"])
DAY = 86_400


def opposed(received: Received, rules: SignalRules = RULES, now: float = NOW) -> dict[Purpose, SignalReason]:
    return judge(received, rules, now).opposed


def test_no_signal_opposes_nothing() -> None:
    assert judge(Received(), RULES, NOW) == SignalVerdict()
    assert opposed(Received()) == {}


def test_without_a_vendor_id_no_tc_string_is_enough() -> None:
    assert set(opposed(Received(tcf=ALL_GIVEN), SignalRules()).values()) == {SignalReason.VENDOR_NOT_CONFIGURED}
    assert opposed(Received(tcf=ALL_GIVEN), SignalRules(vendor=VendorRule.UNCHECKED)) == {}


def test_unchecked_vendor_heeds_every_restriction() -> None:
    received = Received(tcf=TEXTS["publisher forbids purpose 4 to vendor 8"])
    rules = SignalRules(vendor=VendorRule.UNCHECKED)
    assert opposed(received, rules) == {Purpose.PLACE_PERSONALISED: SignalReason.PUBLISHER_RESTRICTION}


def test_legacy_spares_only_old_strings_of_the_old_policy() -> None:
    core = ALL_GIVEN.split(".")[0]
    legacy = SignalRules(vendor=VendorRule.UNCHECKED, disclosed_vendors=DisclosedVendors.LEGACY)
    strict = SignalRules(vendor=VendorRule.UNCHECKED)
    assert SignalReason.NO_DISCLOSED_VENDORS in opposed(Received(tcf=core), legacy).values()
    old, moment = legacy_string(), 1_770_000_000.0
    assert opposed(Received(tcf=old), legacy, moment + DAY) == {}
    assert SignalReason.NO_DISCLOSED_VENDORS in opposed(Received(tcf=old), strict, moment + DAY).values()


def legacy_string() -> str:
    """The good string, made February 2026 and policy 4, without its segment."""
    bits = bits_of(ALL_GIVEN.split(".")[0])
    date = format(17_700_000_000, "036b")
    return text_of(bits[:6] + date * 2 + bits[78:132] + format(4, "06b") + bits[138:])


@pytest.mark.parametrize("days", [0, 394, 395])
def test_a_choice_holds_thirteen_months(days: int) -> None:
    made = 1_790_000_000.0
    assert opposed(Received(tcf=ALL_GIVEN), RULES, made + days * DAY) == {}
    late = opposed(Received(tcf=ALL_GIVEN), RULES, made + 395 * DAY + 1)
    assert set(late.values()) == {SignalReason.OUTDATED}


def test_optional_gpc_subsection_is_a_decision() -> None:
    received = Received(gpp=TEXTS["California, GPC subsection cut off"])
    assert set(opposed(received).values()) == {SignalReason.NO_GPC_SUBSECTION}
    assert opposed(received, SignalRules(vendor=7, gpc_subsection=GpcSubsection.OPTIONAL)) == {}


def test_the_strictest_wins_in_any_combination() -> None:
    """Signals that oppose nothing never take back what another one opposes."""
    mild = {"tcf": ALL_GIVEN, "gpp": TEXTS["California, nothing opted out"], "us_privacy": "1YNN"}
    harsh = {"tcf": "C", "gpp": TEXTS["California, GPC inside"], "us_privacy": "1YYN"}
    assert opposed(Received(**mild)) == {}
    for names in permutations(mild, 1):
        mixed = mild | {name: harsh[name] for name in names}
        assert set(opposed(Received(**mixed))) == set(Purpose)
    assert set(opposed(Received(gpc=True, **mild)).values()) == {SignalReason.OPT_OUT}


def test_findings_name_signal_and_section() -> None:
    verdict = judge(Received(gpc=True, gpp=TEXTS["EU and US Privacy"], us_privacy="1YYN", tcf=""), RULES, NOW)
    named = [(found.signal, found.section, bool(found.opposed)) for found in verdict.findings]
    assert named == [
        (SignalKind.GPC, None, True),
        (SignalKind.GPP, "tcfeuv2", False),
        (SignalKind.GPP, "uspv1", False),
        (SignalKind.US_PRIVACY, None, True),
        (SignalKind.TCF, None, True),
    ]


GPC_VALUES = {
    ("1",): True,
    (" 1\t",): True,
    ("0", "1"): True,
    ("0, 1",): True,
    (): False,
    ("",): False,
    ("0",): False,
    ("11",): False,
    ("true",): False,
    ("1;a",): False,
    ("１",): False,
}


def test_gpc_is_exactly_one() -> None:
    for values, expected in GPC_VALUES.items():
        assert gpc.opted_out(values) is expected, values


def test_raw_strings_are_in_no_repr() -> None:
    received = Received(tcf=ALL_GIVEN, gpp="DBABMA~secret", us_privacy="1YNN")
    shown = repr(received) + repr(judge(received, RULES, NOW)) + json.dumps(opposed(received))
    assert not any(text in shown for text in (ALL_GIVEN, "secret", "1YNN"))
