"""TC strings of TCF 2.2 and 2.3. Owns their decoding to the last bit; judges nothing about purposes of ours.

Legitimate-interest bits are read only to refuse strings that carry one where none is allowed (purposes 1 and 3-6);
they are not kept, so that nothing can come to rely on them. A string of version 1, of a policy before 4 or of global
scope is refused, as its specification says.

Source: IAB Europe TCF v2.2/2.3, "Transparency and Consent String with Global Vendor & CMP List Formats".
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from common.errors import UndecodableSignal
from common.signals.bits import TEXT_MAX, BitReader, Ids
from common.taxonomy import SignalReason

VERSION: Final = 2
POLICY_VERSION_MIN: Final = 4
CMP_ID_MIN: Final = 2  # 0 and 1 were never assigned
PURPOSES: Final = 24
VENDOR_ID_MAX: Final = 65_535
CONSENT_ONLY: Final = frozenset({1, 3, 4, 5, 6})
"""Purposes that cannot rest on legitimate interest."""


class Segment(IntEnum):
    """Kinds of segments after the core."""

    DISCLOSED_VENDORS = 1
    ALLOWED_VENDORS = 2
    PUBLISHER_TC = 3


class RestrictionType(IntEnum):
    """What a publisher demands of vendors for one purpose."""

    NOT_ALLOWED = 0
    REQUIRE_CONSENT = 1
    REQUIRE_LEGITIMATE_INTEREST = 2


@dataclass(frozen=True, slots=True)
class Restriction:
    """One publisher restriction."""

    purpose: int
    kind: RestrictionType
    vendors: Ids


@dataclass(frozen=True, slots=True)
class TcString:
    """What a TC string says about consent.

    Attributes:
        created, last_updated: seconds since the epoch.
        purposes: TCF purposes consented to.
        purpose_one_undisclosed: storage on the device was not asked about at all.
        vendors: vendors consented to.
        disclosed: vendors shown to the person; None without that segment.
    """

    created: float
    last_updated: float
    cmp_id: int
    cmp_version: int
    language: str
    vendor_list_version: int
    policy_version: int
    purposes: frozenset[int]
    purpose_one_undisclosed: bool
    publisher_country: str
    vendors: Ids
    restrictions: tuple[Restriction, ...]
    disclosed: Ids | None


@dataclass(frozen=True, slots=True)
class _Head:
    """The fixed fields before the purposes."""

    created: float
    last_updated: float
    cmp_id: int
    cmp_version: int
    language: str
    vendor_list_version: int
    policy_version: int


def decode_tcf(text: str) -> TcString:
    """Decode a TC string.

    Args:
        text: core segment, then any of the optional segments once, separated by dots.

    Raises:
        UndecodableSignal: with the reason; nothing of the string is in it.
    """
    if len(text) > TEXT_MAX:
        raise UndecodableSignal(SignalReason.TOO_LONG)
    core, *others = text.split(".")
    reader = BitReader(core)
    head = _head(reader)
    purposes = _consented(reader)
    purpose_one_undisclosed, country = reader.flag(), reader.letters(2)
    vendors = reader.optimised_range()
    reader.optimised_range()  # vendors with legitimate interest: not ours to use
    restrictions = tuple(_restriction(reader) for _ in range(reader.integer(12)))
    reader.finish()
    return TcString(
        created=head.created,
        last_updated=head.last_updated,
        cmp_id=head.cmp_id,
        cmp_version=head.cmp_version,
        language=head.language,
        vendor_list_version=head.vendor_list_version,
        policy_version=head.policy_version,
        purposes=purposes,
        purpose_one_undisclosed=purpose_one_undisclosed,
        publisher_country=country,
        vendors=vendors,
        restrictions=restrictions,
        disclosed=_segments(others).get(Segment.DISCLOSED_VENDORS),
    )


def _head(reader: BitReader) -> _Head:
    if reader.integer(6) != VERSION:
        raise UndecodableSignal(SignalReason.UNSUPPORTED_VERSION)
    created, last_updated = reader.integer(36) / 10, reader.integer(36) / 10
    cmp_id, cmp_version, _screen = reader.integer(12), reader.integer(12), reader.integer(6)
    if cmp_id < CMP_ID_MIN:
        raise UndecodableSignal(SignalReason.BAD_VALUE)
    language, vendor_list_version, policy_version = reader.letters(2), reader.integer(12), reader.integer(6)
    if policy_version < POLICY_VERSION_MIN:
        raise UndecodableSignal(SignalReason.POLICY_VERSION)
    if not reader.flag():
        raise UndecodableSignal(SignalReason.GLOBAL_SCOPE)
    return _Head(created, last_updated, cmp_id, cmp_version, language, vendor_list_version, policy_version)


def _consented(reader: BitReader) -> frozenset[int]:
    """Purposes consented to; the legitimate-interest bits beside them are checked and dropped."""
    reader.flag()  # whether the CMP changed the standard texts
    reader.positions(12)  # special features: none is used here
    consented, claimed = reader.positions(PURPOSES), reader.positions(PURPOSES)
    if claimed & CONSENT_ONLY:
        raise UndecodableSignal(SignalReason.LEGITIMATE_INTEREST)
    return consented


def _restriction(reader: BitReader) -> Restriction:
    purpose, kind = reader.integer(6), reader.integer(2)
    if not 1 <= purpose <= PURPOSES or kind not in set(RestrictionType):
        raise UndecodableSignal(SignalReason.BAD_VALUE)
    return Restriction(purpose, RestrictionType(kind), reader.ranges(VENDOR_ID_MAX))


def _segments(texts: list[str]) -> dict[Segment, Ids]:
    """Vendors by optional segment. Each kind may occur once, so at most three are read."""
    found: dict[Segment, Ids] = {}
    for text in texts:
        reader = BitReader(text)
        kind = reader.integer(3)
        if kind not in set(Segment) or kind in found:
            raise UndecodableSignal(SignalReason.UNKNOWN_SEGMENT)
        found[Segment(kind)] = _publisher_tc(reader) if kind == Segment.PUBLISHER_TC else reader.optimised_range()
        reader.finish()
    return found


def _publisher_tc(reader: BitReader) -> Ids:
    """The publisher's own purposes: read to its end, and not used."""
    reader.positions(2 * PURPOSES)
    reader.positions(2 * reader.integer(6))
    return Ids()
