"""The process that commits for all workers: the journal's own answers, and nothing lost or stale when it goes."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from common.taxonomy import Purpose, RefusalReason, Role
from policies.consent import Permit, Refusal, decide
from server.access.principal import Principal
from server.api.services import Services
from server.decisions import frames, line
from server.decisions.asking import Ask
from server.decisions.committing import Committer, Entry, Outcome
from server.decisions.frames import FrameError, Hello, Inbox
from server.decisions.judging import Judge
from server.decisions.line import Dispatcher, reachable
from server.decisions.quick_request import read_quickly
from server.decisions.sequencer import Sequencer, listening
from server.settings import Settings
from server.storage import open_database
from tests.service.world import Device, World, register_model

CALLER = Principal(Role.APP_BACKEND)


@pytest.fixture
def wanted(furnished: World, tmp_path: Path) -> Settings:
    """With a socket whose path is longer than systems take."""
    folder = tmp_path / ("long" * 25)
    folder.mkdir()
    return replace(furnished.services.settings, state_dir=folder, sequencer=True)


def dispatcher(services: Services, settings: Settings, rules: str = "") -> Dispatcher:
    return Dispatcher(settings, rules or services.policies.digests["purposes"], services.decisions.journal)


@contextmanager
def sequencer(world: World, settings: Settings) -> Iterator[list[int]]:
    """One in a thread, with its own connection and the tests' clock; yields the sizes of its commits."""
    purposes, sizes = world.services.policies.policies.purposes, list[int]()
    database = open_database(settings.database_url)
    judge = Judge(lambda _, state, purpose: decide(state, purpose, world.clock(), purposes), purposes.heeds_gpc)

    class Counted(Committer):
        def commit(self, batch: Sequence[Entry]) -> None:
            sizes.append(len(batch))
            super().commit(batch)

    hello = Hello(frames.CODE, settings.database_url, world.services.policies.digests["purposes"])
    with listening(settings.sequencer_socket) as opened:
        assert opened is not None
        running = threading.Thread(target=Sequencer(opened, Counted(database, judge, world.clock), hello).run)
        running.start()
        try:
            yield sizes
        finally:
            running.join(60)
            database.close()
    assert not running.is_alive()


async def up(one: Dispatcher) -> None:
    await wait(lambda: one.up)


def made(world: World, handle: str | None, **more: object) -> Entry:
    """A decision about to be committed."""
    body = {"slots": [{"slot_id": "a", "count": 2}], **({} if handle is None else {"handle": handle}), **more}
    request = read_quickly(frames.msgspec.json.encode(body))
    assert request is not None
    decisions = world.services.decisions
    draft = decisions.ready(request, CALLER)
    if draft is None:
        decisions.decide(request, CALLER)
        draft = decisions.ready(request, CALLER)
    assert draft is not None
    return decisions.entry(draft)


async def known(one: Dispatcher, entries: Sequence[Entry]) -> None:
    """Submit, and wait until all are told."""
    loop = asyncio.get_running_loop()
    waiting = [loop.create_future() for _ in entries]
    for entry, done in zip(entries, waiting, strict=True):
        entry.waiting = partial(done.set_result, None)
        one.submit(entry, loop)
    await asyncio.wait_for(asyncio.gather(*waiting), 20)


async def told(one: Dispatcher, *entries: Entry) -> list[tuple[Outcome, object, str | None]]:
    await known(one, entries)
    return [(entry.outcome, entry.verdict, entry.jurisdiction) for entry in entries]


def people(world: World) -> dict[str, Device]:
    given, refused = world.consenting(), world.enrol()
    world.change(refused, {"place.personalised": "refused"})
    return {"given": given, "refused": refused}


def rows(world: World, entries: list[Entry]) -> list[list[tuple[Any, ...]]]:
    """What is recorded of each, without its id."""
    query = "SELECT * FROM decision WHERE decision_id = ? ORDER BY position"
    with world.services.database.read() as session:
        connection = session.connection()
        found = [connection.exec_driver_sql(query, (one.ask.decision_id,)).all() for one in entries]
    return [[tuple(row)[1:] for row in of_one] for of_one in found]


