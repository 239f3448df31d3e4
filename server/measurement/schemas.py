"""Reports of results as they are answered. Owns their form, in JSON and in CSV."""

from __future__ import annotations

import csv
import datetime as dt
import io
from enum import StrEnum
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, model_validator

from common.privacy.parameters import PrivacyStatement

CONFIDENCE: Final = 0.95


class Withheld(StrEnum):
    """Why a figure is not shown."""

    BELOW_THRESHOLD = "below-threshold"
    TOO_NOISY = "too-noisy"
    NOT_COUNTED = "not-counted"


class Form(BaseModel):
    """Base of what is answered."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Figure(Form):
    """A figure with its 95 % interval, which includes the noise; or why it is withheld."""

    value: float | None = None
    low: float | None = None
    high: float | None = None
    exact: bool = Field(default=False, description="Counted by the service itself, without noise.")
    withheld: Withheld | None = None

    @model_validator(mode="after")
    def _shown_or_not(self) -> Figure:
        given = {self.value is not None, self.low is not None, self.high is not None}
        if len(given) != 1 or given == {self.withheld is not None}:
            raise ValueError("a figure is shown with its interval, or withheld")
        return self


class Results(Form):
    """Results of one campaign in one way of choosing.

    Attributes:
        reach: devices reached, added up over days.
        error_rate: share of filled placements that were never seen.
        cost_per_action_micros: spend per conversion, in millionths.
        return_on_ad_spend: value of conversions over spend.
    """

    views: Figure
    clicks: Figure
    conversions: Figure
    reach: Figure
    click_rate: Figure
    conversion_rate: Figure
    error_rate: Figure
    cost_per_action_micros: Figure
    return_on_ad_spend: Figure


class BillLine(Form):
    """What is billed: served clicks exactly, on-device clicks at the lower end of their interval."""

    served_clicks: int
    served_micros: int
    on_device_clicks: int
    on_device_micros: int
    total_micros: int


class Basis(Form):
    """What a report rests on.

    Attributes:
        days_measured: days in the range that devices were asked about, each once.
        days_shown: of them, those that passed the threshold.
        devices: in the sums, added up over days.
        statements: what the newest day cost each device in it; asking again costs nothing.
    """

    confidence: float = CONFIDENCE
    reach_min: float
    interval_max: float
    days_measured: int
    days_shown: int
    devices: int
    statements: tuple[PrivacyStatement, ...]


class CampaignReport(Form):
    """One campaign's results from ``first`` to ``last``, both included (UTC)."""

    campaign_id: str
    first: dt.date
    last: dt.date
    on_device: Results = Field(description="Chosen on devices: noisy sums over many of them.")
    served: Results = Field(description="Chosen by the service: confirmed by single-use tokens.")
    bill: BillLine
    basis: Basis


class GroupFigures(Form):
    """One declared group; ``people`` and what follows count devices and days.

    Attributes:
        views_per_person: ads seen per person and day, of everybody in the group.
        reached_share: share of them who saw any.
        predicted_rate: mean score of what was shown.
        predicted_over_clicked: 1 where scores are right; above 1 they promise too much.
    """

    group: str
    people: Figure
    views_per_person: Figure
    reached_share: Figure
    click_rate: Figure
    conversion_rate: Figure
    predicted_rate: Figure
    predicted_over_clicked: Figure


class GroupReport(Form):
    """Exposure and quality across groups that people have declared themselves; nobody's is inferred."""

    first: dt.date
    last: dt.date
    groups: tuple[GroupFigures, ...]
    everybody: GroupFigures
    basis: Basis


def campaign_csv(report: CampaignReport) -> bytes:
    """One line per figure; what is withheld has empty cells and its reason."""
    out = io.StringIO()
    lines = csv.writer(out, lineterminator="\r\n")
    lines.writerow(["campaign_id", "first", "last", "chosen", "figure", "value", "low", "high", "exact", "withheld"])
    start = [_inert(report.campaign_id), report.first.isoformat(), report.last.isoformat()]
    for chosen, results in (("on_device", report.on_device), ("served", report.served)):
        for name in Results.model_fields:
            figure: Figure = getattr(results, name)
            cells = ["" if cell is None else repr(cell) for cell in (figure.value, figure.low, figure.high)]
            why = "" if figure.withheld is None else figure.withheld.value
            lines.writerow([*start, chosen, name, *cells, str(figure.exact).lower(), why])
    for name, amount in report.bill:
        lines.writerow([*start, "bill", name, str(amount), "", "", "true", ""])
    return out.getvalue().encode()


def _inert(text: str) -> str:
    """A cell that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in {"=", "+", "-", "@", "\t", "\r"} else text
