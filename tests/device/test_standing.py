"""Fresh standing: where a round begins and before an update leaves, the service must say yes again, or it is no."""

from __future__ import annotations

import pytest

from client.device import OWNER
from client.standing import FreshGate, round_gate
from common.crypto.signing import SigningKey
from common.errors import MalformedInput, TrustError
from common.taxonomy import ControlScope, Purpose, RefusalReason, Role, Stage
from common.wire.documents import seal
from policies.consent import Permit, Refusal
from tests.device.conftest import Household


def gate(home: Household, stage: Stage = Stage.ADVERTISE) -> FreshGate:
    found = round_gate(home.node, stage, home.connect)
    assert isinstance(found, FreshGate)
    return found


def reason(answer: Permit | Refusal) -> RefusalReason | None:
    return answer.reason if isinstance(answer, Refusal) else None


def test_both_keys_say_yes(agreed: Household) -> None:
    assert reason(gate(agreed).permits(OWNER, Purpose.TRAIN_CONTRIBUTE)) is None


def test_the_service_is_asked_where_a_round_begins_and_where_an_update_leaves(agreed: Household) -> None:
    asked = {stage for stage in Stage if isinstance(round_gate(agreed.node, stage, agreed.connect), FreshGate)}
    assert asked == {Stage.ADVERTISE, Stage.MASK}


def test_one_question_per_moment_and_a_fresh_one_after_renew(agreed: Household) -> None:
    fresh = gate(agreed)
    before = len(agreed.wire.requests)
    for purpose in (Purpose.TRAIN_LOCAL, Purpose.TRAIN_CONTRIBUTE):
        fresh.permits(OWNER, purpose)
    assert len(agreed.wire.requests) == before + 1
    fresh.renew()
    fresh.permits(OWNER, Purpose.TRAIN_CONTRIBUTE)
    assert len(agreed.wire.requests) == before + 2


def test_a_device_that_refuses_by_itself_is_not_asked_about(agreed: Household) -> None:
    agreed.node.gate.stop(OWNER, [Purpose.TRAIN_CONTRIBUTE])
    before = len(agreed.wire.requests)
    assert reason(gate(agreed).permits(OWNER, Purpose.TRAIN_CONTRIBUTE)) is RefusalReason.WITHDRAWN
    assert len(agreed.wire.requests) == before


def test_unreachable_is_no_and_is_tried_once(agreed: Household) -> None:
    agreed.wire.cut = True
    fresh = gate(agreed)
    assert reason(fresh.permits(OWNER, Purpose.TRAIN_CONTRIBUTE)) is RefusalReason.UNAVAILABLE
    agreed.wire.cut = False
    assert reason(fresh.permits(OWNER, Purpose.TRAIN_CONTRIBUTE)) is RefusalReason.UNAVAILABLE
    fresh.renew()
    assert reason(fresh.permits(OWNER, Purpose.TRAIN_CONTRIBUTE)) is None


def test_a_kill_switch_between_start_and_leaving_keeps_the_update_back(agreed: Household) -> None:
    fresh = gate(agreed, Stage.MASK)
    assert reason(fresh.permits(OWNER, Purpose.TRAIN_CONTRIBUTE)) is None
    officer = agreed.world.key(Role.PRIVACY_OFFICER, holder="ana")
    body = {"scope": ControlScope.PURPOSE.value, "target": "train.contribute"}
    answer = agreed.world.http.post("/v1/controls/kill", json=body, headers=officer)
    assert answer.status_code < 300, answer.text
    assert reason(fresh.permits(OWNER, Purpose.TRAIN_CONTRIBUTE)) is None, "the control: without renew it is not seen"
    fresh.renew()
    assert reason(fresh.permits(OWNER, Purpose.TRAIN_CONTRIBUTE)) is RefusalReason.KILL_SWITCH
    # What was heard is remembered by the gate itself, also in stages that do not ask.
    assert reason(agreed.node.gate.permits(OWNER, Purpose.TRAIN_CONTRIBUTE)) is RefusalReason.KILL_SWITCH
    assert reason(agreed.node.gate.permits(OWNER, Purpose.TRAIN_LOCAL)) is None


