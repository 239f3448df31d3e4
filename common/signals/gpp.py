"""GPP strings: header and sections. Owns which sections are understood; a section that is not stays in as a fault.

Source: IAB Tech Lab, "Global Privacy Platform String", version 1, and its list of section ids.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from common.errors import UndecodableSignal
from common.signals.bits import TEXT_MAX, BitReader
from common.signals.tcf import TcString, decode_tcf
from common.signals.us import SECTIONS, UsSection, decode_us
from common.signals.usp import UsPrivacy, decode_usp
from common.taxonomy import SignalReason

HEADER_TYPE: Final = 3
HEADER_VERSION: Final = 1
TCF_EU: Final = 2
US_PRIVACY: Final = 6

Content = TcString | UsPrivacy | UsSection


@dataclass(frozen=True, slots=True)
class GppSection:
    """One section: what it says, or why that cannot be known. Exactly one of ``content`` and ``fault`` is there."""

    number: int
    name: str
    content: Content | None = None
    fault: SignalReason | None = None


def decode_gpp(text: str) -> tuple[GppSection, ...]:
    """Decode a GPP string into all its sections, in their order.

    Raises:
        UndecodableSignal: the header is not to be trusted, so it is unknown what the sections are.
    """
    if len(text) > TEXT_MAX:
        raise UndecodableSignal(SignalReason.TOO_LONG)
    header, *sections = text.split("~")
    numbers = _numbers(header, len(sections))
    return tuple(_section(number, body) for number, body in zip(numbers, sections, strict=True))


def _numbers(header: str, count: int) -> tuple[int, ...]:
    """Section ids from the header: as many as there are sections, and at least one."""
    reader = BitReader(header)
    if reader.integer(6) != HEADER_TYPE or reader.integer(6) != HEADER_VERSION:
        raise UndecodableSignal(SignalReason.UNSUPPORTED_VERSION)
    numbers = reader.fibonacci_ranges(count_max=count)
    reader.finish()
    if len(numbers) != count or HEADER_TYPE in numbers or not numbers:
        raise UndecodableSignal(SignalReason.BAD_VALUE)
    return numbers


def _section(number: int, body: str) -> GppSection:
    """A section, with its fault in place of its content if it has one."""
    name = _NAMES.get(number, "unknown")
    try:
        return GppSection(number, name, content=_content(number, body))
    except UndecodableSignal as error:
        return GppSection(number, name, fault=error.reason)


def _content(number: int, body: str) -> Content:
    if number == TCF_EU:
        return decode_tcf(body)
    if number == US_PRIVACY:
        return decode_usp(body)
    if number in SECTIONS:
        return decode_us(SECTIONS[number], body)
    raise UndecodableSignal(SignalReason.UNKNOWN_SECTION)


_NAMES: Final = {TCF_EU: "tcfeuv2", US_PRIVACY: "uspv1"} | {
    number: layout.prefix for number, layout in SECTIONS.items()
}
