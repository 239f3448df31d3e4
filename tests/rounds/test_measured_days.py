"""One day's placements measured through secure aggregation: bounded on the device, charged, stored once."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import client.app
from client.store.keys import DeviceId
from client.store.placed import KeptDecision, Outcome, PlacedAd
from common.errors import NotFound, PolicyError, TooFewSurvivors
from common.measurement.layout import Cell
from common.taxonomy import ConsentState, Dimension, FollowUp, LogKind, Metric, Purpose, ReleaseKind, Task
from common.wire.documents import seal
from common.wire.experiments import ExperimentArm, ExperimentDocument
from policies.loader import load
from server.campaigns.service import CatalogueService
from server.experiments import repository
from server.experiments.repository import StoredExperiment
from server.migrations import migrate
from server.rounds import measuring
from server.rounds.accounting import PROTECTED, Costs
from server.rounds.charges import ChargeBook
from server.rounds.measuring import SCOPE, Measured
from server.storage import open_database
from server.transparency.keys import KeyRing, publish_first
from server.transparency.service import TransparencyLog
from tests.flower.nodes import COHORT, DAY_S, World
from tests.rounds.secagg_world import QUIET, RELEASES, charged, identities, make, run_measurement, use_environment
from tests.service.world import catalogue

DAY = int(time.time() // DAY_S) - 1
"""Yesterday when the tests were collected, and for the server whenever they run (``world``)."""
NOON = (DAY + 0.5) * DAY_S
COUNTED = QUIET | {"noise_multiplier": 0.004, "levels": 65536, "releases_max": 5, "groups": ["young", "old"]}
EXPERIMENT = "e" * 64
CREATIVES = catalogue(4).creatives
CAMPAIGN = CREATIVES[0].advertiser


def outcome(kind: FollowUp, number: int, **more: object) -> Outcome:
    fields: dict[str, object] = {
        "time": NOON + number,
        "kind": kind,
        "decision_id": f"dec-{number}",
        "slot_id": "top",
        "position": 0,
        "creative_id": CREATIVES[0].creative_id,
        "item": "1000",
        "campaign": CAMPAIGN,
        "advertiser": CAMPAIGN,
        "category": "snacks",
    }
    return Outcome(**(fields | more))  # type: ignore[arg-type]


def placed(number: int) -> PlacedAd:
    return PlacedAd(
        time=NOON + number,
        slot_id="top",
        creative_id=CREATIVES[0].creative_id,
        title={"en": "a"},
        category="snacks",
        advertiser=CAMPAIGN,
        payer=CAMPAIGN,
        model_version=1,
        policy_digest="0" * 64,
        score=0.25,
        contextual=0.1,
        propensity=1.0,
        signals=(),
        decision_id=f"dec-{number}",
        campaign=CAMPAIGN,
    )


def decision(arm: str) -> KeptDecision:
    return KeptDecision(b"", "0" * 64, "1" * 64, 1, experiment=EXPERIMENT, arm=arm)


def live(world: World) -> None:
    """Eight devices: each sees one ad more than the last, from none to seven; two click, one twice; one buys."""
    for index in range(2):
        with world.node(index) as node:
            for number, device in enumerate(sorted(node.vault.devices())):
                seen = index * 4 + number
                chosen = [placed(i) for i in range(seen + (seen == 3))]
                node.placements.write(device, chosen, ("dec-0", decision("new" if seen % 2 else "base"), {}))
                for i in range(seen):
                    node.outcomes.add(device, outcome(FollowUp.IMPRESSION, i))
                for i in range({5: 1, 6: 2}.get(seen, 0)):
                    node.outcomes.add(device, outcome(FollowUp.CLICK, i))
                node.outcomes.add(device, outcome(FollowUp.IMPRESSION, 90, time=NOON - DAY_S))
                node.outcomes.add(device, outcome(FollowUp.IMPRESSION, 91, mode="private_pick"))
                if seen == 6:
                    bought = {"value_micros": 70_000_000, "after": FollowUp.CLICK}
                    node.outcomes.add(device, outcome(FollowUp.CONVERSION, 0, **bought))
                if seen in {1, 2}:
                    node.choices.declare(device, "young" if seen == 1 else "unheard-of")


def publish(world: World) -> None:
    database = open_database(world.server.database_url)
    migrate(database)
    keys = KeyRing(database, world.key.public)
    log = TransparencyLog(database, world.key)
    publish_first(database, log, world.key.public)
    CatalogueService(database, world.key, lambda: NOON, log=log, keys=keys).publish(CREATIVES)
    text = "a policy document"
    arms = [
        ExperimentArm(name=n, share=5_000, policy_digest=hashlib.sha256(text.encode()).hexdigest(), policy_text=text)
        for n in ("base", "new")
    ]
    start, end = int(NOON), int(NOON + 5 * DAY_S)
    document = ExperimentDocument(experiment_id="try", salt="0" * 32, arms=tuple(arms), starts_at=start, ends_at=end)
    with database.write() as session:
        ran = StoredExperiment("try", EXPERIMENT, seal(document, world.key), start, end)
        repository.add_experiment(session, ran)
    database.close()


def stand_at_the_day_after(monkeypatch: pytest.MonkeyPatch) -> None:
    """The server's clock stands at the noon after DAY: midnight may pass while tests run."""
    monkeypatch.setattr(measuring, "time", SimpleNamespace(time=lambda: NOON + DAY_S))


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = make(tmp_path, releases=RELEASES | {"placement_counts": COUNTED})
    stand_at_the_day_after(monkeypatch)
    use_environment(made, monkeypatch)
    publish(made)
    live(made)
    yield made
    client.app._WARM.close()


