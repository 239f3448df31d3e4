"""US sections of GPP strings: national, California and the other states. Owns their layouts and what opposes us.

All core fields have two bits: 0 not applicable, 1 and 2 as the field says; 3 is an error. The sections of Maryland,
Indiana, Kentucky and Rhode Island are read as IAB's own library writes them; the draft header of their specifications
lists subsection 0, which Fibonacci coding cannot express, so that form is refused by its version.

Source: IAB Tech Lab, GPP section specifications "US National" (versions 1 and 2) and "US States".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from common.errors import UndecodableSignal
from common.signals.bits import BitReader
from common.taxonomy import SignalReason

_ANSWERS_MAX: Final = 2
_MSPA_SERVICE_PROVIDER: Final = 2


class Extra(StrEnum):
    """The one optional subsection that a section may have."""

    NONE = "none"
    GPC = "gpc"
    SENSITIVE = "sensitive"


@dataclass(frozen=True, slots=True)
class Layout:
    """A section: its API prefix, field widths by version, and its optional subsection."""

    prefix: str
    cores: Mapping[int, tuple[tuple[str, int], ...]]
    extra: Extra


@dataclass(frozen=True, slots=True)
class UsSection:
    """A decoded section.

    Attributes:
        fields: the two-bit answers by name.
        gpc: None without that subsection.
        may_say_gpc: whether the section has such a subsection at all.
    """

    prefix: str
    version: int
    fields: Mapping[str, tuple[int, ...]]
    gpc: bool | None
    may_say_gpc: bool


_MSPA: Final = "MspaCoveredTransaction MspaOptOutOptionMode MspaServiceProviderMode"
_NATIONAL: Final = (
    "SharingNotice SaleOptOutNotice SharingOptOutNotice TargetedAdvertisingOptOutNotice "
    "SensitiveDataProcessingOptOutNotice SensitiveDataLimitUseNotice SaleOptOut SharingOptOut TargetedAdvertisingOptOut"
)
_CHOICES: Final = "SaleOptOutNotice TargetedAdvertisingOptOutNotice SaleOptOut TargetedAdvertisingOptOut"
_SENSITIVE: Final = "SensitiveDataProcessing"
_CHILD: Final = "KnownChildSensitiveDataConsents"
_MORE: Final = "AdditionalDataProcessingConsent"


def _core(text: str) -> tuple[tuple[str, int], ...]:
    """Fields and how many answers each has, from ``Name`` and ``Name*count``."""
    parts = (word.partition("*") for word in text.split())
    return tuple((name, int(count or 1)) for name, _, count in parts)


def _first_wave(prefix: str, sensitive: int, children: int, extra: Extra) -> Layout:
    """States of 2023: a sharing notice, no consent to additional processing."""
    text = f"SharingNotice {_CHOICES} {_SENSITIVE}*{sensitive} {_CHILD}*{children} {_MSPA}"
    return Layout(prefix, {1: _core(text)}, extra)


def _second_wave(
    prefix: str, sensitive: int, children: int, extra: Extra = Extra.GPC, *, notice: str = "ProcessingNotice"
) -> Layout:
    """States since 2024: a processing notice and consent to additional processing."""
    text = f"{notice} {_CHOICES} {_SENSITIVE}*{sensitive} {_CHILD}*{children} {_MORE} {_MSPA}"
    return Layout(prefix, {1: _core(text)}, extra)


def _third_wave(prefix: str, child: str, extra: Extra) -> Layout:
    """States since 2026: the agreement first, sensitive data in a subsection. The version is that of the agreement."""
    text = f"MspaCoveredTransaction MspaMode ProcessingNotice {_CHOICES} {child} {_MORE}"
    return Layout(prefix, {1: _core(text)}, extra)


SECTIONS: Final[Mapping[int, Layout]] = {
    7: Layout(
        "usnat",
        {
            1: _core(f"{_NATIONAL} {_SENSITIVE}*12 {_CHILD}*2 PersonalDataConsents {_MSPA}"),
            2: _core(f"{_NATIONAL} {_SENSITIVE}*16 {_CHILD}*3 PersonalDataConsents {_MSPA}"),
        },
        Extra.GPC,
    ),
    8: Layout(
        "usca",
        {
            1: _core(
                "SaleOptOutNotice SharingOptOutNotice SensitiveDataLimitUseNotice SaleOptOut SharingOptOut "
                f"{_SENSITIVE}*9 {_CHILD}*2 PersonalDataConsents {_MSPA}"
            )
        },
        Extra.GPC,
    ),
    9: _first_wave("usva", 8, 1, Extra.NONE),
    10: _first_wave("usco", 7, 1, Extra.GPC),
    11: Layout(
        "usut",
        {
            1: _core(
                "SharingNotice SaleOptOutNotice TargetedAdvertisingOptOutNotice SensitiveDataProcessingOptOutNotice "
                f"SaleOptOut TargetedAdvertisingOptOut {_SENSITIVE}*8 {_CHILD} {_MSPA}"
            )
        },
        Extra.NONE,
    ),
    12: _first_wave("usct", 8, 3, Extra.GPC),
    13: _second_wave("usfl", 8, 3, Extra.NONE),
    14: _second_wave("usmt", 8, 3, notice="SharingNotice"),
    15: _second_wave("usor", 11, 3),
    16: _second_wave("ustx", 8, 1),
    17: _second_wave("usde", 9, 5),
    18: Layout(
        "usia",
        {
            1: _core(
                "ProcessingNotice SaleOptOutNotice TargetedAdvertisingOptOutNotice SensitiveDataOptOutNotice "
                f"SaleOptOut TargetedAdvertisingOptOut {_SENSITIVE}*8 {_CHILD} {_MSPA}"
            )
        },
        Extra.GPC,
    ),
    19: _second_wave("usne", 8, 1),
    20: _second_wave("usnh", 8, 3),
    21: _second_wave("usnj", 10, 5),
    22: _second_wave("ustn", 8, 1),
    23: _second_wave("usmn", 8, 1),
    24: _third_wave("usmd", "", Extra.GPC),
    25: _third_wave("usin", _CHILD, Extra.SENSITIVE),
    26: _third_wave("usky", _CHILD, Extra.SENSITIVE),
    27: _third_wave("usri", _CHILD, Extra.SENSITIVE),
}


def decode_us(layout: Layout, text: str) -> UsSection:
    """Decode one section.

    Args:
        layout: of the section that the header announces.
        text: core, and at most one subsection behind a dot.

    Raises:
        UndecodableSignal: with the reason.
    """
    core, *others = text.split(".")
    reader = BitReader(core)
    version = reader.integer(6)
    if version not in layout.cores:
        raise UndecodableSignal(SignalReason.UNSUPPORTED_VERSION)
    fields = {name: _answers(reader, count) for name, count in layout.cores[version]}
    if fields["MspaCoveredTransaction"] == (0,):
        raise UndecodableSignal(SignalReason.BAD_VALUE)
    reader.finish()
    if len(others) > 1 or (others and layout.extra is Extra.NONE):
        raise UndecodableSignal(SignalReason.UNKNOWN_SEGMENT)
    gpc = _extra(layout.extra, others[0]) if others else None
    return UsSection(layout.prefix, version, fields, gpc, may_say_gpc=layout.extra is Extra.GPC)


def us_objection(section: UsSection, *, gpc_required: bool) -> SignalReason | None:
    """Why a section opposes every purpose, or None.

    A choice counts only under a notice; a known child is protected whatever was agreed to for them.

    Args:
        section: decoded.
        gpc_required: a section that may say GPC must say it. Nothing else in the string tells that it is missing, so
            without this rule a string cut off before it would lose an opt-out unnoticed.
    """
    if section.gpc:
        return SignalReason.OPT_OUT
    if any(section.fields.get(_CHILD, ())):
        return SignalReason.KNOWN_CHILD
    objections = [_choice_objection(section, choice, reason) for choice, reason in _OPT_OUTS.items()]
    objections += [_other_objection(section, gpc_required=gpc_required)]
    return next((reason for reason in objections if reason is not None), None)


def _other_objection(section: UsSection, *, gpc_required: bool) -> SignalReason | None:
    """What opposes us although nobody opted out."""
    fields = section.fields
    if (_ANSWERS_MAX,) in (fields.get("SharingNotice"), fields.get("ProcessingNotice")):
        return SignalReason.NO_NOTICE
    if (1,) in (fields.get("PersonalDataConsents"), fields.get(_MORE)):
        return SignalReason.NO_CONSENT
    if fields.get("MspaServiceProviderMode") == (1,) or fields.get("MspaMode") == (_MSPA_SERVICE_PROVIDER,):
        return SignalReason.SERVICE_PROVIDER
    unsaid = section.gpc is None and section.may_say_gpc
    return SignalReason.NO_GPC_SUBSECTION if unsaid and gpc_required else None


_OPT_OUTS: Final = {
    "SaleOptOut": SignalReason.SALE_OPT_OUT,
    "SharingOptOut": SignalReason.SHARING_OPT_OUT,
    "TargetedAdvertisingOptOut": SignalReason.TARGETED_ADVERTISING_OPT_OUT,
}


def _choice_objection(section: UsSection, choice: str, reason: SignalReason) -> SignalReason | None:
    """1: opted out. 2: did not, which counts only where notice was given (1)."""
    (chosen,), (notice,) = section.fields.get(choice, (0,)), section.fields.get(f"{choice}Notice", (0,))
    if chosen == 1:
        return reason
    if notice == _ANSWERS_MAX:
        return SignalReason.NO_NOTICE
    return SignalReason.INCONSISTENT if chosen and not notice else None


def _answers(reader: BitReader, count: int) -> tuple[int, ...]:
    answers = tuple(reader.integer(2) for _ in range(count))
    if max(answers) > _ANSWERS_MAX:
        raise UndecodableSignal(SignalReason.BAD_VALUE)
    return answers


def _extra(kind: Extra, text: str) -> bool | None:
    """The GPC bit; None for sensitive-data consents, which are read to their end and not used."""
    reader = BitReader(text)
    gpc = None
    if kind is Extra.GPC:
        if reader.integer(2) != 1:
            raise UndecodableSignal(SignalReason.UNKNOWN_SEGMENT)
        gpc = reader.flag()
    else:
        _answers(reader, 8)
    reader.finish()
    return gpc
