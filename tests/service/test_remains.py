"""What an erasure says it cannot take back, against a second accountant; nothing else may stand in its way."""

from __future__ import annotations

import pytest

from common.errors import TrustError
from common.privacy.recompute import recompute_epsilon
from common.taxonomy import PrivacyUnit, ReleaseKind
from server.ledger.words import Entry
from server.registry.service import Registry
from server.requests.remains import remains
from tests.ledger.worlds import DELTA, POLICY, RECORD_LINE, RECORD_ROUND, USER_ROUND
from tests.service.world import World


def entry(run: str, release: object = USER_ROUND) -> Entry:
    use = release.use  # type: ignore[attr-defined]
    return Entry(run, run, ReleaseKind.TRAINING_UPDATE, use, 0, 0, settled=True, epsilon=1.0, rho=None, delta=DELTA)


def test_lines_and_trainings_stay_apart() -> None:
    entries = [entry("a"), entry("a"), entry("b"), entry("b", RECORD_ROUND)]
    found = remains(POLICY, entries, (), locale="en", tombstone_until=7)
    assert [(model.run_id, model.releases, len(model.bounds)) for model in found.models] == [("a", 2, 1), ("b", 2, 2)]
    by_unit = {bound.unit: bound.epsilon for bound in found.bounds}
    assert by_unit[PrivacyUnit.USER] == pytest.approx(recompute_epsilon([USER_ROUND.use] * 3, DELTA), rel=0.01)
    assert by_unit[PrivacyUnit.RECORD] == pytest.approx(recompute_epsilon([RECORD_ROUND.use], DELTA), rel=0.01)
    assert found.models[0].bounds[0].epsilon < by_unit[PrivacyUnit.USER], "one training costs less than all of them"


def test_a_line_that_the_document_no_longer_has_is_still_stated() -> None:
    smaller = POLICY.model_copy(update={"lines": (RECORD_LINE,)})
    found = remains(smaller, [entry("a")], (), locale="zh-CN", tombstone_until=None)
    assert [bound.unit for bound in found.bounds] == [PrivacyUnit.USER]


def test_a_model_that_does_not_verify_does_not_stand_in_the_way(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    world.furnish()
    device = world.consenting()
    world.services.ledger.reserve("run-0", "s", [USER_ROUND], [device.key.public.raw])

    def tampered(_self: Registry) -> None:
        raise TrustError("tampered")

    monkeypatch.setattr(Registry, "manifests", tampered)
    answer = world.http.post("/v1/dsr", json={"handle": device.handle, "request": "erasure"}, headers=device.headers)
    assert (answer.status_code, answer.json()["status"]) == (201, "completed")
