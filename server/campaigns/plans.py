"""Campaigns and creatives under review. Owns who may see, change and approve them, and that the catalogue follows.

Whatever makes something showable or takes it back publishes the catalogue in the same transaction: what is paused is
gone from the next one, and nothing is in it that nobody has approved. A stranger's campaign is not there at all.
"""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from common.crypto.signing import canonical
from common.errors import MalformedInput, NotAllowed, NotFound, NotInThisState, PreconditionFailed
from common.taxonomy import LogKind, PlanKind, PlanMove, RejectionReason, ReviewState, Role
from common.wire.messages import Creative
from policies.placement.lint import refuse_special_texts
from server.access.principal import Principal
from server.campaigns import plan_repository as repository
from server.campaigns.compiling import creative_of
from server.campaigns.plan_repository import Plan, Wanted
from server.campaigns.service import CatalogueService
from server.campaigns.states import after, check_reviewer
from server.campaigns.terms import COMMERCIAL, CampaignTerms, CreativeTerms, host_of
from server.storage import Database, Transaction, exclusive
from server.transparency.service import TransparencyLog

_ROOM: Final = "plans"
_PREFIX: Final = {PlanKind.CAMPAIGN: "cmp_", PlanKind.CREATIVE: "crv_"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a reviewer decides; a rejection has its reason."""

    move: PlanMove
    reason: RejectionReason | None = None
    note: str = ""


class PlanService:
    """Campaigns and creatives of one installation."""

    def __init__(
        self,
        database: Database,
        catalogues: CatalogueService,
        *,
        log: TransparencyLog,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Use ``catalogues`` to publish what was approved and ``log`` for who did what."""
        self._database, self._catalogues, self._log, self._clock = database, catalogues, log, clock

    def create_campaign(self, terms: CampaignTerms, caller: Principal, advertiser: str | None = None) -> Plan:
        """A new campaign, as a draft.

        Args:
            terms: the plan.
            caller: an advertiser for themself, or an admin for one.
            advertiser: for whom; an advertiser need not say.

        Raises:
            NotAllowed: an advertiser acts for another one.
            MalformedInput: an admin does not say for whom.
            PolicyError: it hints at a special category.
        """
        owner = _owner(caller, advertiser)
        plan = self._fresh(PlanKind.CAMPAIGN, owner, terms, caller)
        plan = replace(plan, campaign_id=plan.plan_id)
        _check(plan, plan)
        with self._database.write() as session:
            repository.insert(session, plan)
            self._note(session, "created", plan, caller)
        return plan

    def create_creatives(self, campaign_id: str, terms: Sequence[CreativeTerms], caller: Principal) -> list[Plan]:
        """New creatives of a campaign, as drafts: all of them, or none.

        Raises:
            NotFound: the caller has no such campaign.
            NotInThisState: it is archived.
            MalformedInput: a landing page is not on the campaign's host.
            PolicyError: one hints at a special category.
        """
        with self._database.write() as session:
            exclusive(session, _ROOM)
            campaign = _seen(repository.plan(session, PlanKind.CAMPAIGN, campaign_id), caller)
            if campaign.state is ReviewState.ARCHIVED:
                raise NotInThisState("an archived campaign takes no creatives")
            plans = [
                replace(self._fresh(PlanKind.CREATIVE, campaign.advertiser, one, caller), campaign_id=campaign.plan_id)
                for one in terms
            ]
            for plan in plans:
                _check(plan, campaign)
                repository.insert(session, plan)
            for plan in plans:
                self._note(session, "created", plan, caller)
        return plans

    def get(self, kind: PlanKind, plan_id: str, caller: Principal) -> Plan:
        """One campaign or creative.

        Raises:
            NotFound: the caller has no such one.
        """
        with self._database.read() as session:
            return _seen(repository.plan(session, kind, plan_id), caller)

    def listed(self, wanted: Wanted, caller: Principal, *, after: tuple[int, str] | None, rows: int) -> Sequence[Plan]:
        """Those that the caller may see, oldest first."""
        if caller.role is Role.ADVERTISER:
            wanted = replace(wanted, advertiser=caller.holder)
        with self._database.read() as session:
            return repository.listed(session, wanted, after=after, rows=rows)

    def counts(self) -> Mapping[tuple[PlanKind, ReviewState], int]:
        """How many campaigns and creatives of all advertisers stand where; for those who review."""
        with self._database.read() as session:
            return repository.counts(session)

    def as_shown(self, creative_id: str, caller: Principal) -> Creative:
        """A creative as people would see it if it and its campaign were approved; nothing is published.

        Raises:
            NotFound: the caller has no such one.
        """
        with self._database.read() as session:
            plan = _seen(repository.plan(session, PlanKind.CREATIVE, creative_id), caller)
            return creative_of(plan, self._campaign(session, plan), crowds={})

    def change(
        self, kind: PlanKind, plan_id: str, terms: CampaignTerms | CreativeTerms, caller: Principal, *, revision: int
    ) -> Plan:
        """Other terms. What a reviewer looked at makes it a draft again; dates, money and caps do not.

        Raises:
            NotFound: the caller has no such one.
            PreconditionFailed: it has another revision.
            NotInThisState: it is archived.
            MalformedInput, PolicyError: as at creation.
        """
        with self._database.write() as session:
            exclusive(session, _ROOM)
            old = _at(_seen(repository.plan(session, kind, plan_id), caller), revision)
            draft = after(old.state, PlanMove.EDIT)
            if terms == old.terms:
                return old
            state = old.state if _commercial(old.terms, terms) else draft
            new = self._changed(replace(old, terms=terms, state=state, author=caller.holder))
            campaign = new if kind is PlanKind.CAMPAIGN else self._campaign(session, new)
            _check(new, campaign)
            if kind is PlanKind.CAMPAIGN and host_of(new.campaign.landing_url) != host_of(old.campaign.landing_url):
                _refuse_new_host(session, new)
            self._store(session, old, new, "changed", caller)
        return new

    def move(
        self, kind: PlanKind, plan_id: str, move: PlanMove, caller: Principal, *, revision: int | None = None
    ) -> Plan:
        """Submit, pause, resume or archive what is one's own.

        Args:
            kind: what it is.
            plan_id: which.
            move: the step.
            caller: who asks.
            revision: the one that the caller read; None: whatever it is.

        Raises:
            NotFound: the caller has no such one.
            PreconditionFailed: it has another revision.
            NotInThisState: its state does not allow it.
        """
        return self._moved(kind, plan_id, Verdict(move), caller, revision=revision)

    def review(
        self, kind: PlanKind, plan_id: str, verdict: Verdict, caller: Principal, *, revision: int | None = None
    ) -> Plan:
        """Approve or reject; what was approved before can be rejected, which takes it down at once.

        Args:
            kind: what it is.
            plan_id: which.
            verdict: what the reviewer decides.
            caller: the reviewer.
            revision: the one that the reviewer looked at; None: whatever it is.

        Raises:
            NotFound: there is no such one.
            PreconditionFailed: it has another revision.
            NotInThisState: it was not submitted.
            NotAllowed: the reviewer wrote it themself.
        """
        return self._moved(kind, plan_id, verdict, caller, revision=revision)

    def delete(self, kind: PlanKind, plan_id: str, caller: Principal, *, revision: int) -> None:
        """Remove a draft that nobody has looked at; anything else is archived instead, because its record stays.

        Raises:
            NotFound: the caller has no such one.
            PreconditionFailed: it has another revision.
            NotInThisState: it is more than a draft, or a campaign with creatives.
        """
        with self._database.write() as session:
            exclusive(session, _ROOM)
            plan = _at(_seen(repository.plan(session, kind, plan_id), caller), revision)
            full = kind is PlanKind.CAMPAIGN and repository.has_creatives(session, plan_id)
            if plan.state is not ReviewState.DRAFT or full or plan.reason is not None:
                raise NotInThisState("only a draft that was never reviewed is removed; archive it instead")
            repository.delete(session, plan_id)
            self._note(session, "removed", plan, caller)

    def running(self) -> Sequence[Plan]:
        """Every approved campaign, whatever its dates: what pacing and reports go by."""
        with self._database.read() as session:
            return repository.approved(session, PlanKind.CAMPAIGN)

    def _moved(
        self, kind: PlanKind, plan_id: str, verdict: Verdict, caller: Principal, *, revision: int | None
    ) -> Plan:
        with self._database.write() as session:
            exclusive(session, _ROOM)
            old = _seen(repository.plan(session, kind, plan_id), caller)
            if revision is not None:
                _at(old, revision)
            check_reviewer(verdict.move, reviewer=caller.holder, author=old.author)
            state = after(old.state, verdict.move)
            reviewed = verdict.move in {PlanMove.APPROVE, PlanMove.REJECT}
            new = self._changed(replace(old, state=state))
            if reviewed:
                new = replace(new, reason=verdict.reason, note=verdict.note)
            if verdict.move in {PlanMove.SUBMIT, PlanMove.APPROVE, PlanMove.RESUME}:
                _check(new, new if kind is PlanKind.CAMPAIGN else self._campaign(session, new))
            self._store(session, old, new, _EVENTS[verdict.move], caller)
        return new

    def _store(self, session: Transaction, old: Plan, new: Plan, event: str, caller: Principal) -> None:
        """Keep a change, publish what follows from it, and put both down."""
        repository.update(session, new)
        finish = None
        if ReviewState.APPROVED in {old.state, new.state}:
            finish = self._catalogues.compile_in(session, actor=caller.actor)
        if new.reason is RejectionReason.UNLAWFUL:
            self._catalogues.archive.withhold(session, new, RejectionReason.UNLAWFUL)
        self._note(session, event, new, caller)
        if finish is not None:
            finish()

    def _campaign(self, session: Transaction, creative: Plan) -> Plan:
        found = repository.plan(session, PlanKind.CAMPAIGN, creative.campaign_id)
        if found is None:
            raise NotFound("the campaign of this creative is not there")
        return found

    def _fresh(self, kind: PlanKind, owner: str, terms: CampaignTerms | CreativeTerms, caller: Principal) -> Plan:
        now = int(self._clock())
        return Plan(
            plan_id=f"{_PREFIX[kind]}{secrets.token_hex(10)}",
            kind=kind,
            campaign_id="",
            advertiser=owner,
            state=ReviewState.DRAFT,
            revision=1,
            terms=terms,
            author=caller.holder,
            created_at=now,
            changed_at=now,
        )

    def _changed(self, plan: Plan) -> Plan:
        return replace(plan, revision=plan.revision + 1, changed_at=int(self._clock()))

    def _note(self, session: Transaction, event: str, plan: Plan, caller: Principal) -> None:
        record = {
            "event": f"{plan.kind.value}-{event}",
            "id": plan.plan_id,
            "campaign_id": plan.campaign_id,
            "advertiser": plan.advertiser,
            "state": plan.state.value,
            "revision": plan.revision,
            "sha256": digest_of(plan),
        } | ({} if plan.reason is None else {"reason": plan.reason.value, "note": plan.note})
        self._log.append(session, LogKind.CAMPAIGN, record, actor=caller.actor)


_EVENTS: Final = {
    PlanMove.SUBMIT: "submitted",
    PlanMove.PAUSE: "paused",
    PlanMove.RESUME: "resumed",
    PlanMove.ARCHIVE: "archived",
    PlanMove.APPROVE: "approved",
    PlanMove.REJECT: "rejected",
}


def digest_of(plan: Plan) -> str:
    """SHA-256 of the terms' canonical JSON: the log says which text was approved."""
    return hashlib.sha256(canonical(plan.terms.model_dump_json().encode())).hexdigest()


def _owner(caller: Principal, advertiser: str | None) -> str:
    if caller.role is not Role.ADVERTISER:
        if advertiser is None:
            raise MalformedInput("name the advertiser that this campaign is for")
        return advertiser
    if advertiser not in {None, caller.holder}:
        raise NotAllowed("an advertiser plans for themself only")
    return caller.holder


def _seen(plan: Plan | None, caller: Principal) -> Plan:
    if plan is None or (caller.role is Role.ADVERTISER and plan.advertiser != caller.holder):
        raise NotFound("no such campaign or creative")
    return plan


def _at(plan: Plan, revision: int) -> Plan:
    if plan.revision != revision:
        raise PreconditionFailed("it has changed since it was read")
    return plan


def _commercial(old: CampaignTerms | CreativeTerms, new: CampaignTerms | CreativeTerms) -> bool:
    """Whether only terms that need no review differ."""
    if not isinstance(old, CampaignTerms):
        return False
    return old.model_dump(exclude=set(COMMERCIAL)) == new.model_dump(exclude=set(COMMERCIAL))


def _check(plan: Plan, campaign: Plan) -> None:
    """What may not even be a draft."""
    terms = plan.terms
    if isinstance(terms, CampaignTerms):
        refuse_special_texts("the campaign", (terms.name, terms.payer, *terms.tags))
        return
    refuse_special_texts("the creative", _words(terms))
    if terms.landing_url is not None and host_of(terms.landing_url) != host_of(campaign.campaign.landing_url):
        raise MalformedInput("a creative leads to the host of its campaign's registered landing page only")


def _words(terms: CreativeTerms) -> list[str]:
    texts = [words for text in terms.texts.values() for words in text.model_dump().values() if words]
    return [terms.category, *terms.attributes, *terms.attributes.values(), *terms.numbers, *terms.tags, *texts]


def _refuse_new_host(session: Transaction, campaign: Plan) -> None:
    """A landing page may not move to another host from under its creatives."""
    wanted = Wanted(PlanKind.CREATIVE, campaign_id=campaign.plan_id)
    for plan in repository.listed(session, wanted, after=None, rows=100_000):
        if plan.state is not ReviewState.ARCHIVED:
            _check(plan, campaign)
