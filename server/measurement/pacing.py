"""Pacing in the service. Owns what is known of each campaign's spend, and the probabilities that follow from it.

They follow from stored figures and the date alone, so that every worker has the same ones; ``policies.pacing`` is the
controller. Days that are withheld from reports count here all the same: who guards a budget must not forget them.
Decisions ask for every request, so that answer is held for a minute and renewed beside them.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from sqlalchemy.exc import SQLAlchemyError

from common.errors import ReticentError
from common.measurement.estimates import ZERO, Noisy
from common.taxonomy import Dimension, Metric, PlanKind
from policies.pacing import RULE, Order, serve_probabilities
from server.campaigns import plan_repository
from server.campaigns.plan_repository import Plan
from server.measurement import repository
from server.measurement.known import KnownCatalogues, campaign_of
from server.measurement.repository import DAY_S, StoredDay
from server.storage import Database, Transaction

HELD_S: Final = 60.0
_MEASURED_DAYS: Final = 31
# Where the service counts every click itself, spend is known to the minute: no day is waited for and nothing starts
# slowly. A day's spend is stopped at twice its share of what is left.
_SERVED_ONLY: Final = replace(RULE, lag=0, first=1.0)
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Spend:
    """What is known of spend, in millionths, by campaign and day.

    Attributes:
        served: exact, by tokens.
        reported: from devices, noisy; a day that was not measured is not in it.
        measuring: whether devices are measured here at all, so that a missing day is unknown rather than 0.
    """

    served: Mapping[tuple[str, int], float]
    reported: Mapping[int, Mapping[str, Noisy]]
    measuring: bool

    def of(self, campaign: str, day: int) -> Noisy | None:
        """Spend of one day; None where it is not known."""
        served = Noisy(self.served.get((campaign, day), 0.0))
        if not self.measuring:
            return served
        cells = self.reported.get(day)
        return None if cells is None else served + cells.get(campaign, ZERO)


class PacingService:
    """Serve probabilities of campaigns with a budget."""

    def __init__(self, database: Database, known: KnownCatalogues, clock: Callable[[], float] = time.time) -> None:
        self._database, self._known, self._clock = database, known, clock
        self._held: Mapping[str, float] | None = None
        self._due = 0.0
        self._renewing = threading.Lock()

    def serving(self) -> Mapping[str, float]:
        """Serve probability by campaign, where it is below 1; the same for everybody. At most a minute old.

        Never waits for the database but at the first call, where ``refresh`` has not been called before.
        """
        if self._clock() >= self._due and self._renewing.acquire(blocking=False):
            self._due = self._clock() + HELD_S
            if self._held is None:
                self._renew()
            else:
                threading.Thread(target=self._renew, name="pacing", daemon=True).start()
        return self._held or {}

    def refresh(self) -> None:
        """Compute them now.

        Raises:
            StorageUnavailable: the database does not answer.
        """
        self._due = self._clock() + HELD_S
        self._held = self._computed()

    def _renew(self) -> None:
        try:
            self._held = self._computed()
        except (ReticentError, SQLAlchemyError) as error:  # what was held stays; the next minute tries again
            _LOG.warning("serve probabilities are not renewed: %s", type(error).__name__)
        finally:
            self._renewing.release()

    def _computed(self) -> dict[str, float]:
        now = int(self._clock())
        with self._database.read() as session:
            plans = [
                plan
                for plan in plan_repository.approved(session, PlanKind.CAMPAIGN)
                if plan.campaign.starts_at <= now < plan.campaign.ends_at and plan.campaign.bid_micros > 0
            ]
            if not plans:
                return {}
            spend = self._spend(session, min(plan.campaign.starts_at for plan in plans), now)
        found = {plan.plan_id: _probability(plan, spend, now) for plan in plans}
        return {name: round(probability, 6) for name, probability in found.items() if probability < 1}

    def _spend(self, session: Transaction, since: int, now: int) -> Spend:
        served: dict[tuple[str, int], float] = defaultdict(float)
        for day, version, creative_id, clicks in repository.served_clicks(session, since - since % DAY_S):
            creative = self._known.creative(session, version, creative_id)
            if creative is not None:
                served[campaign_of(creative), day] += clicks * creative.bid_micros
        first, last = min(since, now - _MEASURED_DAYS * DAY_S) // DAY_S, now // DAY_S
        days = repository.days(session, first, last, dimension=Dimension.CAMPAIGN)
        recent = any(day.day >= last - _MEASURED_DAYS for day in days)
        return Spend(served, {day.day: _costs(day) for day in days}, recent)


def _costs(day: StoredDay) -> dict[str, Noisy]:
    return {
        cell.label: Noisy(cell.value, cell.stddev).times(day.bids.get(cell.label, 0))
        for cell in day.cells
        if cell.metric is Metric.CLICKS
    }


def _probability(plan: Plan, spend: Spend, now: int) -> float:
    """Of one campaign for the rest of today."""
    terms, name = plan.campaign, plan.plan_id
    first, today, end = terms.starts_at // DAY_S, now // DAY_S, -(-terms.ends_at // DAY_S)
    order = Order(
        budget=float(terms.budget_micros),
        intervals=max(end - first, 1),
        daily=None if terms.daily_budget_micros is None else float(terms.daily_budget_micros),
    )
    already = spend.served.get((name, today), 0.0)
    if order.daily is not None and already >= order.daily:
        return 0.0
    reported = [spend.of(name, day) for day in range(first, today)]
    known = sum((one for one in reported if one is not None), ZERO)
    if known.value + RULE.margin * known.stddev + already >= order.budget:
        return 0.0
    if spend.measuring:
        return serve_probabilities(order, reported)[-1]
    fair = 2 * (order.budget - known.value) / (order.intervals - len(reported))
    return 0.0 if already >= fair else serve_probabilities(order, reported, _SERVED_ONLY)[-1]
