"""Private picks at the service. Owns what is taken as a pick, and the mirror of what picks have cost each device.

The device's own ledger is the authority: it pays before it draws. The mirror is there for devices that lost theirs. It
charges a device once per slot group and epoch in the transaction that records the decision, refuses a second, different
answer (whoever asked twice would learn more than ε), and refuses beyond the cap. Devices are keyed digests of their
identity, answers too; the key goes with the budget period, and with it whose they were.
"""

from __future__ import annotations

import functools
import hashlib
import hmac
import secrets
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from common.crypto.signing import PublicKey
from common.errors import NotFound, TrustError
from common.taxonomy import LogKind, RefusalReason
from common.wire.messages import Creative, SlotRequest
from common.wire.pick import CandidateList, Pick
from policies import budget, picks
from policies.budget import PlannedRelease
from policies.schema import BudgetLine, PickRules
from server.consent import repository as subjects
from server.decisions import picks as reading
from server.ledger.bounds import capped_picks
from server.picks import repository
from server.picks.cap import CapNotice
from server.picks.lists import CandidateLists
from server.picks.repository import StoredPick
from server.storage import Database, Transaction, exclusive
from server.transparency.service import TransparencyLog

ROOM: Final = "private picks"
KEY_BYTES: Final = 32
STOPPED: Final = b""
"""In the place of an answer: the person wants none used in this epoch. It is the HMAC of nothing."""
ACTOR: Final = "placement"


@dataclass(frozen=True, slots=True)
class PickClaim:
    """A pick, and the handle of the device whose it is."""

    handle: str
    pick: Pick


@dataclass(frozen=True, slots=True)
class PickStanding:
    """How the line of picks stands in the running period.

    Attributes:
        devices: how many were charged.
        epsilon_max: ε of the one that has spent most.
        spends: every different ε, and how many devices have spent it.
        line: the line, its cap lowered to what privacy officers allow.
    """

    rules: PickRules
    period: int
    devices: int
    epsilon_max: float
    spends: tuple[tuple[float, int], ...]
    line: BudgetLine

    @property
    def exhausted(self) -> int:
        """Devices that were charged, and that a further draw would take beyond the cap."""
        return sum(
            count for spent, count in self.spends if not _fits(self.rules, self.line, [spent], self.rules.epsilon)
        )


@dataclass(frozen=True, slots=True)
class PickEpoch:
    """One published list, and how many devices have answered from it."""

    listed: CandidateList
    charged: int
    running: bool


