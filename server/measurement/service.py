"""Measured days and the reports made of them. Owns storing a release once, and answering from what is stored.

A day is released once: whoever asks again, in whatever form, gets figures computed from the same noisy cells, so that
asking often averages nothing. Nothing here asks a device.
"""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from common.errors import AlreadyMeasured, MalformedInput, NotFound
from common.measurement.estimates import ZERO, Noisy, total
from common.measurement.layout import Cell, ContributionBounds
from common.taxonomy import Dimension, FollowUp, LogKind, Metric, Role
from policies.schema import PlacementCounts
from server.access.principal import Principal
from server.measurement import billing, figures, repository
from server.measurement.figures import Counted, Rules
from server.measurement.known import KnownCatalogues, campaign_of
from server.measurement.repository import DAY_S, StoredDay
from server.measurement.schemas import Basis, BillLine, CampaignReport, GroupReport
from server.storage import Database, Transaction, exclusive
from server.transparency.service import TransparencyLog

RANGE_DAYS_MAX: Final = 366
EVERYBODY: Final = "everybody"
_EPOCH: Final = dt.date(1970, 1, 1)
_DEFAULT: Final = PlacementCounts(clipping_norm=1.0, noise_multiplier=1.0, releases_max=1)


@dataclass(frozen=True, slots=True)
class Span:
    """Days from ``first`` to ``last``, both included, counted since 1970-01-01 UTC."""

    first: int
    last: int

    @classmethod
    def of(cls, first: dt.date | None, last: dt.date | None, today: dt.date) -> Span:
        """The days asked for; by default the thirty that end yesterday.

        Raises:
            MalformedInput: they are in the wrong order, or too many.
        """
        end = last or today - dt.timedelta(days=1)
        begin = first or end - dt.timedelta(days=29)
        if not begin <= end or (end - begin).days >= RANGE_DAYS_MAX:
            raise MalformedInput(f"a report covers 1 to {RANGE_DAYS_MAX} days")
        return cls(number_of(begin), number_of(end))

    @property
    def seconds(self) -> tuple[int, int]:
        """From and until when, seconds since the epoch."""
        return self.first * DAY_S, (self.last + 1) * DAY_S


