"""A reviewer who says what they have looked at approves that, and nothing that was changed since."""

from __future__ import annotations

from typing import Any

import pytest

from tests.service.campaigning import Agency, campaign_body, creative_body


def at(agency: Agency, path: str, order: dict[str, Any], tag: str, key: dict[str, str]) -> tuple[int, str, str | None]:
    answer = agency.world.http.post(path, json=order, headers=key | {"if-match": tag})
    said = answer.json()
    return answer.status_code, said.get("state", said.get("title")), answer.headers.get("etag")


APPROVE = {"verdict": "approve"}
STALE = (412, "PreconditionFailed", None)


@pytest.mark.parametrize("of", ["campaigns", "creatives"])
def test_a_review_and_a_move_are_of_what_was_looked_at(agency: Agency, of: str) -> None:
    campaign = agency.campaign()
    path = f"/v1/{of}/{campaign if of == 'campaigns' else agency.creative(campaign)}"
    body = campaign_body(agency.world, payer="Else") if of == "campaigns" else creative_body(category="drinks")
    moves, review, mine = f"{path}/moves", f"{path}/review", agency.advertiser
    assert at(agency, moves, {"move": "submit"}, '"2"', mine) == STALE
    assert at(agency, moves, {"move": "submit"}, '"1"', mine) == (200, "submitted", '"2"')
    looked_at = agency.ask("GET", path, key=agency.officer).headers["etag"]
    assert agency.world.http.put(path, json=body, headers=mine | {"if-match": '"2"'}).status_code == 200
    assert at(agency, moves, {"move": "submit"}, '"3"', mine) == (200, "submitted", '"4"')
    assert at(agency, review, APPROVE, looked_at, agency.officer) == STALE, "somebody has changed it since"
    for odd in ("", "4", "*", 'W/"4"', '"0"', '"4", "3"', '"x"'):
        assert at(agency, review, APPROVE, odd, agency.officer) == STALE, odd
    assert agency.done("GET", path, key=agency.officer)["state"] == "submitted", "none of it did anything"
    assert at(agency, review, APPROVE, '"4"', agency.officer) == (200, "approved", '"5"')


def test_without_the_header_it_is_as_it_was(agency: Agency) -> None:
    """The control: the same late approval goes through where the reviewer says nothing of what they have seen."""
    path = f"/v1/campaigns/{agency.campaign()}"
    agency.done("POST", f"{path}/moves", {"move": "submit"})
    body = campaign_body(agency.world, payer="Else")
    assert agency.world.http.put(path, json=body, headers=agency.advertiser | {"if-match": '"2"'}).status_code == 200
    agency.done("POST", f"{path}/moves", {"move": "submit"})
    answer = agency.ask("POST", f"{path}/review", APPROVE, key=agency.officer)
    assert (answer.status_code, answer.headers["etag"]) == (200, '"5"')


def test_a_stranger_learns_no_revision_by_asking_with_one(agency: Agency) -> None:
    path = f"/v1/campaigns/{agency.campaign()}"
    for tag in ('"1"', '"9"'):
        answer = agency.world.http.post(
            f"{path}/moves", json={"move": "submit"}, headers=agency.rival | {"if-match": tag}
        )
        assert answer.status_code == 404
