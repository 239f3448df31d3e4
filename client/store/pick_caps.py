"""The cap on private picks that a node has heard last. Owns that an earlier decision never takes a later one's place.

The cap is a public document and the same for all devices of the node. Its signature is verified by whoever uses it.
"""

from __future__ import annotations

from pathlib import Path

from client.store.database import named_errors, transaction
from client.store.pick_file import WHAT, open_picks
from common.wire.pick_cap import PickCap
from policies import pick_caps


class PickCaps:
    """The last cap of one node. The file is open only while it is used; several processes may share it."""

    def __init__(self, path: Path) -> None:
        """Use the node's file of picks."""
        self._path = path

    def keep(self, cap: PickCap, jws: str) -> None:
        """Keep a verified cap durably, and that nothing before it counts any more.

        Raises:
            TrustError: a later decision was heard before, or another ε of the same one. Nothing is kept.
            StoreError: it could not be written.
        """
        with open_picks(self._path) as connection, transaction(connection, WHAT):
            held = connection.execute("SELECT number, epsilon_max FROM caps").fetchone()
            if held is not None:
                pick_caps.follows(cap, *held)
            row = (1, cap.number, cap.epsilon_max, jws)
            connection.execute("INSERT OR REPLACE INTO caps VALUES (?, ?, ?, ?)", row)

    def last(self) -> str | None:
        """The signed document that was kept last; None where none ever was."""
        if not self._path.exists():
            return None
        with open_picks(self._path) as connection, named_errors(WHAT):
            row = connection.execute("SELECT jws FROM caps").fetchone()
        return None if row is None else str(row[0])