class PickService:
    """Reads picks, and charges them."""

    def __init__(
        self,
        database: Database,
        lists: CandidateLists,
        cap: CapNotice,
        *,
        rules: PickRules | None,
        log: TransparencyLog,
        clock: Callable[[], float],
    ) -> None:
        self._database, self._rules = database, rules
        self.lists, self.cap, self._log, self._clock = lists, cap, log, clock

    def offered(self, pick: Pick, slots: Sequence[SlotRequest] = ()) -> CandidateList | RefusalReason:
        """The list that a pick is from, if it is the one in force for these slots. In memory after the first time."""
        try:
            stored, current = self.lists.current(pick.slot_group)
        except (NotFound, TrustError):
            return RefusalReason.PICK_OUTDATED
        fits = (pick.epoch, pick.list_hash, pick.epsilon) == (current.epoch, stored.digest, current.epsilon)
        if not fits or pick.index >= len(current.candidates) or not self._covers(pick, slots):
            return RefusalReason.PICK_OUTDATED
        return current

    def scores(
        self, listed: CandidateList, pick: Pick, creatives: Sequence[Creative], contextual: Sequence[float]
    ) -> list[float]:
        """Y for g: E[Y | pick] for the creatives on the list, context alone for the others.

        Args:
            listed: what ``offered`` has answered.
            pick: the pick.
            creatives: what may be shown.
            contextual: Y of each from context alone.
        """
        if self._rules is None:
            return list(contextual)
        return reading.informed(listed, pick, creatives, contextual, spread=self._rules.logit_spread)

    def charge(self, session: Transaction, claims: Sequence[PickClaim]) -> list[RefusalReason | None]:
        """Charge picks to their devices inside the transaction that records what they lead to.

        Args:
            session: the transaction; consent has been checked in it.
            claims: what ``offered`` has let through.

        Returns:
            For each, None if it may be used; else why only context may be.

        **Privacy:** mirrors what devices have spent. The same answer again is free.
        """
        if self._rules is None:
            return [RefusalReason.PICK_OUTDATED] * len(claims)
        keys = subjects.enrolled_keys(session, {claim.handle for claim in claims})
        identities = [PublicKey(keys.get(claim.handle, "")).raw if claim.handle in keys else b"" for claim in claims]
        period = picks.period_of_picks(self._rules, self._clock())
        book = _Book(session, self._rules, period, list(zip(identities, (c.pick for c in claims), strict=True)))
        if book.all_known():
            return book.judge()
        exclusive(session, ROOM)
        book.prepare()
        verdicts = book.judge()
        if book.fresh:
            repository.add_picks(session, book.fresh)
            for record in _records(book.fresh):
                self._log.append(session, LogKind.PICK, record, actor=ACTOR)
        return verdicts

    def forget(self, session: Transaction, identities: Iterable[bytes]) -> int:
        """Make the answers of these devices unreadable; how many there were. What they cost stays.

        **Privacy:** nothing is refilled: until its epoch is over, an erased device's next answer is a second one.
        """
        if self._rules is None:
            return 0
        exclusive(session, ROOM)
        key = repository.period_key(session, picks.period_of_picks(self._rules, self._clock()))
        if key is None:
            return 0
        return sum(
            repository.blank(session, _device(key, identity), secrets.token_bytes(KEY_BYTES)) for identity in identities
        )

    def stop(self, handle: str) -> None:
        """Use no pick of this subject's device in the running epoch, neither one that was told nor one yet to come.

        Where none was told yet, the epoch is charged as if one had been: a draw may have been made. Repeating it is
        harmless.

        Raises:
            NotFound: no such subject, or there are no private picks.

        **Privacy:** refunds nothing.
        """
        rules = self._rules
        with self._database.write() as session:
            enrolled = subjects.enrolled_keys(session, {handle})
            if rules is None or handle not in enrolled:
                raise NotFound("there are no private picks of this subject")
            exclusive(session, ROOM)
            now = self._clock()
            period, epoch = picks.period_of_picks(rules, now), picks.epoch_of(rules, now)
            device = _device(_opened_period(session, period), PublicKey(enrolled[handle]).raw)
            standing = repository.picks_of(session, [device]).get(device, [])
            told = {row.slot_group for row in standing if row.epoch == epoch}
            missing = [group.name for group in rules.slot_groups if group.name not in told]
            if not missing and all(row.answer == STOPPED for row in standing if row.epoch == epoch):
                return
            fresh = [StoredPick(device, name, epoch, STOPPED, period, rules.epsilon) for name in missing]
            repository.add_picks(session, fresh)
            repository.blank(session, device, STOPPED, epoch=epoch)
            for record in [*_records(fresh), {"event": "stopped", "epoch": epoch, "devices": 1}]:
                self._log.append(session, LogKind.PICK, record, actor=ACTOR)

    def retire(self) -> int:
        """Destroy keys and rows of periods that are over; how many rows."""
        if self._rules is None:
            return 0
        with self._database.write() as session:
            exclusive(session, ROOM)
            return repository.drop_before(session, picks.period_of_picks(self._rules, self._clock()))

    def standing(self) -> PickStanding | None:
        """How the line stands; None where there are no picks."""
        if self._rules is None:
            return None
        period = picks.period_of_picks(self._rules, self._clock())
        with self._database.read() as session:
            spends = tuple(repository.spends(session, period))
            line = capped_picks(session, self._rules)
        most = max((epsilon for epsilon, _ in spends), default=0.0)
        return PickStanding(self._rules, period, sum(count for _, count in spends), most, spends, line)

    def epochs(self) -> list[PickEpoch]:
        """Every list that was published in the running period, by slot group, newest first; none is made for this.

        Raises:
            TrustError: a stored list does not verify.
        """
        if self._rules is None:
            return []
        now = self._clock()
        period, running = picks.period_of_picks(self._rules, now), picks.epoch_of(self._rules, now)
        with self._database.read() as session:
            charged = repository.charged(session, period)
        first = period * (self._rules.period_days // self._rules.epoch_days)
        return [
            PickEpoch(listed, charged.get((listed.slot_group, listed.epoch), 0), listed.epoch == running)
            for _, listed in self.lists.published(first)
        ]

    def check_open(self) -> None:
        """Whether privacy officers allow a draw at all; where not, no list is handed out, so that no device draws.

        Raises:
            NotFound: their cap is below the ε of one draw.
        """
        if self._rules is None:
            return
        with self._database.read() as session:
            line = capped_picks(session, self._rules)
        if not _fits(self._rules, line, [], self._rules.epsilon):
            raise NotFound("private picks are stopped by the privacy officers")

    def _covers(self, pick: Pick, slots: Sequence[SlotRequest]) -> bool:
        rules = self._rules
        return rules is not None and all(picks.group_of(rules, slot.slot_id) == pick.slot_group for slot in slots)


class _Book:
    """What a batch of claims meets in the mirror: read, judged in order, and what is to be added."""

    def __init__(
        self, session: Transaction, rules: PickRules, period: int, claims: Sequence[tuple[bytes, Pick]]
    ) -> None:
        self._session, self._rules, self._period, self._claims = session, rules, period, claims
        self.fresh: list[StoredPick] = []
        self._read(repository.period_key(session, period))

    def all_known(self) -> bool:
        """Whether nothing needs to be written: every claim is about a slot group and epoch that was charged before."""
        return self._key is not None and all(
            self._standing(device, pick) is not None
            for device, (_, pick) in zip(self._devices, self._claims, strict=True)
        )

    def prepare(self) -> None:
        """Read again, alone now."""
        self._read(_opened_period(self._session, self._period))

    def judge(self) -> list[RefusalReason | None]:
        """The verdict on each claim, in order; what is fresh and fits is noted to be added."""
        pairs = zip(self._devices, self._claims, strict=True)
        return [
            self._judged(device, pick) if identity else RefusalReason.UNKNOWN_SUBJECT
            for device, (identity, pick) in pairs
        ]

    def _read(self, key: bytes | None) -> None:
        self._key = key
        self._devices = [b"" if key is None else _device(key, identity) for identity, _ in self._claims]
        self._rows = {} if key is None else repository.picks_of(self._session, set(self._devices))

    def _standing(self, device: bytes, pick: Pick) -> StoredPick | None:
        rows = self._rows.get(device, [])
        return next((row for row in rows if (row.slot_group, row.epoch) == (pick.slot_group, pick.epoch)), None)

    def _judged(self, device: bytes, pick: Pick) -> RefusalReason | None:
        answer, standing = _answer(self._key or b"", device, pick), self._standing(device, pick)
        if standing is not None and standing.answer == STOPPED:
            return RefusalReason.PICK_STOPPED
        if standing is not None:
            same = hmac.compare_digest(standing.answer, answer)
            return None if same else RefusalReason.PICK_REDRAWN
        rows = self._rows.setdefault(device, [])
        if not _fits(self._rules, self._line, [row.epsilon for row in rows], pick.epsilon):
            return RefusalReason.BUDGET_EXHAUSTED
        row = StoredPick(
            device=device,
            slot_group=pick.slot_group,
            epoch=pick.epoch,
            answer=answer,
            period=self._period,
            epsilon=pick.epsilon,
        )
        rows.append(row)
        self.fresh.append(row)
        return None

    @functools.cached_property
    def _line(self) -> BudgetLine:
        return capped_picks(self._session, self._rules)


def _opened_period(session: Transaction, period: int) -> bytes:
    """The key of a period; a new period begins with a key of its own, and ends the ones before. Not for two at once."""
    key = repository.period_key(session, period)
    if key is None:
        repository.drop_before(session, period)
        key = secrets.token_bytes(KEY_BYTES)
        repository.add_period(session, period, key)
    return key


def _fits(rules: PickRules, line: BudgetLine, spent: Sequence[float], planned: float) -> bool:
    """Whether a draw stays within the cap beside draws that cost so much."""
    uses = [_use(rules, epsilon) for epsilon in spent]
    return budget.allows(line, [(one.purpose, one.use) for one in uses], [_use(rules, planned)]) is None


def _use(rules: PickRules, epsilon: float) -> PlannedRelease:
    """A draw that cost so much; on K and m the cost does not depend."""
    drawn_by = picks.mechanism(rules, rules.candidates_max)
    return picks.planned(drawn_by.model_copy(update={"epsilon": epsilon}))


def _device(key: bytes, identity: bytes) -> bytes:
    return hmac.digest(key, b"reticent pick device\0" + identity, hashlib.sha256)


def _answer(key: bytes, device: bytes, pick: Pick) -> bytes:
    what = f"{pick.slot_group}\0{pick.epoch}\0{pick.list_hash}\0{pick.index}".encode()
    return hmac.digest(key, b"reticent pick answer\0" + device + what, hashlib.sha256)


def _records(fresh: Sequence[StoredPick]) -> list[dict[str, object]]:
    """What the log is told: counts, the cost of each, and a digest that commits to the rows."""
    groups: dict[tuple[str, int, float], list[StoredPick]] = {}
    for row in fresh:
        groups.setdefault((row.slot_group, row.epoch, row.epsilon), []).append(row)
    return [
        {
            "event": "charged",
            "slot_group": slot_group,
            "epoch": epoch,
            "epsilon": epsilon,
            "devices": len(rows),
            "rows": hashlib.sha256(b"".join(sorted(row.device + row.answer for row in rows))).hexdigest(),
        }
        for (slot_group, epoch, epsilon), rows in groups.items()
    ]
