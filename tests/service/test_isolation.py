"""A database whose operator has chosen another isolation: a decision must still see what was withdrawn before it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from sqlalchemy import text

from common.taxonomy import Role
from common.wire.messages import ConsentWithdrawal
from server.decisions import committing
from server.decisions.cursor import Cursor
from server.decisions.seen import Seen
from server.settings import Settings
from server.storage import open_database
from tests.service.world import World


def test_a_decision_sees_a_withdrawal_whatever_the_database_would_rather(
    any_world: World, any_settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not any_settings.database_url.startswith("postgresql"):
        pytest.skip("SQLite has one isolation: the writer is alone")
    device, services = any_world.consenting(), any_world.services
    admin = open_database(any_settings.database_url)
    with admin.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        name = connection.execute(text("SELECT current_database()")).scalar_one()
        connection.execute(text(f"ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read'"))
    admin.close()
    services.database.engine.dispose()
    real, read = committing.read_postgresql, list[int]()

    def withdrawn_meanwhile(cursor: Cursor, handles: Sequence[str], keys: Sequence[str], now: int) -> Seen:
        monkeypatch.setattr(committing, "read_postgresql", real)
        read.extend(cursor.execute("SELECT count(*) FROM subject").fetchone())  # a snapshot would be taken now
        services.consent.withdraw(ConsentWithdrawal(handle=device.handle, purposes="all"), Role.DEVICE)
        return real(cursor, handles, keys, now)

    assert any_world.decide(device.handle, device.headers)["mode"] == "on_device"
    monkeypatch.setattr(committing, "read_postgresql", withdrawn_meanwhile)
    answer = any_world.decide(device.handle, device.headers)
    assert read == [1]
    assert answer["mode"] == "contextual"
