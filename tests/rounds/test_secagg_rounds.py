"""Whole trainings through secure aggregation, in this process: what a round costs, what survives a kill, who may not.

Noise is small (z = 0.05), so that what comes back can be compared with what the devices hold.
"""

from __future__ import annotations

import itertools
import math
import sqlite3
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

import client.app
import server.rounds.training
from client.store.keys import DeviceId
from common.crypto.signing import key_ring
from common.errors import CheckpointConflict, PolicyError, TooFewSurvivors
from common.privacy.accountant import epsilon
from common.taxonomy import ConsentState, PrivacyUnit, Profile, Purpose, ReleaseKind
from policies import loader
from policies.schema import ClipQuantile
from server.ledger.service import ServerLedger
from server.registry.service import Registry
from server.rounds.charges import ChargeBook
from server.rounds.clipping import fraction_within, next_clip
from server.rounds.training import RoundReport
from server.storage import open_database
from tests.flower.nodes import RELEASE, World
from tests.rounds.secagg_world import QUIET, RELEASES, charged, identities, make, run, use_environment

ADAPTIVE = ClipQuantile(
    clipping_norm=0.5,
    noise_multiplier=30.0,
    releases_max=80,
    target_quantile=0.5,
    learning_rate=0.2,
    clipping_norm_min=0.01,
    clipping_norm_max=10.0,
)


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    made = make(tmp_path)
    use_environment(made, monkeypatch)
    yield made
    client.app._WARM.close()


# ── a training, its costs and its disclosure ─────────────────────────────────────────────────────────────────────────


def test_a_training_is_charged_release_by_release_on_both_sides(world: World) -> None:
    reports: list[RoundReport] = []
    done = run(world, lambda report: reports.append(report) or {}, num_server_rounds=3)
    assert [(r.record.roster, r.record.contributions, r.record.nodes) for r in reports] == [(8, 8, 2)] * 3
    a_round = [ReleaseKind.TRAINING_UPDATE, ReleaseKind.CLIP_QUANTILE]
    whole = a_round * 3 + [ReleaseKind.CALIBRATION, ReleaseKind.EVALUATION]
    assert charged(world) == dict.fromkeys(identities(world), whole)
    budget = loader.load(world.server.policies).policies.privacy_budget
    database = open_database(world.server.database_url)
    try:
        ledger, names = ServerLedger(database, budget), identities(world)
        with world.node(0) as node:
            own = node.ledger.epsilon(DeviceId("n0-d0"))
        assert [entry.kind for entry in ledger.entries(names["n0-d0"])] == whole
        assert all(entry.settled for entry in ledger.entries(names["n0-d0"]))
        assert ledger.epsilon(names["n0-d0"]) == pytest.approx(own)
        assert done.privacy.epsilon == pytest.approx(own)
        card = Registry(database.sessions, key_ring(world.key.public)).card().disclosure
    finally:
        database.close()
    assert card == done.manifest.disclosure
    assert card.totals[0].epsilon == pytest.approx(own)
    assert (card.profile, card.cohort.rounds, card.cohort.roster_min) == (Profile.USER_DISTRIBUTED, 3, 8)
    assert [release.kind for release in card.releases] == [*a_round, ReleaseKind.CALIBRATION, ReleaseKind.EVALUATION]
    assert card.releases[0].clipping_norm_adaptive
    assert card.releases[0].clipping_norm == reports[-1].record.clipping_norm
    kinds = [line.composition.rsplit("; ", 1)[1] for line in done.manifest.privacy]
    assert kinds[1:5] == ["training_update", "clip_quantile", "calibration", "evaluation"]
    assert all(line.unit is PrivacyUnit.USER for line in done.manifest.privacy)
    assert all(name.startswith("paid_") for name in done.manifest.metrics if name != "rounds")


def test_layered_states_two_lines_and_never_adds_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = make(tmp_path, profile="layered")
    use_environment(made, monkeypatch)
    done = run(made, num_server_rounds=2, calibrate=False, evaluate=False)
    client.app._WARM.close()
    assert [line.unit for line in done.lines] == [PrivacyUnit.USER, PrivacyUnit.RECORD]
    user, record = done.lines
    assert "skellam" in user.composition
    assert "skellam" not in record.composition
    assert record.composition.startswith("2 × gaussian(z=4)")
    assert done.manifest.disclosure is not None
    assert [total.unit for total in done.manifest.disclosure.totals] == [PrivacyUnit.USER, PrivacyUnit.RECORD]


