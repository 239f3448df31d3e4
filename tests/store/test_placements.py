"""Records behind "why this ad": sealed, bounded, gone with their device."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path

import pytest

from client.store.keys import DeviceId, KeyStore
from client.store.placed import PlacedAd, SignalEffect
from client.store.placed_file import PlacedFile
from client.store.placements import KEPT_MAX, Placements
from common.errors import DeviceErased, VaultCorrupt

ANNA, BERT = DeviceId("anna"), DeviceId("bert")


def ad(number: int) -> PlacedAd:
    return PlacedAd(
        time=float(number),
        slot_id="top",
        creative_id=f"creative-{number}",
        title={"en": f"canary title {number}"},
        category="snacks",
        advertiser="Acme",
        payer="Acme",
        model_version=1,
        policy_digest="d" * 64,
        score=0.2,
        contextual=0.1,
        propensity=1.0,
        signals=(SignalEffect("bought", "item", 0.5),),
    )


@dataclass
class Home:
    path: Path
    keys: KeyStore
    store: Placements


@pytest.fixture
def home(tmp_path: Path) -> Home:
    keys = KeyStore(tmp_path / "keys")
    keys.create(ANNA)
    keys.create(BERT)
    return Home(tmp_path / "placements.db", keys, Placements(PlacedFile(tmp_path / "placements.db", keys)))


def test_what_was_written_is_read_newest_first_and_by_its_device_alone(home: Home) -> None:
    assert home.store.read(ANNA) == []
    home.store.write(ANNA, [ad(1), ad(2)])
    home.store.write(ANNA, [ad(3)])
    home.store.write(ANNA, [])
    assert home.store.read(ANNA) == [ad(3), ad(2), ad(1)]
    assert home.store.read(ANNA, newest=1) == [ad(3)]
    assert home.store.read(BERT) == []


def test_only_the_newest_are_kept(home: Home) -> None:
    home.store.write(BERT, [ad(0)])
    home.store.write(ANNA, [ad(number) for number in range(KEPT_MAX + 5)])
    kept = home.store.read(ANNA)
    assert (len(kept), kept[-1]) == (KEPT_MAX, ad(5))
    assert home.store.read(BERT) == [ad(0)]


def test_nothing_of_an_ad_can_be_read_in_the_file(home: Home) -> None:
    home.store.write(ANNA, [ad(1)])
    for path in home.path.parent.glob("placements.db*"):
        data = path.read_bytes()
        assert b"canary" not in data
        assert b"Acme" not in data


def test_another_devices_record_or_a_changed_one_is_found(home: Home) -> None:
    home.store.write(ANNA, [ad(1)])
    with sqlite3.connect(home.path) as connection:
        connection.execute("UPDATE placements SET device = 'bert'")
    with pytest.raises(VaultCorrupt, match="does not authenticate"):
        home.store.read(BERT)


def test_records_go_with_their_device(home: Home) -> None:
    home.store.write(ANNA, [ad(1)])
    home.keys.destroy(ANNA)
    with pytest.raises(DeviceErased):
        home.store.read(ANNA)
    with pytest.raises(DeviceErased):
        home.store.write(ANNA, [ad(2)])
    home.store.forget(ANNA)
    assert home.store.read(ANNA) == []
