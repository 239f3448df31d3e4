"""The recorder: the one way in for behaviour. Owns the order of steps: check, normalise, store, report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from client.behavior.events import BehaviourEvent
from client.behavior.validation import EventRejected, TimeLimits, normalise
from client.store.keys import DeviceId
from client.store.retention import limits
from client.store.vault import AppendReport, Vault
from policies.schema import RetentionPolicy


class Recorder:
    """Records the events that apps report into the vault of their device."""

    def __init__(
        self,
        vault: Vault,
        policy: RetentionPolicy,
        now: Callable[[], float],
        *,
        retention_now: float | None = None,
    ) -> None:
        """Take where to store, the retention document, and the device's clock.

        Args:
            vault: where to store.
            policy: the retention document.
            now: seconds since the epoch.
            retention_now: where retention counts from on devices that replay a recorded data set; the clock if None.
        """
        self._vault = vault
        self._policy = policy
        self._now = now
        self._retention_now = retention_now

    def record(self, device: DeviceId, event: BehaviourEvent) -> bool:
        """Store one event; False if it was there already.

        Raises:
            EventRejected: the event is not acceptable; its reason is one of ``RejectReason``.
        """
        return self._vault.append(device, [normalise(event, self.time_limits())]).stored == 1

    def record_all(
        self,
        device: DeviceId,
        events: Iterable[BehaviourEvent],
        on_reject: Callable[[int, EventRejected], None] | None = None,
    ) -> AppendReport:
        """Store events in one transaction, from any number of apps; each rejected one is reported and left out.

        Args:
            device: whose events.
            events: in any order.
            on_reject: told the position of each rejected event and why.
        """
        rejected: Counter[str] = Counter()
        bounds = self.time_limits()

        def acceptable() -> Iterator[BehaviourEvent]:
            for position, event in enumerate(events):
                try:
                    yield normalise(event, bounds)
                except EventRejected as error:
                    rejected[error.reason.value] += 1
                    if on_reject is not None:
                        on_reject(position, error)

        report = self._vault.append(device, acceptable())
        return AppendReport(report.stored, report.duplicates, rejected)

    def time_limits(self) -> TimeLimits:
        """Acceptable times at this moment: not past retention, and ahead of the clock by the allowed skew at most."""
        now = self._now()
        earliest = limits(self._policy, now if self._retention_now is None else self._retention_now)
        return TimeLimits(now + self._policy.clock_skew_seconds_max, earliest)
