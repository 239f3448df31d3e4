"""What is accepted, in which form, and for how long."""

import math
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from client.behavior.events import (
    KIND_OF,
    BehaviourEvent,
    Cart,
    Click,
    Comment,
    Impression,
    Purchase,
    Search,
    View,
    identity,
)
from client.behavior.recorder import Recorder
from client.behavior.validation import EventRejected, RejectReason, TimeLimits, normalise
from client.store import retention
from client.store.keys import DeviceId, KeyStore
from client.store.vault import Vault
from common.errors import MalformedInput
from common.taxonomy import EventKind
from policies import loader
from policies.schema import RetentionPolicy

POLICY = RetentionPolicy.model_validate(loader.read_yaml(loader.DOCUMENTS / "retention.yaml"))
DAY = 86_400.0
NOW = 1_800_000_000.0
ANNA = DeviceId("anna")
ALWAYS = TimeLimits(math.inf, dict.fromkeys(EventKind, 0.0))


def recorder(vault: Vault, now: float = NOW) -> Recorder:
    return Recorder(vault, POLICY, lambda: now)


@pytest.mark.parametrize(
    ("event", "reason", "field"),
    [
        (View(NOW + 301, "a", "i"), RejectReason.FUTURE, "time"),
        (View(NOW * 1000, "a", "i"), RejectReason.BAD_TIME, "time"),
        (View(0, "a", "i"), RejectReason.BAD_TIME, "time"),
        (View(math.nan, "a", "i"), RejectReason.BAD_TIME, "time"),
        (View(NOW - 181 * DAY, "a", "i"), RejectReason.PAST_RETENTION, "time"),
        (Search(NOW - 91 * DAY, "a", "q"), RejectReason.PAST_RETENTION, "time"),
        (View(NOW, "", "i"), RejectReason.EMPTY_NAME, "app"),
        (View(NOW, "a", " \t"), RejectReason.EMPTY_NAME, "item"),
        (Search(NOW, "a", ""), RejectReason.EMPTY_NAME, "query"),
        (Comment(NOW, "a", "i", " "), RejectReason.EMPTY_NAME, "text"),
        (Comment(NOW, "a", "i", "x" * 4001), RejectReason.TOO_LONG, "text"),
        (View(NOW, "a", "i" * 201), RejectReason.TOO_LONG, "item"),
        (View(NOW, "a", "i", {"k": "v" * 201}), RejectReason.TOO_LONG, "attributes"),
        (View(NOW, "a", "i", {str(n): "v" for n in range(65)}), RejectReason.TOO_MANY, "attributes"),
        (View(NOW, "a", "i", {}, -1.0), RejectReason.BAD_NUMBER, "dwell_s"),
        (View(NOW, "a", "i", {}, math.inf), RejectReason.BAD_NUMBER, "dwell_s"),
        (Cart(NOW, "a", "i", {}, 0), RejectReason.BAD_NUMBER, "quantity"),
        (Purchase(NOW, "a", "i", {}, math.nan), RejectReason.BAD_NUMBER, "quantity"),
        (Impression(NOW, "a", "i", outcome=2), RejectReason.BAD_OUTCOME, "outcome"),
        (Impression(NOW, "a", "i", numbers={str(n): 1.0 for n in range(65)}), RejectReason.TOO_MANY, "numbers"),
        (Impression(NOW, "a", "i", context={"": "top"}), RejectReason.EMPTY_NAME, "context"),
        (Search(NOW, "a", "\ud800"), RejectReason.UNDECODABLE, "text"),
    ],
)
def test_what_cannot_be_meant_is_rejected_by_name(
    vault: Vault, event: BehaviourEvent, reason: RejectReason, field: str
) -> None:
    with pytest.raises(EventRejected) as caught:
        recorder(vault).record(ANNA, event)
    assert (caught.value.reason, caught.value.field) == (reason, field)
    assert isinstance(caught.value, MalformedInput)
    assert vault.devices() == []


def test_missing_values_stay_missing(vault: Vault) -> None:
    events = [
        View(NOW - 1, " shop ", "shoe\n", {"brand": "N/A", "colour": " red", "size": ""}, math.nan),
        Impression(
            NOW, "news", "e\u0301", numbers={"price": math.nan, "rank": 2.0}, context={"slot": "null"}, exposure_id="-"
        ),
    ]
    assert recorder(vault).record_all(ANNA, events).stored == 2
    assert vault.read(ANNA) == [
        View(NOW - 1, "shop", "shoe", {"colour": "red"}, None),
        Impression(NOW, "news", "\u00e9", numbers={"rank": 2.0}),
    ]


def test_clock_skew_is_allowed_within_the_policy_and_changes_nothing(vault: Vault) -> None:
    ahead = Click(NOW + 299, "shop", "shoe")
    assert recorder(vault).record(ANNA, ahead)
    assert not recorder(vault, NOW + 400).record(ANNA, ahead)  # later it is the same event still
    assert vault.read(ANNA) == [ahead]


