"""One verdict over all signals of a request. Owns the rule that the strictest wins.

A signal that is there and cannot be decoded opposes every purpose; so does an empty one. A signal that is absent
opposes nothing: it takes the person's own grant to permit anything.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from common.errors import UndecodableSignal
from common.signals.gpp import GppSection, decode_gpp
from common.signals.rules import GpcSubsection, SignalRules, tcf_objections
from common.signals.tcf import TcString, decode_tcf
from common.signals.us import us_objection
from common.signals.usp import UsPrivacy, decode_usp, usp_objection
from common.taxonomy import Purpose, SignalKind, SignalReason


@dataclass(frozen=True, slots=True)
class Received:
    """Signals as they came. The strings are personal data: they are in no ``repr`` and live as long as the request."""

    gpc: bool = False
    tcf: str | None = field(default=None, repr=False)
    gpp: str | None = field(default=None, repr=False)
    us_privacy: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Finding:
    """What one signal, or one section of a GPP string, opposes.

    Attributes:
        section: API prefix of the GPP section; None elsewhere.
        opposed: reason by purpose; a purpose that is not in it is not opposed.
    """

    signal: SignalKind
    section: str | None
    opposed: Mapping[Purpose, SignalReason]


@dataclass(frozen=True, slots=True)
class SignalVerdict:
    """Findings of all signals that were there, in a fixed order."""

    findings: tuple[Finding, ...] = ()

    @property
    def opposed(self) -> dict[Purpose, SignalReason]:
        """Purposes that any signal opposes, each with the first reason."""
        return {purpose: reason for purpose in Purpose if (reason := self.reason(purpose)) is not None}

    def reason(self, purpose: Purpose) -> SignalReason | None:
        """Why a purpose is opposed; None if no signal opposes it."""
        return next((found.opposed[purpose] for found in self.findings if purpose in found.opposed), None)


def judge(received: Received, rules: SignalRules, now: float) -> SignalVerdict:
    """Decode every signal and say what they oppose together.

    Args:
        received: the signals of one request.
        rules: of this installation.
        now: seconds since the epoch.
    """
    findings: list[Finding] = []
    if received.gpc:
        findings.append(Finding(SignalKind.GPC, None, dict.fromkeys(Purpose, SignalReason.OPT_OUT)))
    if received.gpp is not None:
        findings += _gpp(received.gpp, rules, now)
    if received.us_privacy is not None:
        findings.append(_decoded(SignalKind.US_PRIVACY, received.us_privacy, lambda text: _usp(decode_usp(text))))
    if received.tcf is not None:
        findings.append(
            _decoded(SignalKind.TCF, received.tcf, lambda text: tcf_objections(decode_tcf(text), rules, now))
        )
    return SignalVerdict(tuple(findings))


def _gpp(text: str, rules: SignalRules, now: float) -> list[Finding]:
    try:
        sections = decode_gpp(text)
    except UndecodableSignal as error:
        return [Finding(SignalKind.GPP, None, dict.fromkeys(Purpose, error.reason))]
    return [Finding(SignalKind.GPP, section.name, _objections(section, rules, now)) for section in sections]


def _objections(section: GppSection, rules: SignalRules, now: float) -> Mapping[Purpose, SignalReason]:
    """What a section opposes: everything if it has a fault."""
    if section.content is None:
        return dict.fromkeys(Purpose, section.fault or SignalReason.UNKNOWN_SECTION)
    if isinstance(section.content, TcString):
        return tcf_objections(section.content, rules, now)
    if isinstance(section.content, UsPrivacy):
        return _usp(section.content)
    required = rules.gpc_subsection is GpcSubsection.REQUIRED
    return _everything(us_objection(section.content, gpc_required=required))


def _usp(said: UsPrivacy) -> Mapping[Purpose, SignalReason]:
    return _everything(usp_objection(said))


def _everything(reason: SignalReason | None) -> Mapping[Purpose, SignalReason]:
    """US law knows opt-outs, not our purposes: an opt-out is one from all of them."""
    return {} if reason is None else dict.fromkeys(Purpose, reason)


def _decoded(kind: SignalKind, text: str, read: Callable[[str], Mapping[Purpose, SignalReason]]) -> Finding:
    try:
        return Finding(kind, None, read(text))
    except UndecodableSignal as error:
        return Finding(kind, None, dict.fromkeys(Purpose, error.reason))
