"""Every cut, extension and single flipped bit of known strings, with counts. ``python -m tests.signals.fuzz``: all.

What is promised, and checked here:

1. A cut or an extended string is refused, or it opposes at least what the whole one opposed and says no purpose more.
   (Who appends the segment that a string lacks, and was opposed for, has completed it: that alone is let pass.)
2. A string with one flipped bit is refused, or it is read exactly as an independent plain reading reads its bits; so a
   purpose whose own bit is 0 is never reported. (A flipped consent bit is, to everybody, a string of somebody else.)
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from common.errors import UndecodableSignal
from common.signals.bits import Ids
from common.signals.gpp import GppSection, decode_gpp
from common.signals.rules import TCF_PURPOSES, SignalRules, VendorRule
from common.signals.tcf import TcString, decode_tcf
from common.signals.us import SECTIONS, UsSection
from common.signals.usp import UsPrivacy
from common.signals.verdict import Received, judge
from common.taxonomy import SignalReason
from tests.signals import plain

IAB = Path(__file__).with_name("vectors") / "iab.json"
NOW = 1_795_305_600.0  # 2026-11-22
RULES = SignalRules(vendor=VendorRule.UNCHECKED)
INCOMPLETE = {SignalReason.NO_DISCLOSED_VENDORS, SignalReason.NO_GPC_SUBSECTION}
TAILS = (*plain.ALPHABET, "AA", "AAAA", ".", ".A", ".IAAA", ".YAAA", ".QAAA", ".YA", "~", "~1YNN", "=", " ", "\n", "é")


def iab_vectors() -> list[dict[str, object]]:
    return list(json.loads(IAB.read_text(encoding="utf-8"))["vectors"])


def ids(found: Ids) -> set[int]:
    return {number for first, last in found.ranges for number in range(first, last + 1)}


def received(kind: str, text: str) -> Received:
    return Received(tcf=text) if kind == "tcf" else Received(gpp=text)


def said(kind: str, text: str) -> tuple[GppSection, ...]:
    """What a string says, as sections; those with a fault say nothing.

    Raises:
        UndecodableSignal: the whole string is refused.
    """
    return (GppSection(2, "tcfeuv2", content=decode_tcf(text)),) if kind == "tcf" else decode_gpp(text)


def shortened_or_extended(kind: str, text: str) -> Counter[str]:
    """Promise 1 for one string."""
    counts = Counter[str]()
    whole = {section.number: section for section in said(kind, text)}
    verdict = judge(received(kind, text), RULES, NOW).opposed
    opposed = {purpose for purpose, reason in verdict.items() if reason not in INCOMPLETE}
    for name, altered in variants(text):
        try:
            sections = said(kind, altered)
        except UndecodableSignal:
            counts[f"{name}, refused"] += 1
            continue
        after = set(judge(received(kind, altered), RULES, NOW).opposed)
        assert after >= (set(verdict) if name == "cut" else opposed), (text, altered)
        for section in sections:
            if isinstance(section.content, TcString):
                before = whole[section.number].content
                assert isinstance(before, TcString)
                assert section.content.purposes <= before.purposes, (text, altered)
        faulty = any(section.fault for section in sections)
        counts[f"{name}, {'a section refused' if faulty else 'says no more than the whole'}"] += 1
    return counts


def variants(text: str) -> Iterator[tuple[str, str]]:
    for end in range(len(text)):
        yield "cut", text[:end]
    for tail in TAILS:
        yield "extended", text + tail


def flipped(kind: str, text: str) -> Counter[str]:
    """Promise 2 for one string."""
    counts = Counter[str]()
    for altered in flips(text):
        verdict = judge(received(kind, altered), RULES, NOW)
        try:
            sections = said(kind, altered)
        except UndecodableSignal:
            assert len(verdict.opposed) == len(TCF_PURPOSES)
            counts["flipped, refused"] += 1
            continue
        bodies = [altered] if kind == "tcf" else altered.split("~")[1:]
        for section, body in zip(sections, bodies, strict=True):
            compare(section, body)
        if any(section.fault for section in sections):
            assert len(verdict.opposed) == len(TCF_PURPOSES)
            counts["flipped, a section refused"] += 1
            continue
        for section, body in zip(sections, bodies, strict=True):
            for purpose in TCF_PURPOSES.keys() - verdict.opposed.keys() if section.number == 2 else ():
                assert TCF_PURPOSES[purpose] <= plain.purposes(body), (text, altered)
        counts["flipped, read as the plain reading reads it"] += 1
    return counts


def flips(text: str) -> Iterator[str]:
    for at, char in enumerate(text):
        if char in plain.ALPHABET:
            value = plain.ALPHABET.index(char)
            for bit in range(6):
                yield text[:at] + plain.ALPHABET[value ^ (1 << bit)] + text[at + 1 :]


def compare(section: GppSection, body: str) -> None:
    """Our reading of a section against the plain one."""
    ours = section.content
    if isinstance(ours, TcString):
        theirs = plain.tc_string(body)
        mine = {name: getattr(ours, name) for name in ("created", "last_updated", "cmp_id", "policy_version")}
        mine |= {"purposes": set(ours.purposes), "vendors": ids(ours.vendors)}
        mine |= {"restrictions": [(r.purpose, r.kind, ids(r.vendors)) for r in ours.restrictions]}
        mine |= {"disclosed": None if ours.disclosed is None else ids(ours.disclosed)}
        assert mine == theirs, body
    elif isinstance(ours, UsSection):
        core, *others = body.split(".")
        layout = SECTIONS[section.number].cores[ours.version]
        assert [list(a) for a in ours.fields.values()] == plain.answers(core, [count for _, count in layout]), body
        assert ours.version == plain.number(plain.bits_of(core), 0, 6)
        if ours.gpc is not None:
            assert ours.gpc is (plain.bits_of(others[0])[2] == "1")
    elif isinstance(ours, UsPrivacy):
        spelt = {True: "Y", False: "N", None: "-"}
        assert body == "1" + spelt[ours.notice] + spelt[ours.sale_opt_out] + spelt[ours.lspa_covered]


def run(vectors: list[dict[str, object]]) -> Counter[str]:
    """Both promises over these vectors."""
    counts = Counter[str](strings=len(vectors))
    for vector in vectors:
        kind, text = str(vector["kind"]), str(vector["text"])
        counts += shortened_or_extended(kind, text) + flipped(kind, text)
    return counts


def report(counts: Counter[str]) -> str:
    return "\n".join(f"  {count:>9,}  {name}" for name, count in sorted(counts.items()))


if __name__ == "__main__":
    sys.stdout.write(f"{report(run(iab_vectors()))}\n")