def test_a_batch_keeps_the_good_and_reports_the_bad(vault: Vault) -> None:
    told: list[tuple[int, RejectReason]] = []
    report = recorder(vault).record_all(
        ANNA,
        [Click(NOW, "a", "i"), Click(NOW, "", "i"), Click(NOW, "a", "i"), Click(NOW, "b", "i"), Search(NOW, "a", "")],
        lambda position, error: told.append((position, error.reason)),
    )
    assert (report.stored, report.duplicates, report.rejected) == (2, 1, Counter({"required-text-empty": 2}))
    assert told == [(1, RejectReason.EMPTY_NAME), (4, RejectReason.EMPTY_NAME)]


def test_devices_that_replay_a_data_set_count_from_its_own_time(vault: Vault) -> None:
    replay = Recorder(vault, POLICY, lambda: NOW, retention_now=NOW - 3000 * DAY)
    assert replay.record(ANNA, View(NOW - 3100 * DAY, "a", "i"))
    assert replay.record(ANNA, View(NOW, "a", "i"))
    with pytest.raises(EventRejected, match="past-retention"):
        replay.record(ANNA, View(NOW - 3200 * DAY, "a", "i"))


texts = st.text(max_size=12)
entries = st.dictionaries(texts, texts, max_size=4)
times = st.floats(1, 1e10)
events = (
    st.builds(View, times, texts, texts, entries, st.none() | st.floats())
    | st.builds(Comment, times, texts, texts, texts)
    | st.builds(
        Impression,
        times,
        texts,
        texts,
        entries,
        entries,
        st.dictionaries(texts, st.floats(), max_size=3),
        st.none() | texts,
    )
)


@given(events)
def test_normalisation_is_idempotent_and_keeps_identity(event: BehaviourEvent) -> None:
    try:
        once = normalise(event, ALWAYS)
    except EventRejected:
        assume(False)
        return
    assert normalise(once, ALWAYS) == once
    assert type(once) is type(event)
    assert once.time == event.time
    assert identity(normalise(once, ALWAYS)) == identity(once)


@given(events, st.sampled_from([" ", "\t", "\u3000"]))
def test_white_space_and_unicode_spelling_make_no_new_event(event: BehaviourEvent, space: str) -> None:
    import unicodedata

    import msgspec

    try:
        once = normalise(event, ALWAYS)
    except EventRejected:
        assume(False)
        return
    spelt = msgspec.structs.replace(event, app=space + unicodedata.normalize("NFD", event.app) + space)
    assert identity(normalise(spelt, ALWAYS)) == identity(once)


def test_identity_ignores_the_order_of_attributes() -> None:
    one = View(1.0, "a", "i", {"x": "1", "y": "2"})
    other = View(1.0, "a", "i", {"y": "2", "x": "1"})
    assert identity(one) == identity(other)
    assert identity(one) != identity(View(1.0, "a", "i", {"x": "2", "y": "1"}))
    assert set(KIND_OF.values()) == set(EventKind)


def test_retention_deletes_what_is_overdue_and_only_that(vault: Vault) -> None:
    at = {"old search": NOW - 89 * DAY, "old view": NOW - 179 * DAY, "purchase": NOW - 700 * DAY, "fresh": NOW - DAY}
    kept: list[BehaviourEvent] = [Purchase(at["purchase"], "a", "i"), View(at["fresh"], "a", "i")]
    vault.append(ANNA, [Search(at["old search"], "a", "q"), View(at["old view"], "a", "i"), *kept])
    vault.put_derived(ANNA, "features", b"x")
    assert retention.sweep(vault, POLICY, NOW) == {}
    assert vault.get_derived(ANNA, "features") == b"x"
    assert retention.sweep(vault, POLICY, NOW + 2 * DAY) == {ANNA: 2}
    assert vault.read(ANNA) == kept
    assert vault.get_derived(ANNA, "features") is None  # it was made from what is gone
    assert retention.sweep(vault, POLICY, NOW + 2 * DAY) == {}
    assert vault.append(ANNA, [View(NOW, "a", "new")]).stored == 1
    assert len(vault.read(ANNA)) == 3


def test_retention_leaves_a_damaged_device_to_its_owner(vault: Vault, tmp_path: Path, keys: KeyStore) -> None:
    import sqlite3

    ben = DeviceId("ben")
    for device in (ANNA, ben):
        vault.append(device, [Search(NOW - 100 * DAY, "a", "q"), View(NOW, "a", "i")])
    with sqlite3.connect(tmp_path / "vault.db") as connection:
        connection.execute("UPDATE devices SET summary = x'00' WHERE name = 'anna'")
    assert retention.sweep(vault, POLICY, NOW) == {ben: 1}
    assert vault.salvage(ANNA).events


def test_days_left() -> None:
    assert retention.days_left(POLICY, EventKind.SEARCH, NOW - 10 * DAY, NOW) == pytest.approx(80)
