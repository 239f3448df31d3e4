"""The vault keeps what it is given, for its owner only, and names what went wrong."""

import functools
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.behavior.events import (
    BehaviourEvent,
    Cart,
    Click,
    Comment,
    Favourite,
    Impression,
    Purchase,
    Search,
    View,
)
from client.store.keys import DeviceId, KeyStore
from client.store.vault import Vault
from common.errors import DeviceErased, StoreError, VaultCorrupt, WrongKey

ANNA, BEN = DeviceId("anna"), DeviceId("ben")
EVENTS: list[BehaviourEvent] = [
    View(10.0, "shop", "shoe", {"category": "shoes"}, 2.5),
    Click(11.0, "shop", "shoe"),
    Favourite(12.0, "shop", "shoe"),
    Cart(13.0, "shop", "shoe", {}, 2.0),
    Purchase(14.0, "shop", "shoe"),
    Search(15.0, "shop", "red shoes"),
    Comment(16.0, "shop", "shoe", "they fit"),
    Impression(17.0, "news", "hat", {"category": "hats"}, {"slot": "top"}, {"price": 9.5}, "e1", 1),
]


def raw(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, isolation_level=None)


def test_every_kind_comes_back_in_time_order(vault: Vault, tmp_path: Path, keys: KeyStore) -> None:
    report = vault.append(ANNA, reversed(EVENTS))
    assert (report.stored, report.duplicates) == (8, 0)
    vault.close()
    again = Vault.open(tmp_path / "vault.db", keys)
    assert again.read(ANNA) == EVENTS
    assert again.devices() == [ANNA]
    assert again.count(ANNA) == 8
    assert again.read(BEN) == []
    again.close()


def test_duplicates_are_recognised_per_device_and_across_appends(vault: Vault) -> None:
    assert vault.append(ANNA, EVENTS[:3]).stored == 3
    report = vault.append(ANNA, [*EVENTS, EVENTS[0]])
    assert (report.stored, report.duplicates) == (5, 4)
    assert vault.append(BEN, EVENTS).stored == 8
    assert vault.read(ANNA) == vault.read(BEN) == EVENTS


def test_an_impression_is_the_same_whatever_is_learnt_of_it_later(vault: Vault) -> None:
    shown = Impression(1.0, "news", "hat", {"a": "1"}, exposure_id="e")
    assert vault.append(ANNA, [shown]).stored == 1
    assert vault.append(ANNA, [Impression(1.0, "news", "hat", exposure_id="e", outcome=1)]).duplicates == 1
    assert vault.append(ANNA, [Impression(1.0, "news", "cap", exposure_id="e")]).stored == 1
    assert vault.append(ANNA, [Impression(1.0, "mail", "hat", exposure_id="e")]).stored == 1


names = st.text("ab\u00e9\0/.", max_size=3)
views = st.builds(
    View, st.floats(0, 1e9), names, names, st.dictionaries(names, names, max_size=3), st.none() | st.floats(0, 9)
)


@settings(max_examples=25)
@given(st.lists(st.lists(views | st.builds(Search, st.floats(0, 1e9), names, names), max_size=6), max_size=5))
def test_the_vault_is_a_set_in_time_order(batches: list[list[BehaviourEvent]]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        vault = Vault.open(Path(folder) / "v.db", KeyStore(Path(folder) / "k"))
        kept: list[BehaviourEvent] = []
        for batch in batches:
            fresh: list[BehaviourEvent] = []
            for event in batch:
                if event not in kept and event not in fresh:
                    fresh.append(event)
            report = vault.append(ANNA, batch)
            assert (report.stored, report.duplicates) == (len(fresh), len(batch) - len(fresh))
            kept += fresh
        assert vault.read(ANNA) == sorted(kept, key=lambda event: event.time)
        vault.close()


def test_nothing_readable_is_on_the_disk(vault: Vault, tmp_path: Path) -> None:
    canaries = ["CANARY-query", "CANARY-item", "CANARY-app", "CANARY-attr", "CANARY-derived"]
    vault.append(ANNA, [Search(1.0, "CANARY-app", "CANARY-query"), View(1.0, "x", "CANARY-item", {"k": "CANARY-attr"})])
    vault.put_derived(ANNA, "name", b"CANARY-derived")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"vault.db", "vault.db-wal"} <= {path.name for path in files}
    for path in files:
        data = path.read_bytes()
        assert not [word for word in canaries if word.encode() in data], path
        assert path.stat().st_mode & 0o077 == 0, path
    assert b"anna" in (tmp_path / "vault.db-wal").read_bytes()  # the search does find what is there


