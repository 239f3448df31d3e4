"""Whole trainings that ask the service's own consent records: who is not in them, or has withdrawn, takes no part."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

import client.app
from client.store.keys import DeviceId
from common.errors import ConsentRefused
from common.taxonomy import AgeBand, ControlScope, Purpose, Role
from common.wire.messages import ConsentChange, ConsentWithdrawal, SubjectEnrolment
from server.api.services import Services, initialise
from server.rounds.training import RoundReport
from server.settings import RoundConsentRule
from tests.flower.nodes import World
from tests.rounds.secagg_world import charged, identities, make, run, use_environment

ROUND = {"num_server_rounds": 2, "calibrate": False, "evaluate": False}


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = make(tmp_path)
    use_environment(made, monkeypatch)
    yield replace(made, server=replace(made.server, round_consent=RoundConsentRule.SERVICE))
    client.app._WARM.close()


@pytest.fixture
def services(world: World) -> Iterator[Services]:
    built = initialise(world.server)
    yield built
    built.database.close()


def enrol(services: Services, world: World, *but: str) -> dict[str, str]:
    """Everybody agrees at the service, but some never enrolled there; handles by device."""
    digest = services.notices.current("en").digest
    found = {}
    for device, key in identities(world).items():
        if device in but:
            continue
        public = base64.urlsafe_b64encode(key).rstrip(b"=").decode()
        enrolment = SubjectEnrolment(public_key=public, app_id="a", age_band=AgeBand.ADULT, jurisdiction="DE")
        found[device] = services.consent.enrol(enrolment)
        change = ConsentChange(
            handle=found[device],
            notice_digest=digest,
            decisions=dict.fromkeys(Purpose, "given"),
            locale="en",
            surface="test",
        )
        services.consent.change(change, Role.DEVICE)
    return found


def withdraw(services: Services, handle: str) -> None:
    services.consent.withdraw(ConsentWithdrawal(handle=handle, purposes="all"), Role.DEVICE)


def test_who_is_not_in_the_records_or_withdraws_takes_no_part(world: World, services: Services) -> None:
    handles, reports = enrol(services, world, "n0-d1"), list[RoundReport]()

    def withdraw_after_the_first(report: RoundReport) -> Mapping[str, float]:
        reports.append(report)
        withdraw(services, handles["n1-d2"])
        return {}

    run(world, withdraw_after_the_first, **ROUND)
    assert [(r.record.roster, r.record.contributions) for r in reports] == [(7, 7), (6, 6)]
    assert [r.record.refused for r in reports] == [{"advertise/ConsentRefused": 1}, {"advertise/ConsentRefused": 2}]
    spent = charged(world)
    per_round = len(spent["n0-d0"]) // 2
    assert [len(spent.get(DeviceId(d), [])) for d in ("n0-d0", "n1-d2", "n0-d1")] == [2 * per_round, per_round, 0]


def test_a_kill_switch_ends_the_training_before_anybody_is_asked(world: World, services: Services) -> None:
    enrol(services, world)
    services.controls.kill(ControlScope.PURPOSE, "train.contribute", actor="privacy_officer:wei")
    with pytest.raises(ConsentRefused):
        run(world, **ROUND)
    assert not any(charged(world).values())


def test_a_kill_switch_in_mid_round_keeps_the_result_out(
    world: World, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sum is there, the purpose is stopped: it is not accepted; the charge stays, as after any lost session."""
    import server.rounds.release_rounds as rounds

    enrol(services, world)
    aggregate = rounds.aggregate

    def stopped_meanwhile(*arguments: object, **more: object) -> object:
        total = aggregate(*arguments, **more)  # type: ignore[arg-type]
        services.controls.kill(ControlScope.PURPOSE, "train.local", actor="privacy_officer:wei")
        return total

    monkeypatch.setattr(rounds, "aggregate", stopped_meanwhile)
    with pytest.raises(ConsentRefused):
        run(world, **ROUND)
    assert services.registry.manifests() == []
    assert all(charged(world).values())