def test_the_mean_update_is_that_of_the_devices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One round with hardly any noise moves the model as the record-free average of plain local steps would."""
    still = {"training_update": RELEASE | {"noise_multiplier": 0.01, "clipping_norm": 50.0, "levels": 1 << 17}}
    made = make(tmp_path, releases=still)
    use_environment(made, monkeypatch)
    done = run(made, num_server_rounds=1)
    plain = run(
        made,
        num_server_rounds=1,
        profile="non_private",
        run_name="plain",
        local_steps=1,
        local_learning_rate=0.5,
        local_expected_batch_size=64.0,
    )
    client.app._WARM.close()
    for name, array in done.model.items():
        assert np.abs(array - plain.model[name]).max() < 5 * 50 * 0.01 * math.sqrt(2) / 8


# ── kills ────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Killed(BaseException):
    """Not an Exception: nothing gets the chance to tidy up."""


def long_ago(world: World) -> None:
    with sqlite3.connect(world.server.state_dir / "reticent.db") as connection:
        connection.execute("UPDATE training_run SET heartbeat_at = 0")


def test_a_continued_training_keeps_its_clip_and_pays_for_nothing_twice(world: World) -> None:
    clips: list[float] = []

    def die(report: RoundReport) -> Mapping[str, float]:
        clips.append(report.record.clipping_norm)
        if report.round_number == 2:
            raise Killed
        return {}

    with pytest.raises(Killed):
        run(world, die, num_server_rounds=4, run_name="broken")
    long_ago(world)
    done = run(world, lambda r: clips.append(r.record.clipping_norm) or {}, num_server_rounds=4, run_name="broken")
    assert done.rounds_resumed == 2
    steps = [abs(math.log(b / a)) for a, b in itertools.pairwise(clips)]
    assert all(step <= 0.7 * 0.5 + 1e-9 for step in steps)  # one geometric step each: the clip did not start anew
    assert len(set(clips)) == 4
    assert all(len(kinds) == 4 * 2 + 2 for kinds in charged(world).values())
    with pytest.raises(CheckpointConflict, match="has finished"):
        run(world, num_server_rounds=4, run_name="broken")


@pytest.mark.parametrize("where", ["step", "calibrated", "evaluated", "register"])
def test_what_was_released_and_not_committed_is_paid_for_again(
    world: World, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    def kill(*_args: object, **_values: object) -> object:
        raise Killed

    with monkeypatch.context() as broken:
        broken.setattr(server.rounds.training, where, kill)
        with pytest.raises(Killed):
            run(world, num_server_rounds=2, run_name="broken")
    before = {device: len(kinds) for device, kinds in charged(world).items()}
    long_ago(world)
    done = run(world, num_server_rounds=2, run_name="broken")
    again = {"step": 2, "calibrated": 1, "evaluated": 1, "register": 0}[where]
    kinds = charged(world)
    assert all(len(found) == 2 * 2 + 2 + again for found in kinds.values())
    assert all(len(found) >= before[device] for device, found in kinds.items())
    with world.node(0) as node:
        entries = node.ledger.entries(DeviceId("n0-d0"))
    assert done.privacy.epsilon == pytest.approx(epsilon([entry.use for entry in entries], 1e-5))


def test_lost_sessions_count_against_the_rounds_that_the_policy_declares(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    releases = {
        name: value | {"releases_max": 2} if "releases_max" in value else value for name, value in RELEASES.items()
    }
    made = make(tmp_path, rounds_max=2, releases=releases)
    use_environment(made, monkeypatch)

    def kill(*_args: object, **_values: object) -> object:
        raise Killed

    with monkeypatch.context() as broken:
        broken.setattr(server.rounds.training, "step", kill)
        with pytest.raises(Killed):
            run(made, num_server_rounds=2, run_name="lossy")
    long_ago(made)
    done = run(made, num_server_rounds=2, run_name="lossy")
    client.app._WARM.close()
    assert done.manifest.metrics["rounds"] == 1  # the other session was lost
    assert sum(kind is ReleaseKind.TRAINING_UPDATE for kind in charged(made)["n0-d0"]) == 2
    with pytest.raises(PolicyError, match="declares at most 2 rounds"):
        run(made, num_server_rounds=3)


# ── who may not ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_too_few_devices_end_the_training_by_name_before_anybody_is_charged(world: World) -> None:
    for index in range(2):
        for number in range(3):
            world.decide(index, f"n{index}-d{number}", ConsentState.WITHDRAWN, Purpose.TRAIN_CONTRIBUTE)
    with pytest.raises(TooFewSurvivors):
        run(world, num_server_rounds=1, run_name="few")
    assert charged(world) == {}
    database = open_database(world.server.database_url)
    assert ChargeBook(database, "few").all() == []
    database.close()


def test_who_did_not_consent_is_on_no_roster(world: World) -> None:
    world.decide(0, "n0-d1", ConsentState.WITHDRAWN, Purpose.TRAIN_CONTRIBUTE)
    reports: list[RoundReport] = []
    run(world, lambda report: reports.append(report) or {}, num_server_rounds=1)
    assert (reports[0].record.roster, reports[0].record.contributions) == (7, 7)
    assert "n0-d1" not in charged(world)


def test_the_server_ledger_keeps_devices_out_that_have_forgotten_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two rounds fit under the cap. A device that lost its ledger would go on; the server remembers it."""
    releases = {"training_update": RELEASE | {"noise_multiplier": 4.0, "releases_max": 2}}
    made = make(tmp_path, rounds_max=2, releases=releases, epsilon_declared=1.5, epsilon_cap=1.5)
    use_environment(made, monkeypatch)
    run(made, num_server_rounds=2)
    client.app._WARM.close()
    _lose_ledgers(made, 0)
    with pytest.raises(TooFewSurvivors):
        run(made, num_server_rounds=1, model_seed=1)
    client.app._WARM.close()
    database = open_database(made.server.database_url)
    ledger = ServerLedger(database, loader.load(made.server.policies).policies.privacy_budget)
    assert all(len(ledger.entries(name)) == 2 for name in identities(made).values())
    database.close()
    with made.node(0) as node:
        assert node.ledger.devices() == [] or all(not node.ledger.entries(d) for d in node.ledger.devices())


