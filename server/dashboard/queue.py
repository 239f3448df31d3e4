"""How the queue of data subjects' requests stands. Owns the countdown; decides nothing."""

from __future__ import annotations

import math
from dataclasses import dataclass

from server.api.services import Services

_DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Waiting:
    """What waits for a person."""

    open: int
    overdue: int
    next_due_days: int | None


def waiting(services: Services, now: float) -> Waiting:
    """Open requests, how many are past their deadline, and when the next one is due."""
    due = sorted(request.due_at for request in services.requests.open())
    ahead = [moment for moment in due if moment > now]
    return Waiting(len(due), len(due) - len(ahead), days_left(ahead[0], now) if ahead else None)


def days_left(due_at: float, now: float) -> int:
    """Whole days until a deadline; negative once it has passed."""
    return math.floor((due_at - now) / _DAY_S)
