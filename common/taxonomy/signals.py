"""Privacy signals of browsers and consent platforms. Owns their kinds and what they can oppose."""

from __future__ import annotations

from enum import StrEnum


class SignalKind(StrEnum):
    """Privacy signals that a request may carry."""

    GPC = "gpc"
    TCF = "tcf"
    GPP = "gpp"
    US_PRIVACY = "us_privacy"


class SignalReason(StrEnum):
    """Why a privacy signal opposes a purpose. The first group is what was said, the second what cannot be read."""

    OPT_OUT = "opt-out"
    SALE_OPT_OUT = "sale-opt-out"
    SHARING_OPT_OUT = "sharing-opt-out"
    TARGETED_ADVERTISING_OPT_OUT = "targeted-advertising-opt-out"
    NO_NOTICE = "no-notice"
    INCONSISTENT = "inconsistent"
    KNOWN_CHILD = "known-child"
    SERVICE_PROVIDER = "service-provider-mode"
    NO_CONSENT = "no-consent"
    NO_VENDOR_CONSENT = "no-vendor-consent"
    NO_DISCLOSED_VENDORS = "no-disclosed-vendors"
    NO_GPC_SUBSECTION = "no-gpc-subsection"
    VENDOR_NOT_DISCLOSED = "vendor-not-disclosed"
    VENDOR_NOT_CONFIGURED = "vendor-not-configured"
    PUBLISHER_RESTRICTION = "publisher-restriction"
    OUTDATED = "outdated"
    TOO_LONG = "too-long"
    BAD_ALPHABET = "bad-alphabet"
    TRUNCATED = "truncated"
    TRAILING = "trailing-bits"
    BAD_VALUE = "bad-value"
    BAD_DATES = "bad-dates"
    UNSUPPORTED_VERSION = "unsupported-version"
    POLICY_VERSION = "policy-version"
    GLOBAL_SCOPE = "global-scope"
    LEGITIMATE_INTEREST = "legitimate-interest"
    UNKNOWN_SEGMENT = "unknown-segment"
    UNKNOWN_SECTION = "unknown-section"