def log_entries(world: World) -> int:
    database = open_database(world.server.database_url)
    try:
        return TransparencyLog(database, world.key).counts().get(LogKind.MEASUREMENT, 0)
    finally:
        database.close()


def test_a_day_is_measured_once_charged_on_both_ledgers_and_answered_from_the_store_after_that(world: World) -> None:
    found = run_measurement(world, task="measure")
    assert (found.task, found.devices) == (Task.MEASURE, 8)
    cells = {(cell.dimension, cell.label, cell.metric): cell for cell in found.cells}

    def near(truth: float, metric: Metric, dimension: Dimension = Dimension.CAMPAIGN, label: str = CAMPAIGN) -> None:
        cell = cells[dimension, label, metric]
        assert 0 < cell.stddev < 0.5
        assert cell.value == pytest.approx(truth, abs=6 * cell.stddev)

    near(0 + 1 + 2 + 3 + 4 + 5 + 5 + 5, Metric.VIEWS)  # at most five a campaign
    near(2, Metric.CLICKS)  # at most one
    near(1, Metric.CONVERSIONS)
    near(1, Metric.VALUE)  # at most the bound, in its units
    near(7, Metric.REACH)
    near(1, Metric.UNSEEN)
    near(1, Metric.DEVICES, Dimension.GROUP, "young")
    near(0, Metric.DEVICES, Dimension.GROUP, "old")
    near(6, Metric.DEVICES, Dimension.GROUP, "undeclared")  # an unheard-of group is in no cell
    near(0.25, Metric.PREDICTED, Dimension.GROUP, "young")
    near(4, Metric.REACH, Dimension.ARM, "new")  # one view each was decided in an arm
    near(4, Metric.VIEWS, Dimension.ARM, "new")
    near(3, Metric.VIEWS, Dimension.ARM, "base")
    near(1, Metric.CLICKS, Dimension.ARM, "new")
    near(1, Metric.CLICKS, Dimension.ARM, "base")
    assert set(charged(world)) == {f"n{i}-d{j}" for i in range(2) for j in range(4)}
    assert all(kinds == [ReleaseKind.PLACEMENT_COUNTS] for kinds in charged(world).values())
    with world.node(0) as node:
        assert node.ledger.entries(DeviceId("n0-d0"))[-1].purpose is Purpose.MEASURE_AGGREGATE
    again = run_measurement(world, task="measure")
    assert again.cells == found.cells
    assert again.lines == found.lines
    assert all(len(kinds) == 1 for kinds in charged(world).values())  # nobody was asked again
    assert log_entries(world) == 1