def asks(world: World, who: dict[str, Device]) -> list[Entry]:
    given, refused = who["given"].handle, who["refused"].handle
    entries = [
        made(world, None),
        made(world, given),
        made(world, refused),
        made(world, "x" * 22),
        made(world, given, signals={"gpc": True}),
        made(world, given, signals={"us_privacy": "1YYN"}),
        made(world, given, locale="zh-CN"),
    ]
    entries[-1].ask.app_id = "somebody else's"
    return entries


def test_it_says_and_records_what_the_journal_does(furnished: World, wanted: Settings) -> None:
    who = people(furnished)
    own = asks(furnished, who)
    for entry in own:
        assert furnished.services.decisions.journal.record(entry, 20)
    expected = [(entry.outcome, entry.verdict, entry.jurisdiction) for entry in own]
    reasons = [verdict.reason for _, verdict, _ in expected if isinstance(verdict, Refusal)]
    assert RefusalReason.SIGNAL_OPT_OUT in reasons
    assert any(isinstance(verdict, Permit) for _, verdict, _ in expected)

    others = asks(furnished, who)

    async def run() -> None:
        async with dispatcher(furnished.services, wanted) as one:
            await up(one)
            assert await told(one, *others) == expected

    with sequencer(furnished, wanted) as sizes:
        asyncio.run(run())
    assert sizes == [len(expected)]  # they went together
    assert rows(furnished, others) == rows(furnished, own)
    assert all(len(of_one) == 2 for of_one in rows(furnished, own))


def test_what_others_commit_is_seen_at_once(furnished: World, wanted: Settings) -> None:
    device = furnished.consenting()

    async def run() -> None:
        async with dispatcher(furnished.services, wanted) as one:
            await up(one)
            entry = made(furnished, device.handle)
            ((_, verdict, _),) = await told(one, entry)
            assert isinstance(verdict, Permit)
            await asyncio.to_thread(furnished.withdraw, device)
            ((_, verdict, _),) = await told(one, made(furnished, device.handle))
            assert verdict == Refusal(Purpose.PLACE_PERSONALISED, RefusalReason.WITHDRAWN)
            outdated = made(furnished, None)
            await asyncio.to_thread(register_model, furnished.services, 7)
            assert await told(one, outdated) == [(Outcome.OUTDATED, None, None)]
            ended = made_again(furnished)
            ended.ask.key_hash = "0" * 64
            assert (await told(one, ended))[0][0] is Outcome.KEY_ENDED

    with sequencer(furnished, wanted):
        asyncio.run(run())


def made_again(world: World) -> Entry:
    """A decision under what is in force now."""
    current = world.services.decisions._current
    current.read(current.get())
    return made(world, None)


def test_workers_share_commits_and_have_their_own_answers(furnished: World, wanted: Settings) -> None:
    who = people(furnished)

    async def worker() -> list[object]:
        async with dispatcher(furnished.services, wanted) as one:
            await up(one)
            found: list[object] = []
            for _ in range(10):
                entries = [made(furnished, who[name].handle) for name in ("given", "refused", "given")]
                found += [type(verdict) for _, verdict, _ in await told(one, *entries)]
            return found

    async def run() -> list[list[object]]:
        return await asyncio.gather(worker(), worker(), worker())

    with sequencer(furnished, wanted) as sizes:
        answers = asyncio.run(run())
    assert answers == [[Permit, Refusal, Permit] * 10] * 3
    assert sum(sizes) == 90
    assert max(sizes) > 3


def test_a_sequencer_of_other_rules_is_not_used(furnished: World, wanted: Settings) -> None:
    """Its consent gate may be another: the worker's own journal commits, by the worker's rules."""

    async def run() -> None:
        async with (
            dispatcher(furnished.services, wanted) as one,
            dispatcher(furnished.services, wanted, "other") as two,
        ):
            await up(one)
            await asyncio.sleep(0.1)
            found = [(await told(two, made(furnished, None)))[0][0] for _ in range(5)]
            assert Outcome.RECORDED in found  # what it sent before it was turned away is answered as unknown

    with sequencer(furnished, wanted) as sizes:
        asyncio.run(run())
    assert sizes == []


