"""The public lists of candidates. Owns who is on one: made once per slot group and epoch, then fixed for everybody.

A list depends on the catalogue, the placement policy in force, the model's contextual view without any page, and the
epoch; never on a person, and so on no arm of an experiment: a list by arm would tell, with every pick, which arm the
device has drawn. What is stopped later stays on its list, because the domain of the mechanism must not move; it is not
shown. Likewise a policy that is put in force later: it chooses among what is shown at once, and makes the next list.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

from common.crypto.signing import PublicKey, SigningKey
from common.errors import NotFound, StorageUnavailable, TrustError
from common.taxonomy import LogKind, Role
from common.wire.documents import open_document, seal
from common.wire.messages import Catalogue, Creative
from common.wire.pick import CandidateList
from policies import picks
from policies.budget import DAY_S
from policies.placement.assemble import inputs, offers
from policies.placement.decide import filtered
from policies.placement.document import PlacementPolicy
from policies.placement.scoring import scored
from policies.placement.tie_break import ranked
from policies.schema import PickRules
from server.campaigns.service import CatalogueService
from server.controls import repository as controls
from server.decisions.scoring import ContextualScorer
from server.picks import repository
from server.picks.repository import StoredList
from server.storage import Database, exclusive
from server.transparency.service import TransparencyLog

ROOM = "candidate lists"
_LOG = logging.getLogger(__name__)


class CandidateLists:
    """Publishes and reads lists."""

    def __init__(
        self,
        database: Database,
        *,
        rules: PickRules | None,
        policy: Callable[[], PlacementPolicy],
        catalogues: CatalogueService,
        scorer: ContextualScorer,
        signer: SigningKey,
        keys: Mapping[str, PublicKey],
        log: TransparencyLog,
        clock: Callable[[], float],
    ) -> None:
        self._database, self._rules, self._policy, self._catalogues = database, rules, policy, catalogues
        self._scorer, self._signer, self._log, self._clock, self._keys = scorer, signer, log, clock, keys
        self._known: dict[tuple[str, int], tuple[StoredList, CandidateList]] = {}
        self._lock = threading.Lock()

    def current(self, slot_group: str) -> tuple[StoredList, CandidateList]:
        """The list in force; the first who asks in an epoch has it made. Never read twice by one process.

        Raises:
            NotFound: there are no picks for this slot group, or no catalogue with two candidates.
            TrustError: what is stored does not verify.
        """
        rules, now = self._rules, self._clock()
        if rules is None or slot_group not in {group.name for group in rules.slot_groups}:
            raise NotFound("there are no private picks for this slot group")
        key = (slot_group, picks.epoch_of(rules, now))
        with self._lock:
            if key not in self._known:
                stored = self._stored(rules, *key, now=now)
                current = open_document(stored.jws, CandidateList, self._keys)
                self._known = {k: v for k, v in self._known.items() if k[1] >= key[1]} | {key: (stored, current)}
            return self._known[key]

    def published(self, epoch: int) -> list[tuple[StoredList, CandidateList]]:
        """Every list of this epoch and later ones, as it was published; makes none.

        Raises:
            TrustError: one that is stored does not verify.
        """
        with self._database.read() as session:
            stored = repository.lists_from(session, epoch)
        return [(one, open_document(one.jws, CandidateList, self._keys)) for one in stored]

    def _stored(self, rules: PickRules, slot_group: str, epoch: int, *, now: float) -> StoredList:
        with self._database.read() as session:
            found = repository.find_list(session, slot_group, epoch)
        return found or self._publish(rules, slot_group, epoch, now=now)

    def _publish(self, rules: PickRules, slot_group: str, epoch: int, *, now: float) -> StoredList:
        """Make the list of an epoch, unless another process was first."""
        catalogue = self._catalogue()
        with self._database.write() as session:
            exclusive(session, ROOM)
            found = repository.find_list(session, slot_group, epoch)
            if found is not None:
                return found
            policy = self._policy()
            stopped = controls.stopped_campaigns(session)
            chosen = self._candidates(catalogue, rules, policy, epoch=epoch, stopped=stopped)
            if len(chosen) < 2:
                raise NotFound("there are too few candidates for a private pick")
            mechanism = picks.mechanism(rules, len(chosen))
            made = CandidateList(
                slot_group=slot_group,
                epoch=epoch,
                ends_at=picks.epoch_ends_at(rules, epoch),
                catalogue_version=catalogue.version,
                chosen=mechanism.chosen,
                epsilon=mechanism.epsilon,
                candidates=chosen,
                ordered_by=policy.score.kind,
            )
            stored = StoredList(slot_group, epoch, made.digest, seal(made, self._signer))
            repository.add_list(session, stored, now=int(now))
            record = {"event": "list", "slot_group": slot_group, "epoch": epoch, "sha256": made.digest}
            self._log.append(session, LogKind.PICK, record, actor=Role.ADMIN.value)
        return stored

    def _catalogue(self) -> Catalogue:
        try:
            found = self._catalogues.opened()
        except TrustError as error:
            _LOG.error("the catalogue is not used: %s", error.name)
            found = None
        if found is None:
            raise NotFound("no catalogue is published")
        return found

    def _candidates(
        self, catalogue: Catalogue, rules: PickRules, policy: PlacementPolicy, *, epoch: int, stopped: frozenset[str]
    ) -> tuple[Creative, ...]:
        """The best of each category in turn, as g orders them by context alone: what people may differ about.

        The strategy's pool does not cut the list: with a pick, g's best is another one.
        """
        starts = epoch * rules.epoch_days * int(DAY_S)
        told = inputs(offers(catalogue.creatives), now=starts, stopped=stopped, personal=True)
        salt = f"candidates/{epoch}"
        open_to, _ = filtered(policy, catalogue.creatives, told, salt)
        order = ranked(scored(open_to, self._responses(open_to, starts), policy.score, told), salt)
        return tuple(_in_turn([one.creative for one in order]))[: rules.candidates_max]

    def _responses(self, creatives: Sequence[Creative], now: float) -> list[float]:
        try:
            model = self._scorer.current()
        except StorageUnavailable:
            model = None
        if model is None or not creatives:
            return [0.0] * len(creatives)
        return model.scores(creatives, context={}, numbers={}, now=now)


def _in_turn(ordered: Sequence[Creative]) -> Iterator[Creative]:
    """One of each category, best first, then the second of each, and so on."""
    rounds: dict[int, list[Creative]] = {}
    seen: dict[str, int] = {}
    for creative in ordered:
        turn = seen.get(creative.category, 0)
        seen[creative.category] = turn + 1
        rounds.setdefault(turn, []).append(creative)
    for turn in sorted(rounds):
        yield from rounds[turn]
