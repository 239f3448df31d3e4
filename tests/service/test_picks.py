"""Private picks at the service: one public list for everybody; a mirror that charges once and takes one answer."""

from __future__ import annotations

import hashlib
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from common.crypto.signing import canonical
from common.errors import NotFound
from common.taxonomy import LogKind, RefusalReason
from common.wire.documents import open_document
from common.wire.messages import Creative
from common.wire.pick import CandidateList, Pick
from policies import picks
from server.decisions.picks import informed, read_pick
from server.picks import repository
from server.picks.service import PickClaim
from tests.service.test_changes import OTHER, OWN, arms, promoted, started
from tests.service.world import Device, World, catalogue, items, register_model

DAY = 86_400
LIST = "/v1/candidates/default"


def fetched(world: World) -> CandidateList:
    answer = world.http.get(LIST)
    assert answer.status_code == 200, answer.text
    return open_document(answer.text, CandidateList, world.services.keys)


def pick_of(listed: CandidateList, index: object = 3, **changes: object) -> Pick:
    fields = {
        "slot_group": listed.slot_group,
        "epoch": listed.epoch,
        "index": index,
        "epsilon": listed.epsilon,
        "list_hash": listed.digest,
    }
    return Pick.model_validate(fields | changes)


def charge(world: World, *claims: tuple[Device, Pick]) -> list[RefusalReason | None]:
    with world.services.database.write() as session:
        return world.services.picks.charge(session, [PickClaim(device.handle, pick) for device, pick in claims])


def told(world: World) -> list[dict[str, object]]:
    entries = world.services.log.events(limit=100, kind=LogKind.PICK)
    return [json.loads(entry.opening.record) for entry in entries if entry.opening is not None]


# ── the list ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_everybody_gets_the_same_signed_list_whatever_happens_in_its_epoch(any_world: World) -> None:
    world = any_world
    first = world.http.get(LIST)
    listed = fetched(world)
    assert (listed.chosen, listed.epsilon, len(listed.candidates)) == (1, 1.0, 4)
    assert listed.ends_at > world.clock.now >= listed.ends_at - 7 * DAY
    register_model(world.services, seed=9)
    world.services.catalogues.publish(catalogue(3).creatives)
    world.clock.advance(60)
    again = world.http.get(LIST, headers=world.consenting().headers)
    assert again.content == first.content
    assert world.http.get(LIST, headers={"if-none-match": first.headers["etag"]}).status_code == 304
    assert told(world) == [{"event": "list", "slot_group": "default", "epoch": listed.epoch, "sha256": listed.digest}]
    world.clock.now = listed.ends_at
    later = fetched(world)
    assert (later.epoch, len(later.candidates)) == (listed.epoch + 1, 3)


def test_two_processes_make_one_list(any_world: World) -> None:
    world = any_world
    others = [World(_again(world), world.clock) for _ in range(3)]
    with ThreadPoolExecutor(4) as pool:
        found = set(pool.map(lambda one: one.services.picks.lists.current("default")[0].digest, [world, *others]))
    assert len(found) == 1
    assert len(told(world)) == 1
    for other in others:
        other.close()


def _again(world: World):  # type: ignore[no-untyped-def]
    from server.api.services import build_services

    return build_services(world.services.settings, clock=world.clock)


@pytest.mark.parametrize("path", ["/v1/candidates/nobody", "/v1/candidates/UPPER", "/v1/candidates/a%2Fb"])
def test_there_is_no_list_for_other_names(furnished: World, path: str) -> None:
    assert furnished.http.get(path).status_code in {404, 422}


def test_without_two_candidates_there_is_no_list(world: World) -> None:
    assert world.http.get(LIST).status_code == 404
    world.services.catalogues.publish(catalogue(1).creatives)
    assert world.http.get(LIST).status_code == 404
    with pytest.raises(NotFound):
        world.services.picks.lists.current("default")
    world.services.catalogues.publish(catalogue(2).creatives)
    assert len(fetched(world).candidates) == 2