def test_without_consent_to_be_counted_nothing_is_sent(world: World) -> None:
    for index in range(2):
        for device in range(4):
            world.decide(index, f"n{index}-d{device}", ConsentState.WITHDRAWN, Purpose.MEASURE_AGGREGATE)
    with pytest.raises(TooFewSurvivors):
        run_measurement(world, task="measure", node_wait_s=0.5)
    assert not any(charged(world).values())


def test_a_day_without_a_campaign_or_one_that_is_not_over_is_not_measured(world: World) -> None:
    with pytest.raises(NotFound):
        run_measurement(world, task="measure", measure_day="2001-01-01")
    today = time.strftime("%Y-%m-%d", time.gmtime(time.time() + 600))  # it does not end while devices are asked
    with pytest.raises(TooFewSurvivors):  # every device declines
        run_measurement(world, task="measure", measure_day=today)
    assert not any(charged(world).values())


def test_a_policy_without_the_release_measures_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(tmp_path)
    use_environment(made, monkeypatch)
    publish(made)
    with pytest.raises(PolicyError, match="no release for the task measure"):
        run_measurement(made, task="measure")
    client.app._WARM.close()


def test_devices_that_saw_nothing_answer_like_any_other(world: World) -> None:
    """The device without any view takes part, and its charge is that of all the others."""
    found = run_measurement(world, task="measure")
    assert len(identities(world)) == found.devices
    assert np.isfinite([cell.value for cell in found.cells]).all()


# ── more devices than one session holds ──────────────────────────────────────────────────────────────────────────────

SMALL = COHORT | {"devices_min": 3, "devices_max": 4}


@pytest.fixture
def crowded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """The same eight devices, where a session holds four."""
    made = make(tmp_path, releases=RELEASES | {"placement_counts": COUNTED}, cohort=SMALL)
    stand_at_the_day_after(monkeypatch)
    use_environment(made, monkeypatch)
    publish(made)
    live(made)
    yield made
    client.app._WARM.close()


def views(found: Measured) -> Cell:
    return next(c for c in found.cells if (c.dimension, c.metric) == (Dimension.CAMPAIGN, Metric.VIEWS))


def test_a_day_takes_as_many_sessions_as_it_has_devices_and_each_device_pays_for_one(crowded: World) -> None:
    found = run_measurement(crowded, task="measure")
    assert found.devices == 8
    assert all(kinds == [ReleaseKind.PLACEMENT_COUNTS] for kinds in charged(crowded).values()), "one session each"
    assert len(charged(crowded)) == 8
    whole = views(found)
    assert whole.value == pytest.approx(25, abs=6 * whole.stddev)
    database = open_database(crowded.server.database_url)
    sessions = ChargeBook(database, found.run_id).all()
    database.close()
    assert [(one.survivors, one.outcome) for one in sessions] == [(4, "released")] * 2
    one_release = Costs(load(crowded.server.policies).policies.privacy_budget, PROTECTED).totals(sessions[:1], SCOPE)
    assert found.lines == one_release, "and it is what the report says that it cost"
    assert run_measurement(crowded, task="measure").cells == found.cells


@pytest.mark.slow
def test_one_session_alone_leaves_devices_out(crowded: World) -> None:
    """The control: it is the second session that counts the others, and whose noise is added."""
    found = run_measurement(crowded, task="measure", measure_sessions=1)
    assert (found.devices, len([kinds for kinds in charged(crowded).values() if kinds])) == (4, 4)
