"""Deadlines of data subjects' requests against the calendar, and documents that must not load."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest
from pydantic import ValidationError

from common.taxonomy import AgeBand, RequestKind
from policies import loader
from policies.requests import due_at, is_automatic, law_of
from policies.schema import Handling, RequestsPolicy

READ: Any = loader.read_yaml(loader.DOCUMENTS / "requests.yaml")
RULES = RequestsPolicy.model_validate(READ)


def at(text: str) -> float:
    return dt.datetime.fromisoformat(f"{text}+00:00").timestamp()


@pytest.mark.parametrize(
    ("place", "received", "law", "due"),
    [
        ("DE", "2027-01-31T23:59:59", "gdpr", "2027-02-28T23:59:59"),
        ("DE", "2028-01-31T12:00:00", "gdpr", "2028-02-29T12:00:00"),
        ("NO", "2027-12-15T00:00:00", "gdpr", "2028-01-15T00:00:00"),
        ("GB-ENG", "2027-03-31T00:00:00", "uk-gdpr", "2027-04-30T00:00:00"),
        ("US-CA", "2027-01-01T00:00:00", "ccpa", "2027-02-15T00:00:00"),
        ("US-TX", "2027-01-01T00:00:00", "us-states", "2027-02-15T00:00:00"),
        ("CN", "2027-01-01T00:00:00", "pipl", "2027-01-16T00:00:00"),
        ("BR", "2027-01-01T00:00:00", "elsewhere", "2027-01-16T00:00:00"),
    ],
)
def test_deadlines_by_law(place: str, received: str, law: str, due: str) -> None:
    found = law_of(RULES, place)
    assert found.id == law
    assert due_at(found, at(received)) == at(due)


def test_no_law_gives_more_time_than_it_may() -> None:
    """GDPR: one month; CCPA: 45 days; elsewhere no longer than the shortest of all."""
    days = {law.id: due_at(law, at("2027-07-01T00:00:00")) - at("2027-07-01T00:00:00") for law in RULES.laws}
    assert days["gdpr"] <= 31 * 86_400
    assert days["ccpa"] <= 45 * 86_400
    assert days["elsewhere"] == min(days.values())


def test_protection_is_taken_away_by_officers_only() -> None:
    for was in AgeBand:
        for becoming in AgeBand:
            alone = is_automatic(RULES, RequestKind.RECTIFICATION, becoming=becoming, was=was)
            assert alone is (becoming is not AgeBand.ADULT or was is AgeBand.ADULT)
    officers = RULES.model_copy(update={"handling": dict.fromkeys(RequestKind, Handling.OFFICER)})
    assert not any(is_automatic(officers, kind, becoming=None, was=AgeBand.ADULT) for kind in RequestKind)


@pytest.mark.parametrize(
    "change",
    [
        {"laws": [law for law in READ["laws"] if law["jurisdictions"]]},
        {"laws": [*READ["laws"], {"id": "other", "clause": "x", "days": 3, "jurisdictions": ["CN"]}]},
        {"laws": [*READ["laws"], {"id": "other", "clause": "x", "jurisdictions": ["AQ"]}]},
        {"handling": {"access": "automatic"}},
        {"handling": READ["handling"] | {"erasure": "never"}},
        {"package_days": 0},
    ],
)
def test_documents_with_holes_do_not_load(change: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        RequestsPolicy.model_validate(READ | change)