def test_the_list_takes_the_best_of_each_category_in_turn(world: World) -> None:
    from server.campaigns.templates import build_catalogue, read_templates

    register_model(world.services)
    sorts = [f"sort {i}" for i in range(5)]
    facts = [
        fact.__class__(f"{sort}-{fact.item_id}", sort, fact.attributes, fact.numbers)
        for sort in sorts
        for fact in items(4, sort)
    ]
    world.services.catalogues.publish(build_catalogue(facts, read_templates()).creatives)
    found = [one.category for one in fetched(world).candidates]
    assert len(found) == len(set(found)) == 4, "one of each first"
    assert set(found) < set(sorts)


# ── what is taken as a pick ──────────────────────────────────────────────────────────────────────────────────────────


def paid_for(count: int = 12) -> list[Creative]:
    """Of two advertisers, each offering more than the one before."""
    return [
        creative.model_copy(
            update={"bid_micros": (1 + index) * 100_000, "advertiser": "Loud" if index % 2 else creative.advertiser}
        )
        for index, creative in enumerate(catalogue(count).creatives)
    ]


BY_VALUE = OTHER.replace("eligibility:\n", "score: {kind: value}\neligibility:\n  denied_advertisers: [Loud]\n", 1)
"""Promoted: without the loud one, by what is paid, and with a pool of one, which is no reason for a list of one."""


def test_a_promotion_makes_the_next_list_and_leaves_this_one_as_it_is(furnished: World) -> None:
    """The list is of the policy in force when it was made: not of the installation's file, and not of a later one."""
    world = furnished
    world.services.catalogues.publish(paid_for())
    first, now = world.http.get(LIST), fetched(world)
    pick = pick_of(now)
    assert "Loud" in {one.advertiser for one in now.candidates}
    assert promoted(world, BY_VALUE).status_code == 200
    assert world.http.get(LIST).content == first.content
    assert world.services.picks.offered(pick) == now
    assert (now.ordered_by, _again(world).picks.lists.current("default")[1]) == ("response", now)
    world.clock.now = now.ends_at
    later = fetched(world)
    assert (later.ordered_by, "Loud" in {one.advertiser for one in later.candidates}) == ("value", False)
    assert world.services.picks.offered(pick) is RefusalReason.PICK_OUTDATED
    back = world.services.placement.rollback(None, person="wei", actor="admin", reason="no better")
    assert back.policy.score.kind == "response"
    assert fetched(world) == later  # likewise for a rollback


def test_what_a_pick_means_stays_for_the_epoch(furnished: World) -> None:
    """Devices drew by the list's rule: a rule put in force later must not change what their answers are taken for."""
    world = furnished
    world.services.catalogues.publish(paid_for(8))
    listed, contextual = fetched(world), [0.05] * 4
    before = world.services.picks.scores(listed, pick_of(listed, 2), listed.candidates, contextual)
    assert promoted(world, BY_VALUE).status_code == 200
    assert world.services.picks.scores(listed, pick_of(listed, 2), listed.candidates, contextual) == before
    by_value = listed.model_copy(update={"ordered_by": "value"})
    control = world.services.picks.scores(by_value, pick_of(by_value, 2), listed.candidates, contextual)
    assert control != before, "the rule does make a difference"


def test_the_list_is_the_same_for_every_arm_of_an_experiment(furnished: World) -> None:
    world = furnished
    world.services.catalogues.publish(paid_for())
    assert started(world, arms=arms(OWN, BY_VALUE)).status_code == 200
    found = {world.http.get(LIST, headers=world.consenting().headers).content for _ in range(4)}
    assert len(found) == 1
    listed = fetched(world)
    assert (listed.ordered_by, "Loud" in {one.advertiser for one in listed.candidates}) == ("response", True)


def test_lists_that_say_no_rule_keep_their_digest(furnished: World) -> None:
    listed = fetched(furnished)
    unsaid = canonical(listed.model_dump_json(exclude={"ordered_by"}).encode())
    assert CandidateList.model_validate_json(unsaid) == listed
    assert listed.digest == hashlib.sha256(unsaid).hexdigest()
    assert listed.model_copy(update={"ordered_by": "value"}).digest != listed.digest


