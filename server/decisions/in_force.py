"""What is in force for everybody. Owns the parts of a decision that no person changes, in memory, with their versions.

Nothing here is believed: every row is checked against the versions that its own transaction reads, and a decision made
under others is made anew. So what is held in memory may be old, but nothing old is ever answered.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from msgspec import structs

from common.errors import StorageUnavailable, TrustError
from common.model.feature_spec import FeatureSpec, hash_bucket
from common.model.situation import HOUR, WEEKDAY
from common.taxonomy import FeatureBlock
from common.wire.messages import Catalogue, Creative
from policies.placement import assemble
from policies.placement.assemble import Offers
from policies.placement.eligibility import eligible, folded, running
from policies.placement.surfaces import NO_RULES, rules_of
from policies.placement.terms import REGION
from policies.schema import PlacementPolicy
from server.campaigns.service import CatalogueService
from server.decisions.asking import Under
from server.decisions.board import Board, board
from server.decisions.request import DecisionRequest
from server.decisions.scoring import ContextModel, ContextualScorer
from server.decisions.versions import Versions
from server.experiments.policies import PlacementPolicies
from server.experiments.service import ExperimentInForce, Experiments

_LOG = logging.getLogger(__name__)
_CREATIVES_HELD: Final = 400_000
_BUCKETS_HELD: Final = 65_536


Inform = Callable[[Sequence[Creative], Sequence[float]], list[float]]
"""From contextual scores to scores that know more."""


@dataclass(frozen=True, slots=True)
class PolicyInForce:
    """The placement policy and the digest of its document."""

    policy: PlacementPolicy
    digest: str


@dataclass(slots=True)
class InForce:
    """One state of all that is the same for everybody.

    Attributes:
        policy: the placement policy.
        versions: of all below, as the database names them.
        catalogue: None where there is none, or none that verifies.
        model: likewise.
        offers: bids and campaigns of the catalogue.
        experiment: the one that runs.
        arm: of it, where this is the state of one arm; ``base`` is then the state of everybody.
    """

    policy: PolicyInForce
    versions: Versions = field(default_factory=Versions)
    catalogue: Catalogue | None = None
    model: ContextModel | None = None
    offers: Offers = field(default_factory=lambda: assemble.offers(()))
    by_id: Mapping[str, Creative] = field(default_factory=dict)
    pages: Pages | None = None
    experiment: ExperimentInForce | None = None
    arm: str | None = None
    base: InForce | None = None
    _arms: dict[str, InForce] = field(default_factory=dict)
    _boards: dict[tuple[object, ...], Board] = field(default_factory=dict)
    _making: threading.Lock = field(default_factory=threading.Lock)
    _candidates: tuple[str, ...] | None = None
    _regional: bool | None = None
    _under: Under | None = None

    @property
    def device(self) -> InForce:
        """The state that devices are told of: the policy in force; they draw their arms by themselves."""
        return self if self.base is None else self.base

    @property
    def under(self) -> Under:
        """The same, as it is committed with a decision."""
        if self._under is None:
            self._under = Under(
                self.versions,
                able=self.catalogue is not None and self.model is not None,
                catalogue_version=self.catalogue_version,
                model_version=self.model_version,
                policy_digest=self.policy.digest,
                arm=self.arm,
                device_digest=self.device.policy.digest,
            )
        return self._under

    def drawn(self, decision_id: str) -> InForce:
        """The state of the arm that a decision is in, by its own id; this one where no experiment runs."""
        if self.experiment is None:
            return self
        arm, policy = self.experiment.drawn(decision_id)
        found = self._arms.get(arm.name)
        if found is None:
            own = PolicyInForce(policy.policy, policy.digest)
            found = replace(
                self, policy=own, arm=arm.name, base=self, _arms={}, _boards={}, _candidates=None, _under=None
            )
            self._arms[arm.name] = found
        return found

    @property
    def catalogue_version(self) -> int | None:
        """Version of the catalogue that is used."""
        return None if self.catalogue is None else self.catalogue.version

    @property
    def model_version(self) -> int | None:
        """Version of the model that is used."""
        return None if self.model is None else self.model.version

    def on_surface(self, request: DecisionRequest) -> DecisionRequest:
        """The request with what its placements themselves refuse and ask for."""
        surfaces = () if self.catalogue is None else self.catalogue.surfaces
        rules = rules_of(surfaces, request.slots, self.policy.policy) if surfaces else NO_RULES
        if rules is NO_RULES:
            return request
        floors = {slot: max(floor, rules.floors.get(slot, floor)) for slot, floor in request.floors.items()}
        return structs.replace(
            request,
            blocked_categories=request.blocked_categories | rules.blocked_categories,
            blocked_advertisers=request.blocked_advertisers | rules.blocked_advertisers,
            floors={**rules.floors, **floors},
        )

    @property
    def regional(self) -> bool:
        """Whether anything is for some regions only."""
        if self._regional is None:
            self._regional = any(creative.regions for creative in self.by_id.values())
        return self._regional

    @property
    def candidates(self) -> tuple[str, ...]:
        """Ids of what a device may choose from: the same list for everybody."""
        if self._candidates is None:
            creatives = () if self.catalogue is None else running(self.catalogue.creatives, self.versions.stopped)
            pool = eligible(creatives, self.policy.policy.eligibility)
            self._candidates = tuple(creative.creative_id for creative in pool)
        return self._candidates

    def ready(self, request: DecisionRequest, now: float) -> Board | None:
        """The board of a request about such a page, if it was made before and still holds."""
        found = self._boards.get(self._key(request, now))
        return found if found is not None and now < found.until else None

    def board(self, request: DecisionRequest, now: float) -> Board:
        """The board of a request about such a page; made where there is none.

        Raises:
            ContractError: the model's scores cannot be used.
        """
        found = self.ready(request, now)
        if found is not None:
            return found
        with self._making:  # whoever else waits for the same board finds it made
            found = self.ready(request, now)
            if found is None:
                found = self._made(request, now)
                if (len(self._boards) + 1) * max(1, len(self.by_id)) > _CREATIVES_HELD:
                    self._boards.clear()
                self._boards[self._key(request, now)] = found
        return found

    def informed(self, request: DecisionRequest, now: float, inform: Inform) -> Board:
        """A board of this request alone, from scores that know more than the page.

        Raises:
            ContractError: the model's scores cannot be used.
        """
        return self._made(request, now, inform)

    def without_model(self) -> InForce:
        """The same without scores: candidates come in the order of a hash."""
        return replace(self, model=None, pages=None, _boards={}, _under=None)

    def _made(self, request: DecisionRequest, now: float, inform: Inform | None = None) -> Board:
        model = self.model

        def score(candidates: Sequence[Creative]) -> list[float]:
            if model is None:
                return [0.0] * len(candidates)
            found = model.scores(candidates, context=request.context, numbers=request.numbers, now=now)
            return found if inform is None else inform(candidates, found)

        told = assemble.inputs(
            self.offers,
            now=now,
            blocked_categories=request.blocked_categories,
            blocked_advertisers=request.blocked_advertisers,
            context=request.context,
        )
        creatives = () if self.catalogue is None else running(self.catalogue.creatives, self.versions.stopped)
        return board(self.policy.policy, creatives, score, told)

    def _key(self, request: DecisionRequest, now: float) -> tuple[object, ...]:
        """All that scores and filters depend on; equal keys mean equal boards."""
        context, rules = request.context, self.policy.policy.eligibility
        facts: tuple[object, ...] = ()
        if rules.match_context:
            facts = tuple(folded(context[name]) if name in context else None for name in rules.match_context)
        blocked = (request.blocked_categories, request.blocked_advertisers)
        if self.regional:
            facts = (*facts, context.get(REGION))
        return (facts, blocked, () if self.pages is None else self.pages.key(request, now))


class Current:
    """Holds the newest known state and reads it anew when a transaction has found it old.

    Args of the constructor:
        policy: the placement policy of this installation.
        catalogues: where the catalogue comes from.
        scorer: where the model comes from.
        stopped: reads the campaigns that are stopped.
        placement: says which placement policy is in force; None: ``policy`` always.
        experiments: says which experiment runs; None: never one.
    """

    def __init__(
        self,
        policy: PolicyInForce,
        *,
        catalogues: CatalogueService,
        scorer: ContextualScorer,
        stopped: Callable[[], frozenset[str]],
        placement: PlacementPolicies | None = None,
        experiments: Experiments | None = None,
    ) -> None:
        self._placement, self._experiments = placement, experiments
        self._catalogues, self._scorer, self._stopped = catalogues, scorer, stopped
        self._lock = threading.Lock()
        self._held, self._known = InForce(policy), False

    @property
    def held(self) -> InForce | None:
        """What was read last; None before the first time."""
        return self._held if self._known else None

    def get(self) -> InForce:
        """What was read last, or is read now."""
        return self._held if self._known else self.read(self._held)

    def read(self, old: InForce) -> InForce:
        """The state anew, unless somebody has replaced ``old`` meanwhile. An unreachable database changes nothing."""
        with self._lock:
            if self._held is old:
                try:
                    self._held, self._known = self._read(old), True
                except StorageUnavailable as error:
                    _LOG.error("what is in force could not be read: %s", error.name)
            return self._held

    def _read(self, old: InForce) -> InForce:
        number, stopped = self._catalogues.newest_version(), self._stopped()
        catalogue, (version, model) = self._opened(), self._scorer.newest()
        policy, placement = old.policy, 0
        if self._placement is not None:
            current = self._placement.current()
            policy, placement = PolicyInForce(current.policy, current.digest), current.version
        experiment = None if self._experiments is None else self._experiments.in_force()
        digest = None if experiment is None else experiment.digest
        versions = Versions(number, version, stopped, placement, digest)
        creatives = () if catalogue is None else catalogue.creatives
        return InForce(
            policy,
            versions,
            catalogue,
            model,
            assemble.offers(creatives),
            {creative.creative_id: creative for creative in creatives},
            None if model is None else Pages(model.spec),
            experiment,
        )

    def _opened(self) -> Catalogue | None:
        try:
            return self._catalogues.opened()
        except TrustError as error:
            _LOG.error("the catalogue is not used: %s", error.name)
            return None


class Pages:
    """What a model sees of a page and the time, by the buckets that its features fall into."""

    def __init__(self, spec: FeatureSpec) -> None:
        self._spec = spec
        self._texts = tuple((i, f.name) for i, f in enumerate(spec.categorical) if f.block is FeatureBlock.CONTEXT)
        self._numbers = tuple(f.name for f in spec.numeric if f.block is FeatureBlock.CONTEXT)
        self._buckets: dict[tuple[int, str], int] = {}

    def key(self, request: DecisionRequest, now: float) -> tuple[object, ...]:
        """Equal for requests that no score can tell apart."""
        context, buckets, found = request.context, self._buckets, list[object]()
        for index, name in self._texts:
            value = context.get(name)
            if value is not None:
                bucket = buckets.get((index, value))
                found.append(self._bucket(index, value) if bucket is None else bucket)
            elif name == HOUR:
                found.append(int(now // 3600) % 24)
            else:
                found.append(int(now // 86_400) % 7 if name == WEEKDAY else None)
        numbers = request.numbers
        return (*found, *map(numbers.get, self._numbers)) if numbers else tuple(found)

    def _bucket(self, index: int, value: str) -> int:
        """The bucket of a value that was not looked up before."""
        if len(self._buckets) >= _BUCKETS_HELD:
            self._buckets.clear()
        found = self._buckets[index, value] = hash_bucket(self._spec.categorical[index], 0, value)
        return found