@pytest.mark.parametrize("what", ["forged", "other-subject", "stale"])
def test_a_standing_that_is_not_the_services_word_about_us_now_is_no(agreed: Household, what: str) -> None:
    standing = agreed.agent.standing()
    signer = agreed.world.services.signer
    if what == "forged":
        jws = seal(standing, SigningKey.generate())
    elif what == "other-subject":
        jws = seal(standing.model_copy(update={"handle": "x" * 22}), signer)
    else:
        old = {"issued_at": standing.issued_at - 9000, "expires_at": standing.issued_at - 8000}
        jws = seal(standing.model_copy(update=old), signer)
    with pytest.raises(TrustError):
        agreed.node.gate.heard(OWNER, jws)
    agreed.wire.change = lambda path, body: f'{{"standing": "{jws}"}}'.encode() if path == "/v1/consents/me" else body
    assert reason(gate(agreed).permits(OWNER, Purpose.TRAIN_CONTRIBUTE)) is RefusalReason.UNAVAILABLE


def test_a_no_of_the_service_ends_with_a_newer_grant(agreed: Household) -> None:
    standing = agreed.agent.standing()
    lines = tuple(
        line.model_copy(update={"permitted": False, "reason": RefusalReason.WITHDRAWN, "valid_until": None})
        for line in standing.purposes
    )
    agreed.node.gate.heard(OWNER, seal(standing.model_copy(update={"purposes": lines}), agreed.world.services.signer))
    assert reason(agreed.node.gate.permits(OWNER, Purpose.TRAIN_LOCAL)) is RefusalReason.WITHDRAWN
    agreed.agree()
    assert reason(agreed.node.gate.permits(OWNER, Purpose.TRAIN_LOCAL)) is None


def test_a_withdrawal_holds_here_although_nobody_can_be_told(agreed: Household) -> None:
    agreed.wire.cut = True
    with pytest.raises(Exception, match="could not be reached"):
        agreed.agent.withdraw([Purpose.PLACE_PERSONALISED])
    local = agreed.node.gate
    assert reason(local.permits(OWNER, Purpose.PLACE_PERSONALISED)) is RefusalReason.WITHDRAWN
    assert local.untold(OWNER) == [Purpose.PLACE_PERSONALISED]
    agreed.wire.cut = False
    agreed.agent.withdraw([Purpose.PLACE_PERSONALISED])
    assert local.untold(OWNER) == []
    assert not agreed.agent.standing().permits(Purpose.PLACE_PERSONALISED, agreed.clock())
    agreed.agree()
    assert reason(local.permits(OWNER, Purpose.PLACE_PERSONALISED)) is None


def test_an_answer_without_a_standing_is_no(agreed: Household) -> None:
    agreed.wire.change = lambda _path, _body: b"{}"
    with pytest.raises(MalformedInput):
        agreed.agent.standing()
    assert reason(gate(agreed).permits(OWNER, Purpose.TRAIN_LOCAL)) is RefusalReason.UNAVAILABLE


def test_an_older_standing_does_not_take_back_a_newer_no(agreed: Household) -> None:
    """Whoever sits between could hold a yes back and let it through after the no: both are genuine and of now."""
    kept: list[bytes] = []

    def remember(path: str, body: bytes) -> bytes:
        if path == "/v1/consents/me":
            kept.append(body)
        return body

    agreed.wire.change = remember
    assert reason(gate(agreed).permits(OWNER, Purpose.TRAIN_CONTRIBUTE)) is None
    agreed.clock.advance(5)
    agreed.world.services.controls.kill(ControlScope.PURPOSE, "train.contribute", actor="privacy_officer:ana")
    assert reason(gate(agreed).permits(OWNER, Purpose.TRAIN_CONTRIBUTE)) is RefusalReason.KILL_SWITCH
    agreed.wire.change = lambda path, body: kept[0] if path == "/v1/consents/me" else body
    assert isinstance(gate(agreed).permits(OWNER, Purpose.TRAIN_CONTRIBUTE), Refusal)
    assert isinstance(agreed.node.gate.permits(OWNER, Purpose.TRAIN_CONTRIBUTE), Refusal)