def test_a_pick_is_of_the_list_in_force_and_of_nothing_else(furnished: World) -> None:
    listed, service = fetched(furnished), furnished.services.picks
    assert service.offered(pick_of(listed)) == listed
    wrong: list[dict[str, object]] = [
        {"epoch": listed.epoch - 1},
        {"epoch": listed.epoch + 1},
        {"index": 4},
        {"epsilon": 0.5},
        {"list_hash": hashlib.sha256(b"another").hexdigest()},
        {"slot_group": "other"},
    ]
    for changes in wrong:
        assert service.offered(pick_of(listed, **changes)) is RefusalReason.PICK_OUTDATED
    furnished.clock.now = listed.ends_at
    assert service.offered(pick_of(listed)) is RefusalReason.PICK_OUTDATED


@pytest.mark.parametrize(
    "value",
    [
        None,
        "pick",
        [],
        {},
        {"index": 1},
        {"slot_group": "default", "epoch": 1, "index": -1, "epsilon": 1, "list_hash": "0" * 64},
        {"slot_group": "default", "epoch": 1, "index": 1, "epsilon": float("nan"), "list_hash": "0" * 64},
        {"slot_group": "default", "epoch": 1, "index": "1", "epsilon": 1, "list_hash": "0" * 64},
        {"slot_group": "default", "epoch": 1.5, "index": 1, "epsilon": 1, "list_hash": "0" * 64},
        {"slot_group": "default", "epoch": 1, "index": 1, "epsilon": 1, "list_hash": "0" * 64, "scores": [0.1]},
        {"slot_group": "\x00", "epoch": 1, "index": 1, "epsilon": 1, "list_hash": "0" * 64},
    ],
)
def test_what_is_no_pick_is_not_read(value: object) -> None:
    assert read_pick(value) is None


def test_a_pick_is_read() -> None:
    good = {"slot_group": "default", "epoch": 1, "index": 1, "epsilon": 1, "list_hash": "0" * 64}
    assert read_pick(good) == Pick(slot_group="default", epoch=1, index=1, epsilon=1.0, list_hash="0" * 64)


def test_g_learns_of_the_candidates_and_nothing_of_the_others(furnished: World) -> None:
    listed, service = fetched(furnished), furnished.services.picks
    creatives = [*listed.candidates, *catalogue(12).creatives[8:]]
    contextual = [0.05] * len(creatives)
    told_scores = service.scores(listed, pick_of(listed, 2), creatives, contextual)
    assert told_scores[4:] == contextual[4:]
    assert told_scores.index(max(told_scores)) == 2
    assert all(y < 0.05 for i, y in enumerate(told_scores[:4]) if i != 2)
    assert informed(listed, pick_of(listed, 2), [], [], spread=0.8) == []


# ── the mirror ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_same_answer_is_charged_once_and_another_one_is_refused(any_world: World) -> None:
    world, listed = any_world, fetched(any_world)
    anna, bert = world.enrol(), world.enrol()
    assert charge(world, (anna, pick_of(listed, 3))) == [None]
    for _ in range(3):
        assert charge(world, (anna, pick_of(listed, 3)), (bert, pick_of(listed, 3))) == [None, None]
    assert charge(world, (anna, pick_of(listed, 4)), (anna, pick_of(listed, 3))) == [RefusalReason.PICK_REDRAWN, None]
    standing = world.services.picks.standing()
    assert standing is not None
    assert (standing.devices, standing.epsilon_max, standing.spends) == (2, 1.0, ((1.0, 2),))
    charged = [record for record in told(world) if record["event"] == "charged"]
    assert [record["devices"] for record in charged] == [1, 1]
    assert not {anna.handle, bert.handle} & set(json.dumps(told(world)).split('"'))


