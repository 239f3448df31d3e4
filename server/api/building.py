"""How the parts of the service are built, room by room. Owns the order in which they need one another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from common.crypto import keyfile
from common.crypto.signing import SigningKey
from common.errors import MalformedInput
from common.model.feature_spec import FeatureSpec
from common.wire.consent import Party
from common.wire.documents import seal
from common.wire.messages import PolicyDocument
from policies.loader import DOCUMENTS, LoadedPolicies, load
from policies.placement.document import PlacementPolicy
from policies.placement.lint import refuse_special_features
from policies.schema import PrivacyBudgetPolicy
from server.access.repeats import Repeats
from server.campaigns.plans import PlanService
from server.campaigns.service import CatalogueService
from server.consent.recording import Rulebook
from server.consent.service import ConsentService
from server.controls.service import Controls
from server.decisions.answering import Answers
from server.decisions.follow_ups import FollowUpService
from server.decisions.in_force import Current, PolicyInForce
from server.decisions.scoring import ContextualScorer
from server.decisions.service import DecisionService
from server.decisions.tokens import TokenMint
from server.experiments.adjusting import CampaignAdjustments
from server.experiments.device_counts import ReleasedCounts
from server.experiments.policies import PlacementPolicies
from server.experiments.policies import PolicyInForce as SignedPolicy
from server.experiments.proposals import Proposals
from server.experiments.service import Experiments
from server.experiments.trials import Trials
from server.ledger.service import ServerLedger
from server.measurement.known import KnownCatalogues
from server.measurement.pacing import PacingService
from server.measurement.service import MeasurementService
from server.picks.cap import CapNotice
from server.picks.lists import CandidateLists
from server.picks.service import PickService
from server.registry.service import Registry
from server.requests.erasure import Rooms
from server.requests.package import Packager
from server.requests.service import RequestService
from server.settings import Settings
from server.signals.service import SignalReader
from server.storage import Database, open_database
from server.transparency.keys import KeyRing, recover
from server.transparency.service import TransparencyLog

PEPPER_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Ground:
    """What every room stands on."""

    settings: Settings
    database: Database
    signer: SigningKey
    pepper: bytes
    policies: LoadedPolicies
    keys: KeyRing
    log: TransparencyLog
    clock: Callable[[], float]

    @property
    def budget(self) -> PrivacyBudgetPolicy:
        """The privacy budget document."""
        return self.policies.policies.privacy_budget


@dataclass(frozen=True, slots=True)
class Shop:
    """What can be shown, and what is known of what was shown."""

    known: KnownCatalogues
    measurement: MeasurementService
    pacing: PacingService
    catalogues: CatalogueService
    plans: PlanService
    registry: Registry
    scorer: ContextualScorer
    follow_ups: FollowUpService


@dataclass(frozen=True, slots=True)
class Choosing:
    """What chooses: the policy in force, experiments, private picks and decisions."""

    controls: Controls
    signals: SignalReader
    placement: PlacementPolicies
    experiments: Experiments
    proposals: Proposals
    trials: Trials
    picks: PickService
    decisions: DecisionService


@dataclass(frozen=True, slots=True)
class Subjects:
    """What people have asked for, and where it is written down that they did."""

    repeats: Repeats
    ledger: ServerLedger
    requests: RequestService
    packages: Packager


def build_ground(settings: Settings, clock: Callable[[], float]) -> Ground:
    """Keys, policies, the database and its log.

    Raises:
        MalformedInput: a key is missing or unreadable.
        PolicyError: a policy document is not valid.
    """
    database = open_database(settings.database_url)
    recover(database, settings.signing_key)
    signer, pepper = _signing_key(settings.signing_key), _pepper(settings.pepper)
    return Ground(
        settings=settings,
        database=database,
        signer=signer,
        pepper=pepper,
        policies=load(settings.policies),
        keys=KeyRing(database, signer.public),
        log=TransparencyLog(database, signer, origin=settings.log_origin, clock=clock),
        clock=clock,
    )


def build_consent(ground: Ground) -> ConsentService:
    """Who has agreed to what."""
    return ConsentService(
        ground.database,
        rulebook=_rulebook(ground.settings, ground.policies),
        signer=ground.signer,
        log=ground.log,
        keys=ground.keys,
        clock=ground.clock,
    )


def build_shop(ground: Ground) -> Shop:
    """Catalogues, campaigns, models and counts."""
    database, log, keys, clock = ground.database, ground.log, ground.keys, ground.clock
    known = KnownCatalogues(database, keys)
    measurement = MeasurementService(database, known, ground.budget.releases.placement_counts, log=log, clock=clock)
    catalogues = CatalogueService(database, ground.signer, clock, log=log, keys=keys, crowds=measurement.crowds)
    registry = Registry(database.read, keys)
    return Shop(
        known=known,
        measurement=measurement,
        pacing=PacingService(database, known, clock),
        catalogues=catalogues,
        plans=PlanService(database, catalogues, log=log, clock=clock),
        registry=registry,
        scorer=ContextualScorer(registry, _pinned_digest(ground.settings.feature_spec)),
        follow_ups=FollowUpService(database, TokenMint(ground.pepper), clock),
    )


def build_choosing(ground: Ground, shop: Shop, consent: ConsentService) -> Choosing:
    """The policy in force, experiments, private picks, and the decisions that follow from them."""
    database, log, clock, signer = ground.database, ground.log, ground.clock, ground.signer
    controls = Controls(database, log, clock)
    signals = SignalReader(ground.settings.signals, ground.policies.policies.purposes, clock)
    in_force = PlacementPolicies(database, _own_policy(ground), signer=signer, log=log, clock=clock)
    experiments = Experiments(database, in_force, signer=signer, keys=ground.keys, log=log, clock=clock)
    campaigns = CampaignAdjustments(shop.plans)
    counts = ground.budget.releases.placement_counts
    released = None if counts is None else ReleasedCounts(shop.measurement, counts.reach_min)
    picks = _picks(ground, shop, in_force)
    current = Current(
        PolicyInForce(ground.policies.policies.placement, ground.policies.digests["placement"]),
        catalogues=shop.catalogues,
        scorer=shop.scorer,
        stopped=controls.stopped_campaigns,
        placement=in_force,
        experiments=experiments,
    )
    return Choosing(
        controls=controls,
        signals=signals,
        placement=in_force,
        experiments=experiments,
        proposals=Proposals(
            database, placement=in_force, experiments=experiments, campaigns=campaigns, log=log, clock=clock
        ),
        trials=Trials(database, experiments, released, clock),
        picks=picks,
        decisions=DecisionService(
            database,
            consent=consent,
            current=current,
            answers=Answers(shop.follow_ups, signals, signer, pacing=shop.pacing.serving),
            signals=signals,
            pacing=shop.pacing.serving,
            picks=picks,
            clock=clock,
        ),
    )


def build_subjects(ground: Ground, shop: Shop, choosing: Choosing, consent: ConsentService) -> Subjects:
    """The ledger, and the requests of data subjects, which reach into every room that knows them."""
    database, log, clock = ground.database, ground.log, ground.clock
    signer, controller = ground.signer, ground.settings.controller
    repeats = Repeats(database, ground.pepper, clock)
    ledger = ServerLedger(database, ground.budget, now=clock, log=log)
    rooms = Rooms(
        database=database,
        consent=consent,
        repeats=repeats,
        ledger=ledger,
        picks=choosing.picks,
        log=log,
        registry=shop.registry,
    )
    policies = ground.policies.policies
    return Subjects(
        repeats=repeats,
        ledger=ledger,
        requests=RequestService(rooms, rules=policies.requests, signer=signer, controller=controller, clock=clock),
        packages=Packager(rooms, purposes=policies.purposes, signer=signer, controller=controller, clock=clock),
    )


def _picks(ground: Ground, shop: Shop, in_force: PlacementPolicies) -> PickService:
    rules = ground.budget.placement

    def placement() -> PlacementPolicy:
        return in_force.current().policy

    lists = CandidateLists(
        ground.database,
        rules=rules,
        policy=placement,
        catalogues=shop.catalogues,
        scorer=shop.scorer,
        signer=ground.signer,
        keys=ground.keys,
        log=ground.log,
        clock=ground.clock,
    )
    cap = CapNotice(ground.database, rules=rules, signer=ground.signer, clock=ground.clock)
    return PickService(ground.database, lists, cap, rules=rules, log=ground.log, clock=ground.clock)


def _rulebook(settings: Settings, policies: LoadedPolicies) -> Rulebook:
    controller = Party(
        party_id="controller",
        name=settings.controller,
        address=settings.controller_address,
        contact=settings.controller_contact,
    )
    return Rulebook(policies.policies.purposes, policies.digests["purposes"], controller, settings.storage_location)


def _own_policy(ground: Ground) -> SignedPolicy:
    """The placement policy of this installation's file."""
    digest = ground.policies.digests["placement"]
    text = ((ground.settings.policies or DOCUMENTS) / "placement.yaml").read_bytes().decode()
    sealed = seal(PolicyDocument(digest=digest, text=text), ground.signer)
    return SignedPolicy(ground.policies.policies.placement, digest, sealed)


def _signing_key(path: Path) -> SigningKey:
    try:
        return keyfile.load(path)
    except OSError:
        raise MalformedInput(f"there is no signing key {path.name}; run: reticent server init") from None


def _pepper(path: Path) -> bytes:
    try:
        pepper = path.read_bytes()
    except OSError:
        raise MalformedInput(f"there is no API key pepper {path.name}; run: reticent server init") from None
    if len(pepper) < PEPPER_BYTES:
        raise MalformedInput(f"the API key pepper {path.name} has fewer than {PEPPER_BYTES} bytes")
    return pepper


def _pinned_digest(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        spec = FeatureSpec.model_validate_json(path.read_bytes())
    except (OSError, ValueError):
        raise MalformedInput(f"{path.name} is not a feature specification") from None
    refuse_special_features(spec)
    return spec.digest