def test_the_same_event_of_two_devices_looks_unrelated(vault: Vault, tmp_path: Path) -> None:
    for device in (ANNA, BEN):
        vault.append(device, EVENTS)
    rows = raw(tmp_path / "vault.db").execute("SELECT tag, sealed FROM events").fetchall()
    assert len({tag for tag, _ in rows}) == len({sealed for _, sealed in rows}) == 16


def damage(path: Path, statement: str, *values: object) -> None:
    connection = raw(path)
    assert connection.execute(statement, values).rowcount > 0
    connection.close()


OTHER_END = "(CASE WHEN substr(sealed, -1) = x'78' THEN 'y' ELSE 'x' END)"
OTHER = "(SELECT sealed FROM events other WHERE other.sequence = ? AND other.device = ?)"


@pytest.mark.parametrize(
    ("change", "values", "bad"),
    [
        (f"sealed = CAST(substr(sealed, 1, length(sealed) - 1) || {OTHER_END} AS BLOB) WHERE sequence = 3", (), [3]),
        ("sealed = CAST('' AS BLOB) WHERE sequence IN (2, 5)", (), [2, 5]),
        (f"sealed = {OTHER} WHERE sequence = 4 AND device = 1", (1, 1), [4]),
        (f"sealed = {OTHER} WHERE sequence = 6 AND device = 1", (6, 2), [6]),
        ("sequence = 99 WHERE sequence = 7 AND device = 1", (), [99]),
    ],
    ids=["flipped", "emptied", "copied", "of-another-device", "renumbered"],
)
def test_a_damaged_record_is_named_and_the_rest_is_salvaged(
    vault: Vault, tmp_path: Path, change: str, values: tuple[int, ...], bad: list[int]
) -> None:
    for device in (ANNA, BEN):
        vault.append(device, EVENTS)
    damage(tmp_path / "vault.db", f"UPDATE events SET {change}", *values)  # noqa: S608
    with pytest.raises(VaultCorrupt, match=rf"record {bad[0]} of this device is damaged \({len(bad)} in all\)"):
        vault.read(ANNA)
    saved = vault.salvage(ANNA)
    assert saved.bad_sequences == bad
    lost = {7 if number == 99 else number for number in bad}
    assert saved.events == [event for number, event in enumerate(EVENTS) if number not in lost]


def test_a_record_that_was_cut_out_is_missed(vault: Vault, tmp_path: Path) -> None:
    vault.append(ANNA, EVENTS)
    damage(tmp_path / "vault.db", "DELETE FROM events WHERE sequence = 4")
    with pytest.raises(VaultCorrupt, match="1 records of this device are missing"):
        vault.read(ANNA)
    assert vault.salvage(ANNA).missing == 1


def test_a_damaged_summary_is_named(vault: Vault, tmp_path: Path) -> None:
    vault.append(ANNA, EVENTS)
    damage(tmp_path / "vault.db", "UPDATE devices SET summary = x'00'")
    with pytest.raises(VaultCorrupt, match="summary"):
        vault.append(ANNA, EVENTS)
    assert vault.salvage(ANNA).events == EVENTS


def many(count: int) -> list[BehaviourEvent]:
    return [View(float(i), "shop", f"item-{i}") for i in range(count)]


