"""US Privacy strings (``us_privacy``, GPP section 6). Deprecated since January 2024, and still arriving.

Source: IAB Tech Lab, "US Privacy String", version 1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from common.errors import UndecodableSignal
from common.taxonomy import SignalReason

_FORM: Final = re.compile(r"(?P<version>[0-9])(?P<rest>[YN-]{3})", re.ASCII)
_LENGTH: Final = 4
_NOT_APPLICABLE: Final = "-"


@dataclass(frozen=True, slots=True)
class UsPrivacy:
    """The three answers; None is "not applicable"."""

    notice: bool | None
    sale_opt_out: bool | None
    lspa_covered: bool | None


def decode_usp(text: str) -> UsPrivacy:
    """Decode a US Privacy string such as ``1YNN``.

    Raises:
        UndecodableSignal: with the reason.
    """
    if len(text) != _LENGTH:
        raise UndecodableSignal(SignalReason.TRUNCATED if len(text) < _LENGTH else SignalReason.TRAILING)
    form = _FORM.fullmatch(text)
    if form is None:
        raise UndecodableSignal(SignalReason.BAD_ALPHABET)
    if form["version"] != "1":
        raise UndecodableSignal(SignalReason.UNSUPPORTED_VERSION)
    notice, opt_out, lspa = (None if char == _NOT_APPLICABLE else char == "Y" for char in form["rest"])
    return UsPrivacy(notice, opt_out, lspa)


def usp_objection(said: UsPrivacy) -> SignalReason | None:
    """Why this string opposes every purpose, or None.

    An answer without a notice, or one half of the pair alone, is no answer to rely on.
    """
    if said.sale_opt_out:
        return SignalReason.SALE_OPT_OUT
    if (said.notice is None) is not (said.sale_opt_out is None):
        return SignalReason.INCONSISTENT
    return SignalReason.NO_NOTICE if said.notice is False else None