def test_two_different_answers_in_one_batch_count_as_one(furnished: World) -> None:
    listed, anna = fetched(furnished), furnished.enrol()
    found = charge(furnished, (anna, pick_of(listed, 1)), (anna, pick_of(listed, 2)), (anna, pick_of(listed, 1)))
    assert found == [None, RefusalReason.PICK_REDRAWN, None]


def test_who_is_not_known_is_not_charged(furnished: World) -> None:
    listed = fetched(furnished)
    stranger = Device("A" * 22)
    assert charge(furnished, (stranger, pick_of(listed))) == [RefusalReason.UNKNOWN_SUBJECT]
    standing = furnished.services.picks.standing()
    assert standing is not None
    assert standing.devices == 0


def test_the_cap_holds_over_a_period_and_the_next_one_begins_anew(any_world: World) -> None:
    world = any_world
    anna, rules = world.enrol(), picks.rules_of(world.services.policies.policies.privacy_budget)
    start = (picks.period_of_picks(rules, world.clock.now) + 1) * rules.period_days * DAY
    for week in range(4):
        world.clock.now = start + week * 7 * DAY + 3600
        assert charge(world, (anna, pick_of(fetched(world)))) == [None]
    extra = pick_of(fetched(world), slot_group="other")
    assert charge(world, (anna, extra)) == [RefusalReason.BUDGET_EXHAUSTED]
    world.clock.now = start + 28 * DAY
    assert charge(world, (anna, pick_of(fetched(world)))) == [None]
    standing = world.services.picks.standing()
    assert standing is not None
    assert standing.spends == ((1.0, 1),)
    with world.services.database.read() as session:
        assert repository.period_key(session, standing.period - 1) is None, "the key of a period goes with it"
        assert repository.spends(session, standing.period - 1) == []


def test_what_is_rolled_back_was_never_charged(furnished: World) -> None:
    listed, anna = fetched(furnished), furnished.enrol()
    with furnished.services.database.sessions() as session:
        assert furnished.services.picks.charge(session, [PickClaim(anna.handle, pick_of(listed, 1))]) == [None]
        session.rollback()
    assert charge(furnished, (anna, pick_of(listed, 2))) == [None]


def test_batches_at_once_charge_each_device_once(any_world: World) -> None:
    world, listed = any_world, fetched(any_world)
    people = [world.enrol() for _ in range(6)]

    def batch(index: int) -> list[RefusalReason | None]:
        return charge(world, *((one, pick_of(listed, index)) for one in people))

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(batch, range(4)))
    assert sorted(sum(verdicts.count(None) for verdicts in [row]) for row in found) == [0, 0, 0, 6]
    standing = world.services.picks.standing()
    assert standing is not None
    assert standing.spends == ((1.0, 6),)


def test_an_erased_device_finds_its_budget_as_it_left_it(any_world: World) -> None:
    world, listed, anna = any_world, fetched(any_world), any_world.enrol()
    assert charge(world, (anna, pick_of(listed, 3))) == [None]
    with world.services.database.write() as session:
        world.services.picks.forget(session, [anna.key.public.raw])
    assert charge(world, (anna, pick_of(listed, 3))) == [RefusalReason.PICK_REDRAWN], "its answer is forgotten"
    standing = world.services.picks.standing()
    assert standing is not None
    assert standing.spends == ((1.0, 1),), "what it cost is not"


def test_the_database_names_nobody_and_holds_no_answer(furnished: World) -> None:
    listed, anna = fetched(furnished), furnished.enrol()
    charge(furnished, (anna, pick_of(listed, 3)))
    with furnished.services.database.read() as session:
        standing = furnished.services.picks.standing()
        assert standing is not None
        key = repository.period_key(session, standing.period)
        assert key is not None
        from server.picks.service import _device

        ((row,),) = repository.picks_of(session, [_device(key, anna.key.public.raw)]).values()
    held = row.device + row.answer
    for name in (anna.handle.encode(), anna.key.public.raw, anna.key.public.x.encode()):
        assert name not in held
    assert hashlib.sha256(anna.key.public.raw).digest() not in held, "a digest without a key could be looked up"