def test_damaged_pages_are_named_and_the_rest_is_salvaged(tmp_path: Path, keys: KeyStore) -> None:
    path = tmp_path / "vault.db"
    vault = Vault.open(path, keys)
    vault.append(ANNA, many(2000))
    vault.close()
    data = bytearray(path.read_bytes())
    leaf = next(
        i
        for i in range(20, len(data) // 4096)
        if data[i * 4096] == 0x0A and data[i * 4096 + 1000 : i * 4096 + 1010].count(0) < 3
    )
    data[leaf * 4096 : leaf * 4096 + 4096] = b"\xff" * 4096
    path.write_bytes(data)
    vault = Vault.open(path, keys)
    with pytest.raises(VaultCorrupt, match=r"damaged|missing"):
        vault.read(ANNA)
    saved = vault.salvage(ANNA)
    assert 1900 < len(saved.events) < 2000
    assert len(saved.events) + len(saved.bad_sequences) + saved.missing == 2000
    vault.close()


@pytest.mark.parametrize(
    "ruin",
    [
        lambda data: b"",
        lambda data: b"not a database, but a text that is long enough to be one" * 99,
        lambda data: b"\0" * 4096 + data[4096:],
        lambda data: data[: len(data) // 2 + 100],
        lambda data: data[:100],
    ],
    ids=["empty", "text", "no-header", "half", "header-only"],
)
def test_a_ruined_file_is_named_and_not_touched(tmp_path: Path, keys: KeyStore, ruin: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "vault.db"
    vault = Vault.open(path, keys)
    vault.append(ANNA, many(500))
    vault.close()
    path.write_bytes(ruin(path.read_bytes()))
    before = path.read_bytes()

    def use() -> None:
        opened = Vault.open(path, keys)
        try:
            opened.read(ANNA)
        finally:
            opened.close()

    with pytest.raises(VaultCorrupt):
        use()
    assert path.read_bytes() == before


def test_another_format_is_refused(tmp_path: Path, keys: KeyStore) -> None:
    Vault.open(tmp_path / "vault.db", keys).close()
    with raw(tmp_path / "vault.db") as connection:
        connection.execute("PRAGMA user_version = 7")
    with pytest.raises(VaultCorrupt, match="format 7"):
        Vault.open(tmp_path / "vault.db", keys)


def test_a_wrong_key_is_told_from_a_damaged_vault(vault: Vault, tmp_path: Path, keys: KeyStore) -> None:
    vault.append(ANNA, EVENTS)
    (file,) = keys.directory.glob("*.key")
    right = file.read_bytes()
    vault.close()
    for wrong, said in ((bytes(32), "not the one"), (b"short", "damaged"), (None, "not in the key directory")):
        file.unlink() if wrong is None else file.write_bytes(wrong)
        opened = Vault.open(tmp_path / "vault.db", keys)
        for use in (opened.read, opened.salvage, opened.oldest, functools.partial(opened.append, events=EVENTS)):
            with pytest.raises(WrongKey, match=said):
                use(ANNA)
        opened.close()
    file.write_bytes(right)
    opened = Vault.open(tmp_path / "vault.db", keys)
    assert opened.read(ANNA) == EVENTS
    opened.close()


def test_erasure_is_final_and_remembered(vault: Vault, tmp_path: Path, keys: KeyStore) -> None:
    vault.append(ANNA, EVENTS)
    vault.append(BEN, EVENTS)
    vault.put_derived(ANNA, "cache", b"x")
    vault.erase(ANNA)
    vault.erase(ANNA)  # twice does no harm
    assert vault.devices() == [BEN]
    assert vault.is_erased(ANNA)
    assert raw(tmp_path / "vault.db").execute("SELECT COUNT(*) FROM events").fetchone() == (8,)
    assert raw(tmp_path / "vault.db").execute("SELECT COUNT(*) FROM derived").fetchone() == (0,)
    assert len(list(keys.directory.glob("*.key"))) == 1
    for use in (vault.read, lambda d: vault.append(d, EVENTS), lambda d: vault.get_derived(d, "cache")):
        with pytest.raises(DeviceErased):
            use(ANNA)
    assert vault.read(BEN) == EVENTS
    with pytest.raises(StoreError, match="no such device"):
        vault.erase(DeviceId("nobody"))


def test_a_copy_of_the_vault_is_unreadable_after_erasure(vault: Vault, tmp_path: Path, keys: KeyStore) -> None:
    vault.append(ANNA, EVENTS)
    vault.close()
    shutil.copy(tmp_path / "vault.db", tmp_path / "stolen.db")
    opened = Vault.open(tmp_path / "vault.db", keys)
    opened.erase(ANNA)
    opened.close()
    stolen = Vault.open(tmp_path / "stolen.db", KeyStore(tmp_path / "keys"))
    assert stolen.devices() == []
    stolen.close()


@pytest.mark.parametrize("step", ["marked", "key-gone"])
def test_an_interrupted_erasure_is_completed(vault: Vault, tmp_path: Path, keys: KeyStore, step: str) -> None:
    vault.append(ANNA, EVENTS)
    vault.append(BEN, EVENTS)
    vault.close()
    if step == "marked":
        (tmp_path / "keys" / keys._mark(ANNA).name).touch()
    else:
        keys.destroy(ANNA)
    opened = Vault.open(tmp_path / "vault.db", keys)
    assert opened.is_erased(ANNA)
    assert opened.devices() == [BEN]
    assert not keys._path(ANNA).exists()
    assert raw(tmp_path / "vault.db").execute("SELECT COUNT(*) FROM events WHERE device = 1").fetchone() == (0,)
    opened.close()


def test_an_erased_device_can_start_again_with_nothing_left(vault: Vault) -> None:
    vault.append(ANNA, EVENTS)
    with pytest.raises(StoreError, match="only an erased device"):
        vault.start_again(ANNA)
    vault.erase(ANNA)
    vault.start_again(ANNA)
    assert vault.read(ANNA) == []
    assert vault.append(ANNA, EVENTS[:2]).stored == 2
    assert vault.read(ANNA) == EVENTS[:2]


def test_derived_payloads_are_kept_until_the_events_change(vault: Vault, tmp_path: Path) -> None:
    assert vault.get_derived(ANNA, "a") is None
    vault.append(ANNA, EVENTS[:2])
    vault.put_derived(ANNA, "a", b"payload")
    vault.put_derived(ANNA, "b", b"")
    assert vault.get_derived(ANNA, "a") == b"payload"
    assert vault.get_derived(ANNA, "b") == b""
    assert vault.append(ANNA, EVENTS[:2]).stored == 0
    assert vault.get_derived(ANNA, "a") == b"payload"
    damage(
        tmp_path / "vault.db",
        "UPDATE derived SET sealed = (SELECT sealed FROM derived WHERE name = 'b') WHERE name = 'a'",
    )
    assert vault.get_derived(ANNA, "a") is None  # not what was cached under this name: compute it again
    vault.append(ANNA, EVENTS[2:3])
    assert vault.get_derived(ANNA, "b") is None


def test_a_failed_append_leaves_nothing_behind(vault: Vault) -> None:
    def broken() -> object:
        yield EVENTS[0]
        raise RuntimeError("the app went away")

    vault.append(ANNA, EVENTS[3:5])
    with pytest.raises(RuntimeError, match="went away"):
        vault.append(ANNA, broken())  # type: ignore[arg-type]
    assert vault.read(ANNA) == EVENTS[3:5]
    with vault.transaction():
        vault.append(BEN, EVENTS[:1])
        with pytest.raises(RuntimeError):
            vault.append(ANNA, broken())  # type: ignore[arg-type]
    assert vault.read(ANNA) == EVENTS[3:5]
    assert vault.read(BEN) == EVENTS[:1]
    assert vault.append(ANNA, EVENTS).stored == 6


def test_a_bulk_load_is_all_or_nothing(vault: Vault) -> None:
    def load() -> None:
        with vault.transaction():
            vault.append(ANNA, EVENTS)
            vault.append(BEN, EVENTS)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        load()
    assert vault.devices() == []
    vault.append(ANNA, EVENTS)  # keys that were made for the failed load are used, not replaced
    assert vault.read(ANNA) == EVENTS


def test_two_processes_may_share_a_vault(vault: Vault, tmp_path: Path, keys: KeyStore) -> None:
    other = Vault.open(tmp_path / "vault.db", keys)
    vault.append(ANNA, EVENTS[:4])
    other.append(ANNA, EVENTS[2:])
    vault.append(ANNA, EVENTS)
    assert vault.read(ANNA) == other.read(ANNA) == EVENTS
    other.erase(ANNA)
    with pytest.raises(DeviceErased):
        vault.read(ANNA)
    other.close()


def test_a_busy_vault_says_so(vault: Vault, tmp_path: Path) -> None:
    blocker = raw(tmp_path / "vault.db")
    blocker.execute("BEGIN IMMEDIATE")
    vault._connection.execute("PRAGMA busy_timeout = 10")
    with pytest.raises(StoreError, match="in use by another process"):
        vault.append(ANNA, EVENTS)
    blocker.execute("ROLLBACK")
    blocker.close()
    assert vault.append(ANNA, EVENTS).stored == 8


def test_keys_may_lie_elsewhere_and_are_private(tmp_path: Path) -> None:
    keys = KeyStore(tmp_path / "usb" / "keys")
    vault = Vault.open(tmp_path / "vault.db", keys)
    vault.append(DeviceId("../../etc/passwd"), EVENTS)
    vault.close()
    (file,) = (tmp_path / "usb" / "keys").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "usb" / "keys").stat().st_mode & 0o777 == 0o700
    assert len(file.read_bytes()) == 32