def test_when_it_goes_the_journal_takes_over_and_nobody_waits(
    furnished: World, wanted: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was sent is unknown, and answered so; what waits is committed by the worker itself."""
    monkeypatch.setattr(line, "BATCH_MAX", 2)
    monkeypatch.setattr(Dispatcher, "_start", lambda _: None)

    async def run() -> None:

        async def dying(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            inbox, frames_heard = Inbox(), 0
            while frames_heard < 2:  # the greeting and a batch
                frames_heard += len(list(inbox.frames(await reader.read(1 << 16))))
            writer.transport.abort()

        with reachable(wanted.sequencer_socket) as address:
            server = await asyncio.start_unix_server(dying, address)
        async with server:
            one = dispatcher(furnished.services, wanted)
            async with one:
                await up(one)
                entries = [made(furnished, None) for _ in range(5)]
                await known(one, entries)
                server.close()
        outcomes = [entry.outcome for entry in entries]
        assert outcomes == [Outcome.UNAVAILABLE] * 2 + [Outcome.RECORDED] * 3
        assert all(entry.known for entry in entries)

    asyncio.run(run())


def test_silence_ends_the_line(furnished: World, wanted: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line, "SILENCE_S", 0.1)
    monkeypatch.setattr(Dispatcher, "_start", lambda _: None)

    async def run() -> None:
        async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await reader.read()
            finally:  # also when the loop ends first: a socket left open would fail whatever test runs when it is found
                writer.close()

        with reachable(wanted.sequencer_socket) as address:
            server = await asyncio.start_unix_server(silent, address)
        async with server, dispatcher(furnished.services, wanted) as one:
            await up(one)
            assert (await told(one, made(furnished, None)))[0][0] is Outcome.UNAVAILABLE

    asyncio.run(run())


def test_there_is_one_at_a_time(wanted: Settings) -> None:
    with listening(wanted.sequencer_socket) as first, listening(wanted.sequencer_socket) as second:
        assert first is not None
        assert second is None
        assert stat.S_IMODE(wanted.sequencer_socket.stat().st_mode) == 0o600
    with listening(wanted.sequencer_socket) as third:
        assert third is not None


def test_frames_come_in_pieces_and_nothing_else_is_one(furnished: World) -> None:
    entries = [made(furnished, None), made(furnished, "x" * 22)]
    sent = frames.asked(entries) + frames.greeting(Hello("c", "sqlite://", "r"))
    inbox, found = Inbox(), list[bytes]()
    for byte in sent:
        found += inbox.frames(bytes([byte]))
    read = frames.read_asked(found[0])
    assert [fields(one.ask) for one in read] == [fields(one.ask) for one in entries]
    assert read[0].under is read[1].under
    assert read[0].under.versions == entries[0].under.versions
    assert frames.read_greeting(found[1]) == Hello("c", "sqlite://", "r")
    for bad in (b"", b"\xc1", found[0][:-1], found[1]):
        with pytest.raises(FrameError):
            frames.read_asked(bad)
    with pytest.raises(FrameError):
        frames.settle(frames.answered(entries)[4:], entries[:1])
    with pytest.raises(FrameError):
        list(Inbox().frames(b"\xff\xff\xff\xff"))


def fields(ask: Ask) -> tuple[object, ...]:
    return tuple(getattr(ask, name) for name in ask.__struct_fields__)


@pytest.mark.fault
def test_a_killed_sequencer_is_started_again(furnished: World, wanted: Settings) -> None:
    """The real process: started when it is needed, killed under load, started again, gone after its last worker."""

    async def run() -> None:
        one = dispatcher(furnished.services, wanted)
        async with one:
            for _ in range(3):
                await up(one)
                process = one._process
                assert process is not None
                assert (await told(one, made_again(furnished)))[0][0] is Outcome.RECORDED
                waiting = [asyncio.ensure_future(told(one, made(furnished, None))) for _ in range(50)]
                await asyncio.sleep(0)
                os.kill(process.pid, signal.SIGKILL)
                outcomes = [found[0][0] for found in await asyncio.gather(*waiting)]
                assert set(outcomes) <= {Outcome.RECORDED, Outcome.UNAVAILABLE}
                await wait(partial(_another, one, process))
        assert one._process is not None
        await wait(lambda: one._process is not None and one._process.poll() is not None)
        assert not wanted.sequencer_socket.exists()

    asyncio.run(run())


def _another(one: Dispatcher, process: object) -> bool:
    return one.up and one._process is not process


async def wait(holds: Callable[[], object]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        await asyncio.sleep(0.005)
