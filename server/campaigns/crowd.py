"""How many people make a crowd. Owns the threshold under which nothing is served personally and no reach is told.

A campaign that is meant for some people only is served by context until a noised count says that enough were reached:
a rule that fits one person would otherwise single them out, whatever the mechanism behind its reports.

**Privacy:** the threshold is compared with the noised count alone. It supplements differential privacy and proves
nothing by itself.
**Source:** Chrome's k-anonymity for Protected Audience: k = 50 over 30 days (WICG/turtledove).
"""

from __future__ import annotations

from typing import Final

CROWD_MIN: Final = 50


def is_crowd(noised: float | None) -> bool:
    """Whether a noised count is of a crowd; no count is of none."""
    return noised is not None and noised >= CROWD_MIN
