"""A ledger's directory on one device, opened and closed as a program would."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from client.budget import Ledger, Reservation
from client.store.keys import DeviceId
from common.errors import BudgetExhausted, LedgerRolledBack
from tests.ledger.worlds import NOW, POLICY, ROUND

ANNA, BEN = DeviceId("anna"), DeviceId("ben")


class Home:
    """A ledger's directory, which is opened and closed as a device's program would."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.now = folder, NOW

    @contextlib.contextmanager
    def ledger(self) -> Iterator[Ledger]:
        with contextlib.closing(Ledger.open(self.folder / "ledger.db", POLICY, now=lambda: self.now)) as book:
            yield book

    def charge(self, cause: str, device: DeviceId = ANNA) -> Reservation | BudgetExhausted:
        with self.ledger() as book:
            return book.reserve([device], ROUND, cause=cause)[device]

    @property
    def anchor(self) -> Path:
        return self.folder / "keys" / "ledger.anchor"

    def copy_ledger(self, to: Path) -> None:
        to.mkdir()
        for file in self.folder.glob("ledger.db*"):
            shutil.copy(file, to / file.name)

    def put_back(self, copy: Path) -> None:
        for file in self.folder.glob("ledger.db*"):
            file.unlink()
        for file in copy.iterdir():
            shutil.copy(file, self.folder / file.name)


def refused(home: Home) -> bool:
    """Whether nothing at all may be released."""
    with home.ledger() as book:
        outcomes = []
        for attempt in (lambda: book.reserve([BEN], ROUND, cause="x"), lambda: book.settle([]), book.confirm):
            try:
                attempt()
                outcomes.append(False)
            except LedgerRolledBack:
                outcomes.append(True)
    assert len(set(outcomes)) == 1
    return outcomes[0]