class MeasurementService:
    """Stores measured days and answers from them.

    Args of the constructor:
        rules: what may be shown, from the privacy budget document; None where devices never measure.
    """

    def __init__(
        self,
        database: Database,
        known: KnownCatalogues,
        rules: PlacementCounts | None,
        *,
        log: TransparencyLog,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database, self._known, self._log, self._clock = database, known, log, clock
        shown = rules or _DEFAULT
        self._rules = Rules(shown.reach_min, shown.interval_max)

    # ── releases ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def store(self, found: StoredDay) -> None:
        """Keep a release for good, and log it.

        Raises:
            AlreadyMeasured: this day has been released before.
        """
        record = {
            "day": date_of(found.day).isoformat(),
            "run_id": found.run_id,
            "devices": found.devices,
            "cells": len(found.cells),
            "sha256": _digest(found),
        }
        with self._database.write() as session:
            exclusive(session, "measurement")
            if repository.days(session, found.day, found.day):
                raise AlreadyMeasured("this day was measured before; its stored figures stand")
            repository.insert(session, found, now=int(self._clock()))
            session.flush()
            self._log.append(session, LogKind.MEASUREMENT, record, actor=Role.ADMIN.value)

    def stored(self, day: int) -> StoredDay | None:
        """A measured day."""
        with self._database.read() as session:
            return next(iter(repository.days(session, day, day)), None)

    def days(self, span: Span, *, dimension: Dimension | None = None, label: str | None = None) -> list[StoredDay]:
        """Measured days of a span, oldest first."""
        with self._database.read() as session:
            return repository.days(session, span.first, span.last, dimension=dimension, label=label)

    def crowds(self) -> dict[str, float]:
        """Devices that each campaign reached per measured day of the last thirty, lower end: for thresholds of serving.

        **Privacy:** post-processing. It is the lower end, so that noise seldom makes a crowd of a few.
        """
        today = int(self._clock()) // DAY_S
        reached: dict[str, list[Noisy]] = defaultdict(list)
        for day in self.days(Span(today - 30, today), dimension=Dimension.CAMPAIGN):
            for cell in day.cells:
                if cell.metric is Metric.REACH:
                    reached[cell.label].append(Noisy(cell.value, cell.stddev))
        return {name: total(functools.reduce(Noisy.__add__, each)).low / len(each) for name, each in reached.items()}

    # ── reports ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def campaign(
        self, campaign_id: str, caller: Principal, first: dt.date | None, last: dt.date | None
    ) -> CampaignReport:
        """Results of one campaign; an advertiser sees its own alone.

        Raises:
            NotFound: no such campaign, or not the caller's.
            MalformedInput: not a span of days.
        """
        owner = self._known.owner(campaign_id)
        if owner is None or (caller.role is Role.ADVERTISER and owner != caller.holder):
            raise NotFound("there is no such campaign")
        span = Span.of(first, last, self._today)
        with self._database.read() as session:
            days = repository.days(session, span.first, span.last, dimension=Dimension.CAMPAIGN, label=campaign_id)
            served = self._served(session, campaign_id, span)
        shown = [day for day in days if self._rules.enough(_sums(day.cells).get(Metric.REACH, ZERO))]
        devices = _reported(shown, campaign_id)
        results = figures.served_results(served, self._rules)
        billed = results.views.value is not None
        bill = billing.bill(
            served_clicks=int(served.of(Metric.CLICKS).value) if billed else 0,
            served_micros=int((served.cost_micros or ZERO).value) if billed else 0,
            clicks=devices.of(Metric.CLICKS),
            cost_micros=devices.cost_micros or ZERO,
        )
        return CampaignReport(
            campaign_id=campaign_id,
            first=date_of(span.first),
            last=date_of(span.last),
            on_device=figures.device_results(devices, self._rules),
            served=results,
            bill=BillLine(
                served_clicks=bill.served_clicks,
                served_micros=bill.served_micros,
                on_device_clicks=bill.on_device_clicks,
                on_device_micros=bill.on_device_micros,
                total_micros=bill.total_micros,
            ),
            basis=self._basis(days, len(shown)),
        )

    def groups(self, first: dt.date | None, last: dt.date | None) -> GroupReport:
        """Exposure and quality across declared groups.

        Raises:
            MalformedInput: not a span of days.
        """
        span = Span.of(first, last, self._today)
        days = self.days(span, dimension=Dimension.GROUP)
        bounds = _widest(day.bounds for day in days)
        names = list(dict.fromkeys(cell.label for day in days for cell in day.cells))
        rows = {
            name: Counted(_sums(c for d in days for c in d.cells if c.label == name), bounds, Dimension.GROUP)
            for name in names
        }
        everybody = Counted(_sums(cell for day in days for cell in day.cells), bounds, Dimension.GROUP)
        return GroupReport(
            first=date_of(span.first),
            last=date_of(span.last),
            groups=tuple(figures.group_figures(name, row, self._rules) for name, row in rows.items()),
            everybody=figures.group_figures(EVERYBODY, everybody, self._rules),
            basis=self._basis(days, len(days)),
        )

    @property
    def _today(self) -> dt.date:
        return date_of(int(self._clock()) // DAY_S)

    def _basis(self, days: Sequence[StoredDay], shown: int) -> Basis:
        return Basis(
            reach_min=self._rules.reach_min,
            interval_max=self._rules.interval_max,
            days_measured=len(days),
            days_shown=shown,
            devices=sum(day.devices for day in days),
            statements=days[-1].statements if days else (),
        )

    def _served(self, session: Transaction, campaign_id: str, span: Span) -> Counted:
        """What the service filled with a campaign's creatives and what followed, each at its bid."""
        counts: dict[Metric, float] = defaultdict(float)
        cost, highest = 0.0, 0
        for one in repository.served(session, *span.seconds):
            creative = self._known.creative(session, one.catalogue_version, one.creative_id)
            if creative is None or campaign_of(creative) != campaign_id:
                continue
            views, clicks = one.confirmed.get(FollowUp.IMPRESSION, 0), one.confirmed.get(FollowUp.CLICK, 0)
            counts[Metric.VIEWS] += views
            counts[Metric.CLICKS] += clicks
            counts[Metric.CONVERSIONS] += one.confirmed.get(FollowUp.CONVERSION, 0)
            counts[Metric.UNSEEN] += one.decided - views
            cost += clicks * creative.bid_micros
            highest = max(highest, creative.bid_micros)
        sums = {metric: Noisy(value) for metric, value in counts.items()}
        single = ContributionBounds(views_per_campaign=1)  # a token confirms one view
        return Counted(sums, single, Dimension.CAMPAIGN, Noisy(cost), highest)


def number_of(date: dt.date) -> int:
    """Days since 1970-01-01."""
    return (date - _EPOCH).days


def date_of(day: int) -> dt.date:
    """The date of a day's number."""
    return _EPOCH + dt.timedelta(days=day)


def _reported(days: Sequence[StoredDay], campaign_id: str) -> Counted:
    """Sums of a campaign over days, money in millionths; values in units of the largest bound."""
    bounds = _widest(day.bounds for day in days)
    cost, highest = ZERO, 0
    cells: list[tuple[Metric, Noisy]] = []
    for day in days:
        bid = day.bids.get(campaign_id, 0)
        highest = max(highest, bid)
        unit = day.bounds.value_micros_max / bounds.value_micros_max
        for cell in day.cells:
            noisy = Noisy(cell.value, cell.stddev)
            cells.append((cell.metric, noisy.times(unit) if cell.metric is Metric.VALUE else noisy))
            if cell.metric is Metric.CLICKS:
                cost += noisy.times(bid)
    sums: dict[Metric, Noisy] = {}
    for metric, noisy in cells:
        sums[metric] = sums.get(metric, ZERO) + noisy
    return Counted(sums, bounds, Dimension.CAMPAIGN, cost, highest)


def _sums(cells: Iterable[Cell]) -> dict[Metric, Noisy]:
    found: dict[Metric, Noisy] = {}
    for cell in cells:
        found[cell.metric] = found.get(cell.metric, ZERO) + Noisy(cell.value, cell.stddev)
    return found


def _widest(bounds: Iterable[ContributionBounds]) -> ContributionBounds:
    """Bounds that hold for all of them."""
    held = list(bounds) or [ContributionBounds()]
    return ContributionBounds(
        **{name: max(getattr(one, name) for one in held) for name in ContributionBounds.model_fields}
    )


def _digest(found: StoredDay) -> str:
    cells = [[c.dimension.value, c.label, c.metric.value, repr(c.value), repr(c.stddev)] for c in found.cells]
    return hashlib.sha256("\n".join("\t".join(row) for row in cells).encode()).hexdigest()
