"""A worker's line to the sequencer: nobody is left waiting on it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from server.decisions.asking import Ask, Under
from server.decisions.committing import Committer, Entry, Outcome
from server.decisions.frames import Hello, Inbox, answered, read_asked
from server.decisions.journal import Journal, wake
from server.decisions.line import Dispatcher, Line
from server.decisions.versions import Versions
from server.settings import Settings

UNDER = Under(
    Versions(), able=False, catalogue_version=None, model_version=None, policy_digest="", arm=None, device_digest=""
)


class Records(Committer):
    """Records whatever comes."""

    def __init__(self) -> None:
        pass

    def commit(self, batch: Sequence[Entry]) -> None:
        for one in batch:
            one.outcome = Outcome.RECORDED


class Wire(asyncio.Transport):
    """To a sequencer that answers when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.inbox, self.heard = Inbox(), list[bytes]()

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        self.heard += self.inbox.frames(bytes(data))

    def is_closing(self) -> bool:
        return False


def entry(name: str, told: list[str]) -> Entry:
    ask = Ask(
        name,
        0,
        None,
        named=False,
        malformed=False,
        app_id=None,
        key_hash=None,
        opposed=False,
        opposed_without_gpc=False,
        contextual=(),
    )
    one = Entry(ask, UNDER)
    one.waiting = partial(told.append, name)
    return one


def late(one: Entry) -> None:
    """As the door has it when the caller's time is over."""
    one.abandoned = True
    wake([one])


async def turns() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def test_a_batch_that_nobody_waits_for_any_more_does_not_stop_the_line() -> None:
    async def story() -> None:
        told, wire = list[str](), Wire()
        line = Line(Hello("", "", ""), Journal(Records()))
        line.connection_made(wire)
        line.submit(entry("first", told))
        await turns()
        second = entry("second", told)
        line.submit(second)
        late(second)
        line.data_received(answered(read_asked(wire.heard[1])))
        line.submit(entry("third", told))
        await turns()
        assert told == ["second", "first"]
        assert [one.ask.decision_id for one in read_asked(wire.heard[2])] == ["third"]

    asyncio.run(story())


def test_what_is_submitted_to_a_line_that_has_just_broken_is_left_to_the_journal(tmp_path: Path) -> None:
    async def story() -> None:
        told = list[str]()
        journal = Journal(Records())
        dispatcher = Dispatcher(Settings.at(tmp_path), "", journal)
        line = dispatcher._line = Line(Hello("", "", ""), journal)
        line.connection_made(Wire())
        line.connection_lost(None)  # whoever keeps the line hears of it in the loop's next turn
        dispatcher.submit(entry("now", told), asyncio.get_running_loop())
        await asyncio.sleep(0.1)
        assert told == ["now"]

    asyncio.run(story())
