"""Retention. Owns when an event is too old to be held, by the retention document; deletes, and never keeps a copy."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping

from client.store.keys import DeviceId
from client.store.outcomes import Outcomes
from client.store.vault import Vault
from common.errors import StoreError
from common.taxonomy import EventKind
from policies.schema import RetentionPolicy

DAY_S = 86_400.0


def limits(policy: RetentionPolicy, now: float) -> Mapping[EventKind, float]:
    """Per kind, the time before which an event may not be held at ``now``."""
    return {kind: now - days * DAY_S for kind, days in policy.retention_days.items()}


def days_left(policy: RetentionPolicy, kind: EventKind, time: float, now: float) -> float:
    """Days until an event of this kind and time is deleted; negative when it is overdue."""
    return policy.retention_days[kind] - (now - time) / DAY_S


def sweep(vault: Vault, policy: RetentionPolicy, now: float) -> dict[DeviceId, int]:
    """Delete what is overdue on every device, opening only those that hold something overdue.

    Args:
        vault: where the events are.
        policy: how long each kind may be held.
        now: seconds since the epoch.

    Returns:
        How many events were deleted, by device; devices without any are absent.

    A device that cannot be read is left as it is: reading it says why.
    """
    due = limits(policy, now)
    deleted = {}
    for device in vault.devices():
        with contextlib.suppress(StoreError):
            if any(time < due[kind] for kind, time in vault.oldest(device).items()):
                deleted[device] = vault.delete_before(device, due)
    return deleted


def sweep_outcomes(outcomes: Outcomes, devices: Iterable[DeviceId], policy: RetentionPolicy, now: float) -> int:
    """Delete what followed ads longer ago than an impression may be held; how many there were."""
    limit = now - policy.retention_days[EventKind.IMPRESSION] * DAY_S
    deleted = 0
    for device in devices:
        with contextlib.suppress(StoreError):
            deleted += outcomes.delete_before(device, limit)
    return deleted
