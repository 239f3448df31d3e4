"""What a TC string means for our purposes. Owns the mapping of purposes and the rules about vendors and dates.

Every rule can only add an objection. Publisher restrictions count where they name our vendor, or anybody at all while
the vendor is not checked. Consent is the only legal basis here, so a restriction to legitimate interest is a no.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from common.signals.tcf import Restriction, RestrictionType, TcString
from common.taxonomy import Purpose, SignalReason

TCF_PURPOSES: Final[Mapping[Purpose, frozenset[int]]] = {
    Purpose.TRAIN_LOCAL: frozenset({1, 3}),
    Purpose.TRAIN_CONTRIBUTE: frozenset({10}),
    Purpose.PLACE_PERSONALISED: frozenset({4}),
    Purpose.MEASURE_AGGREGATE: frozenset({7, 9}),
}
"""All of these TCF purposes must be consented to; what our purposes need of each other comes on top."""

EARLIEST: Final = 1_567_296_000.0
"""2019-09-01: no TC string of version 2 is older (seconds since the epoch)."""
LEGACY_UNTIL: Final = 1_772_323_200.0
"""2026-03-01: from then on every string must say which vendors were disclosed (TCF 2.3)."""
LEGACY_POLICY: Final = 4
AGE_MAX_S: Final = 395 * 86_400.0
"""Thirteen months: a choice must be asked for again by then."""
CLOCK_TOLERANCE_S: Final = 86_400.0
"""TC strings carry days, not times: a day ahead may be a clock east of ours."""


class VendorRule(StrEnum):
    """What to do without a vendor id of our own."""

    REFUSE = "refuse"
    UNCHECKED = "unchecked"


class DisclosedVendors(StrEnum):
    """Whether the segment of TCF 2.3 must be there.

    LEGACY lets strings of TCF 2.2 pass without it if they were last updated before March 2026.
    """

    REQUIRED = "required"
    LEGACY = "legacy"


class GpcSubsection(StrEnum):
    """Whether US sections must have the GPC subsection that their specifications leave optional.

    OPTIONAL gives up one promise: that no cut of a string loses an opt-out.
    """

    REQUIRED = "required"
    OPTIONAL = "optional"


@dataclass(frozen=True, slots=True)
class SignalRules:
    """How an installation reads signals. The default refuses every TC string: nobody said whose consent is meant.

    Attributes:
        vendor: our id in the Global Vendor List, or what to do without one.
        disclosed_vendors: whether strings without that segment are still read.
        gpc_subsection: whether US sections without that subsection are still read.
    """

    vendor: int | VendorRule = VendorRule.REFUSE
    disclosed_vendors: DisclosedVendors = DisclosedVendors.REQUIRED
    gpc_subsection: GpcSubsection = GpcSubsection.REQUIRED


def tcf_objections(said: TcString, rules: SignalRules, now: float) -> dict[Purpose, SignalReason]:
    """Our purposes that a TC string opposes, each with the first reason.

    Args:
        said: the decoded string.
        rules: of this installation.
        now: seconds since the epoch.
    """
    general = _date_objection(said, now) or _vendor_objection(said, rules)
    if general is not None:
        return dict.fromkeys(Purpose, general)
    found = {purpose: _purpose_objection(said, rules, needed) for purpose, needed in TCF_PURPOSES.items()}
    return {purpose: reason for purpose, reason in found.items() if reason is not None}


def _date_objection(said: TcString, now: float) -> SignalReason | None:
    if not EARLIEST <= said.created <= said.last_updated <= now + CLOCK_TOLERANCE_S:
        return SignalReason.BAD_DATES
    return SignalReason.OUTDATED if now - said.last_updated > AGE_MAX_S else None


def _vendor_objection(said: TcString, rules: SignalRules) -> SignalReason | None:
    if said.disclosed is None and not _is_legacy(said, rules):
        return SignalReason.NO_DISCLOSED_VENDORS
    if rules.vendor is VendorRule.UNCHECKED:
        return None
    if isinstance(rules.vendor, VendorRule):
        return SignalReason.VENDOR_NOT_CONFIGURED
    if said.disclosed is not None and rules.vendor not in said.disclosed:
        return SignalReason.VENDOR_NOT_DISCLOSED
    return None if rules.vendor in said.vendors else SignalReason.NO_VENDOR_CONSENT


def _is_legacy(said: TcString, rules: SignalRules) -> bool:
    """Whether this string may lack the segment."""
    old = said.policy_version == LEGACY_POLICY and said.last_updated < LEGACY_UNTIL
    return old and rules.disclosed_vendors is DisclosedVendors.LEGACY


def _purpose_objection(said: TcString, rules: SignalRules, needed: frozenset[int]) -> SignalReason | None:
    if not needed <= said.purposes or (said.purpose_one_undisclosed and 1 in needed):
        return SignalReason.NO_CONSENT
    forbidding = (entry for entry in said.restrictions if entry.purpose in needed and _forbids(entry, rules))
    return SignalReason.PUBLISHER_RESTRICTION if any(forbidding) else None


def _forbids(entry: Restriction, rules: SignalRules) -> bool:
    """Whether a restriction keeps us from acting on consent."""
    if entry.kind is RestrictionType.REQUIRE_CONSENT:
        return False
    return bool(entry.vendors) if isinstance(rules.vendor, VendorRule) else rules.vendor in entry.vendors
