"""A topic that is switched off is neither shown nor used, and nobody is told; the commands say and check why."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from client.agent import Equipment
from client.behavior.events import Impression, Purchase, Search
from client.choosing import switch
from client.cli import device_app
from client.device import OWNER
from client.features.cache import load_examples
from client.features.usable import usable
from client.placing import opened_record
from client.store.choices import TAG_CHARS_MAX
from common.errors import DeviceErased, InputError
from common.wire.messages import Creative
from tests.device.conftest import Household
from tests.device.placing import PAGE, equipped, permit
from tests.service.world import catalogue


def tagged() -> list[Creative]:
    """Half of the things are sweets; their attributes say so."""
    sweet = {"tags": ("Sweets",)}
    return [
        one.model_copy(update=sweet | {"attributes": one.attributes | {"kind": "sweets"}}) if i % 2 else one
        for i, one in enumerate(catalogue().creatives)
    ]


@pytest.fixture
def equipment(agreed: Household) -> Equipment:
    return equipped(agreed, tagged())


def place(home: Household, equipment: Equipment) -> list[str | None]:
    placed = home.agent.place(permit(home, equipment, 8), equipment, context=PAGE, now=home.clock())
    return [one.creative_id for one in placed if one.creative_id]


def test_a_topic_that_is_off_is_not_shown_and_not_sent(agreed: Household, equipment: Equipment) -> None:
    sweets = {one.creative_id for one in tagged() if one.tags}
    assert sweets & set(place(agreed, equipment)), "control: they are shown while nothing is off"
    before = len(agreed.wire.requests)
    assert switch(agreed.node, OWNER, "SWEETS ", off=True) == ("sweets",)
    shown = place(agreed, equipment)
    assert shown
    assert not sweets & set(shown)
    assert switch(agreed.node, OWNER, "sweets", off=False) == ()
    assert sweets & set(place(agreed, equipment))
    assert len(agreed.wire.requests) == before


def test_what_was_done_about_it_is_not_used_either(agreed: Household, equipment: Equipment) -> None:
    """The score of another thing of the same category falls back to what it is without the purchase of a sweet."""
    bought = [one for one in tagged()[1:3] if not one.tags]
    place(agreed, equipment)
    switch(agreed.node, OWNER, "sweets", off=True)
    place(agreed, equipment)
    after, before = agreed.node.placements.read(OWNER), 8
    newest = {ad.creative_id: ad for ad in after[:-before]}
    assert all(ad.creative_id not in {c.creative_id for c in tagged() if c.tags} for ad in newest.values())
    decision = agreed.node.decisions.find(OWNER, after[0].decision_id)
    assert decision is not None
    assert opened_record(decision).inputs.refused_tags == {"sweets"}
    assert newest[bought[0].creative_id].score > newest[tagged()[4].creative_id].score, "what is left still counts"
    events = [
        Purchase(1.0, "a", "toffee", {"kind": "Sweets"}),
        Purchase(2.0, "a", "oats", {"kind": "grain"}),
        Search(3.0, "a", "sweets"),
    ]
    assert usable(events, ["sweets"]) == events[1:]
    assert usable(events, []) == events


def test_training_leaves_it_out_at_once(agreed: Household, equipment: Equipment) -> None:
    for number in range(3):
        kind = {"kind": "sweets"} if number else {"kind": "grain"}
        time = agreed.clock() - 100 + number
        agreed.node.recorder.record(OWNER, Impression(time, "grocer", f"i{number}", kind, {}, {}, None, 1))
    assert len(load_examples(agreed.node, OWNER)) == 3
    switch(agreed.node, OWNER, "sweets", off=True)
    assert len(load_examples(agreed.node, OWNER)) == 1
    switch(agreed.node, OWNER, "sweets", off=False)
    assert len(load_examples(agreed.node, OWNER)) == 3


def test_choices_are_sealed_bounded_and_gone_with_the_device(
    agreed: Household, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = agreed.node.choices
    monkeypatch.setattr("client.store.choices.TAGS_MAX", 3)
    for bad in ("", "   ", "x" * (TAG_CHARS_MAX + 1)):
        with pytest.raises(InputError):
            store.switch(OWNER, bad, off=True)
    store.declare(OWNER, "group canary")
    for number in range(3):
        store.switch(OWNER, f"canary {number}", off=True)
    with pytest.raises(InputError):
        store.switch(OWNER, "one too many", off=True)
    assert store.read(OWNER).group == "group canary"
    for path in agreed.node.directory.glob("placements.db*"):
        assert b"canary" not in path.read_bytes()
    agreed.node.erase(OWNER)
    assert store.read(OWNER).refused_tags == ()
    with pytest.raises(DeviceErased):
        store.switch(OWNER, "again", off=True)


Run = tuple[CliRunner, Path]


@pytest.fixture
def run(agreed: Household, equipment: Equipment, monkeypatch: pytest.MonkeyPatch) -> Run:
    place(agreed, equipment)
    monkeypatch.setenv("COLUMNS", "200")
    return CliRunner(), agreed.node.directory


def said(run: Run, *arguments: str, status: int = 0) -> str:
    runner, home = run
    result: Result = runner.invoke(device_app, [*arguments, "--home", str(home)])
    assert result.exit_code == status, result.output
    return result.output


def test_the_command_says_why(agreed: Household, run: Run) -> None:
    ad = agreed.node.placements.read(OWNER)[0]
    assert ad.decision_id in said(run, "why")
    text = said(run, "why", ad.decision_id)
    assert "Chosen on this device" in text
    assert "Demo Grocer" in text
    assert "what you bought: ×" in text
    assert "exact" in text
    assert "由本设备" in said(run, "why", ad.decision_id[:12], "--lang", "zh-CN")
    assert "InputError" in said(run, "why", "dec_nothing", status=1)
    assert "InputError" in said(run, "why", ad.decision_id, "--lang", "fr", status=1)


def test_the_command_replays(agreed: Household, run: Run) -> None:
    ad = agreed.node.placements.read(OWNER)[0]
    text = said(run, "replay", ad.decision_id[:12])
    assert ad.creative_id in text
    assert "the same answer" in text
    assert "DigestMismatch" in said(run, "replay", "dec_nothing", status=1)


def test_the_commands_switch_and_declare(run: Run) -> None:
    assert "no topic" in said(run, "tags")
    assert "switched off: snacks" in said(run, "tags", "off", "Snacks")
    assert "switched off: snacks" in said(run, "tags")
    assert "no topic" in said(run, "tags", "on", "snacks")
    assert "InputError" in said(run, "tags", "off", " ", status=1)
    assert "no group" in said(run, "group")
    assert "declared: under 30" in said(run, "group", "under 30")
    assert "declared: under 30" in said(run, "group")
    assert "no group" in said(run, "group", "")
