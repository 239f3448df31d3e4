"""Global Privacy Control. Owns what counts as the signal and the support statement that the service publishes.

Source: W3C, "Global Privacy Control (GPC)", sections 3.3 (Sec-GPC header) and 4 (/.well-known/gpc.json).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

HEADER: Final = "sec-gpc"
SUPPORTED_SINCE: Final = "2026-11-22"
"""Day of the last change to how the signal is treated: what ``lastUpdate`` says."""


def opted_out(values: Iterable[str]) -> bool:
    """Whether any value of the header is exactly ``1``.

    Args:
        values: field values as received; a proxy may have joined repeated ones with commas.
    """
    return any(part.strip(" \t") == "1" for value in values for part in value.split(","))
