"""Signals in requests, and what is answered about them. Owns their form; a raw string is never in an answer."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StrictBool

from common.errors import UndecodableSignal
from common.signals.gpp import GppSection, decode_gpp
from common.signals.rules import SignalRules
from common.signals.tcf import TcString, decode_tcf
from common.signals.us import UsSection
from common.signals.usp import UsPrivacy
from common.signals.verdict import Finding, Received, SignalVerdict
from common.taxonomy import Purpose, SignalKind, SignalReason

Raw = Annotated[str | None, Field(repr=False)]


class Signals(BaseModel):
    """Privacy signals that the app has seen. Absent is not empty: an empty string cannot be read and opposes all."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    gpc: StrictBool = False
    tcf: Raw = Field(default=None, description="TC string, TCF 2.2 or 2.3.")
    gpp: Raw = Field(default=None, description="GPP string; every section in it counts.")
    us_privacy: Raw = Field(default=None, description="US Privacy string, such as 1YNN.")

    def received(self) -> Received:
        """The signals as the decoders take them."""
        return Received(self.gpc, self.tcf, self.gpp, self.us_privacy)


class Answer(BaseModel):
    """Base of what is answered."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SignalFinding(Answer):
    """What one signal, or one section of a GPP string, opposes."""

    signal: SignalKind
    section: str | None = Field(description="API prefix of a GPP section, such as usca.")
    opposes: dict[Purpose, SignalReason]

    @classmethod
    def of(cls, finding: Finding) -> SignalFinding:
        """From a finding."""
        return cls(signal=finding.signal, section=finding.section, opposes=dict(finding.opposed))


class Standing(Answer):
    """How a purpose stands after all signals. Not opposed is not permitted: that takes the person's own grant."""

    opposed: bool
    reason: SignalReason | None


class TcSummary(Answer):
    """What a TC string says, as far as it concerns this installation."""

    created: float
    last_updated: float
    cmp_id: int
    policy_version: int
    vendor_list_version: int
    publisher_country: str
    purposes: tuple[int, ...]
    vendor_consent: bool | None = Field(description="For our vendor id; null where none is configured.")
    vendor_disclosed: bool | None = Field(description="Null without that segment or without a vendor id.")

    @classmethod
    def of(cls, said: TcString, rules: SignalRules) -> TcSummary:
        """From a decoded string."""
        vendor = rules.vendor if isinstance(rules.vendor, int) else None
        return cls(
            created=said.created,
            last_updated=said.last_updated,
            cmp_id=said.cmp_id,
            policy_version=said.policy_version,
            vendor_list_version=said.vendor_list_version,
            publisher_country=said.publisher_country,
            purposes=tuple(sorted(said.purposes)),
            vendor_consent=None if vendor is None else vendor in said.vendors,
            vendor_disclosed=None if vendor is None or said.disclosed is None else vendor in said.disclosed,
        )


class SectionSummary(Answer):
    """One section of a GPP string: what it says, or why that cannot be known."""

    number: int
    name: str
    fault: SignalReason | None
    tcf: TcSummary | None = None
    gpc: bool | None = None
    answers: dict[str, tuple[int, ...]] | None = Field(default=None, description="Two-bit fields of a US section.")
    us_privacy: tuple[bool | None, bool | None, bool | None] | None = Field(
        default=None, description="Notice given, sale opted out, covered transaction; null: not applicable."
    )

    @classmethod
    def of(cls, section: GppSection, rules: SignalRules) -> SectionSummary:
        """From a decoded section."""
        said = section.content
        usp = (said.notice, said.sale_opt_out, said.lspa_covered) if isinstance(said, UsPrivacy) else None
        return cls(
            number=section.number,
            name=section.name,
            fault=section.fault,
            tcf=TcSummary.of(said, rules) if isinstance(said, TcString) else None,
            gpc=said.gpc if isinstance(said, UsSection) else None,
            answers=dict(said.fields) if isinstance(said, UsSection) else None,
            us_privacy=usp,
        )


class DecodedSignals(Answer):
    """All signals of a request, decoded, with one verdict: the strictest wins."""

    purposes: dict[Purpose, Standing]
    findings: tuple[SignalFinding, ...]
    tcf: TcSummary | None = Field(description="Null if there was none or it could not be read.")
    gpp: tuple[SectionSummary, ...]

    @classmethod
    def of(
        cls, received: Received, verdict: SignalVerdict, opposed: dict[Purpose, SignalReason], rules: SignalRules
    ) -> DecodedSignals:
        """From signals and what they oppose."""
        standing = {p: Standing(opposed=p in opposed, reason=opposed.get(p)) for p in Purpose}
        return cls(
            purposes=standing,
            findings=tuple(SignalFinding.of(finding) for finding in verdict.findings),
            tcf=_tcf(received.tcf, rules),
            gpp=_gpp(received.gpp, rules),
        )


class GpcSupport(Answer):
    """The support statement of W3C's Global Privacy Control."""

    gpc: bool
    lastUpdate: str  # noqa: N815 - the name that the standard gives it


def _tcf(text: str | None, rules: SignalRules) -> TcSummary | None:
    try:
        return None if text is None else TcSummary.of(decode_tcf(text), rules)
    except UndecodableSignal:
        return None


def _gpp(text: str | None, rules: SignalRules) -> tuple[SectionSummary, ...]:
    try:
        return () if text is None else tuple(SectionSummary.of(section, rules) for section in decode_gpp(text))
    except UndecodableSignal:
        return ()