def _lose_ledgers(world: World, index: int) -> None:
    """What a reinstalled device has: no ledger and no anchor of it; the identity is backed up elsewhere."""
    for path in [*world.directory(index).glob("ledger*"), *(world.directory(index) / "keys").glob("*anchor*")]:
        path.unlink()


# ── the clip ─────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("wrong_by", [1 / 20, 5.0])
def test_the_clip_converges_to_the_target_quantile(wrong_by: float) -> None:
    """400 devices with lognormal norms around 1, z = 30 on the count: within 25 % of the median, and stays there."""
    norms = np.random.default_rng(3).lognormal(0, 0.5, 400)
    noise, clip, path = np.random.default_rng(4), wrong_by, []
    for _ in range(80):
        within = (norms <= clip).sum() - len(norms) / 2
        noisy = within + noise.normal(0, 30 * 0.5)
        clip = next_clip(clip, fraction_within(noisy, len(norms)), ADAPTIVE)
        path.append(clip)
    median = float(np.median(norms))
    assert all(abs(math.log(one / median)) < 0.25 for one in path[-20:])
    assert abs(math.log(path[0] / median)) > 1  # the control: it was far away


def test_the_clip_stays_within_the_policys_bounds() -> None:
    assert next_clip(ADAPTIVE.clipping_norm_min, 7.0, ADAPTIVE) == ADAPTIVE.clipping_norm_min
    assert next_clip(ADAPTIVE.clipping_norm_max, -7.0, ADAPTIVE) == ADAPTIVE.clipping_norm_max


@pytest.mark.parametrize(("start", "direction"), [(0.01, 1), (50.0, -1)])
def test_rounds_move_a_wrong_clip_towards_the_updates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: float, direction: int
) -> None:
    releases = RELEASES | {"training_update": QUIET | {"clipping_norm": start}}
    made = make(tmp_path, releases=releases)
    use_environment(made, monkeypatch)
    clips: list[float] = []
    run(made, lambda r: clips.append(r.record.clipping_norm) or {}, num_server_rounds=4, evaluate=False)
    client.app._WARM.close()
    steps = [math.log(b / a) for a, b in itertools.pairwise(clips)]
    assert steps == pytest.approx([direction * 0.7 * 0.5] * 3, abs=0.05)
