"""Composition root of the service. Owns how its parts are built from settings; nothing is built at import."""

from __future__ import annotations

import contextlib
import secrets
import time
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
from server import migrations
from server.access.limits import RateLimits, read_quotas
from server.access.repeats import Repeats
from server.access.service import AccessService
from server.access.signed import SignedRequests
from server.campaigns.plans import PlanService
from server.campaigns.service import CatalogueService
from server.campaigns.surfaces import SurfaceService
from server.consent.authority import Authority
from server.consent.notices import NoticeService
from server.consent.recording import Rulebook
from server.consent.service import ConsentService
from server.controls.service import Controls
from server.dashboard.sessions import DeskSessions
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
from server.ledger.audits import DIRECTORY as AUDITS
from server.ledger.caps import CapService
from server.ledger.report import LedgerReport
from server.ledger.service import ServerLedger
from server.measurement.clicks import ClickService
from server.measurement.known import KnownCatalogues
from server.measurement.pacing import PacingService
from server.measurement.service import MeasurementService
from server.picks.lists import CandidateLists
from server.picks.service import PickService
from server.registry.service import Registry
from server.requests.erasure import Rooms
from server.requests.package import Packager
from server.requests.service import RequestService
from server.settings import Settings
from server.signals.service import SignalReader
from server.storage import Database, open_database
from server.transparency.keys import KeyRing, publish_first, recover
from server.transparency.publications import publish_policies
from server.transparency.service import TransparencyLog

PEPPER_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Services:
    """Every part of one running service."""

    settings: Settings
    database: Database
    signer: SigningKey
    authority: Authority
    policies: LoadedPolicies
    keys: KeyRing
    log: TransparencyLog
    access: AccessService
    signed: SignedRequests
    repeats: Repeats
    limits: RateLimits
    notices: NoticeService
    consent: ConsentService
    controls: Controls
    catalogues: CatalogueService
    plans: PlanService
    surfaces: SurfaceService
    registry: Registry
    scorer: ContextualScorer
    follow_ups: FollowUpService
    clicks: ClickService
    measurement: MeasurementService
    pacing: PacingService
    signals: SignalReader
    picks: PickService
    decisions: DecisionService
    placement: PlacementPolicies
    experiments: Experiments
    proposals: Proposals
    trials: Trials
    ledger: ServerLedger
    caps: CapService
    budgets: LedgerReport
    requests: RequestService
    packages: Packager
    desk: DeskSessions
    clock: Callable[[], float]


def build_services(settings: Settings, *, clock: Callable[[], float] = time.time) -> Services:
    """Read keys and policies, open the database, and put the parts together.

    Raises:
        MalformedInput: a key is missing or unreadable; ``reticent server init`` makes them.
        PolicyError: a policy document is not valid.
    """
    database = open_database(settings.database_url)
    recover(database, settings.signing_key)
    signer, pepper = _signing_key(settings.signing_key), _pepper(settings.pepper)
    policies = load(settings.policies)
    keys = KeyRing(database, signer.public)
    log = TransparencyLog(database, signer, origin=settings.log_origin, clock=clock)
    registry = Registry(database.read, keys)
    consent = ConsentService(
        database, rulebook=_rulebook(settings, policies), signer=signer, log=log, keys=keys, clock=clock
    )
    access = AccessService(database, pepper, clock, log=log)
    known = KnownCatalogues(database, keys)
    counts = policies.policies.privacy_budget.releases.placement_counts
    measurement = MeasurementService(database, known, counts, log=log, clock=clock)
    pacing = PacingService(database, known, clock)
    catalogues = CatalogueService(database, signer, clock, log=log, keys=keys, crowds=measurement.crowds)
    scorer = ContextualScorer(registry, _pinned_digest(settings.feature_spec))
    follow_ups = FollowUpService(database, TokenMint(pepper), clock)
    controls = Controls(database, log, clock)
    plans = PlanService(database, catalogues, log=log, clock=clock)
    in_force = PlacementPolicies(database, _own_policy(settings, policies, signer), signer=signer, log=log, clock=clock)
    experiments = Experiments(database, in_force, signer=signer, keys=keys, log=log, clock=clock)
    signals = SignalReader(settings.signals, policies.policies.purposes, clock)
    repeats = Repeats(database, pepper, clock)
    ledger = ServerLedger(database, policies.policies.privacy_budget, now=clock, log=log)
    pick_rules = policies.policies.privacy_budget.placement

    def placement() -> PlacementPolicy:
        return in_force.current().policy

    lists = CandidateLists(
        database,
        rules=pick_rules,
        policy=placement,
        catalogues=catalogues,
        scorer=scorer,
        signer=signer,
        keys=keys,
        log=log,
        clock=clock,
    )
    picks = PickService(database, lists, rules=pick_rules, policy=placement, log=log, clock=clock)
    rooms = Rooms(
        database=database, consent=consent, repeats=repeats, ledger=ledger, picks=picks, log=log, registry=registry
    )
    return Services(
        settings=settings,
        database=database,
        signer=signer,
        authority=Authority(_authority_key(settings), clock),
        policies=policies,
        keys=keys,
        log=log,
        access=access,
        signed=SignedRequests(database, pepper, clock),
        repeats=repeats,
        limits=RateLimits(read_quotas(settings.rate_limits), workers=settings.workers),
        notices=NoticeService(database, policies.policies.purposes, clock, log=log),
        consent=consent,
        controls=controls,
        catalogues=catalogues,
        plans=plans,
        surfaces=SurfaceService(database, catalogues, log=log, clock=clock),
        registry=registry,
        scorer=scorer,
        follow_ups=follow_ups,
        clicks=ClickService(database, follow_ups, known),
        measurement=measurement,
        pacing=pacing,
        signals=signals,
        picks=picks,
        decisions=DecisionService(
            database,
            consent=consent,
            current=Current(
                PolicyInForce(policies.policies.placement, policies.digests["placement"]),
                catalogues=catalogues,
                scorer=scorer,
                stopped=controls.stopped_campaigns,
                placement=in_force,
                experiments=experiments,
            ),
            answers=Answers(follow_ups, signals, signer, pacing=pacing.serving),
            signals=signals,
            pacing=pacing.serving,
            picks=picks,
            clock=clock,
        ),
        placement=in_force,
        experiments=experiments,
        proposals=Proposals(
            database,
            placement=in_force,
            experiments=experiments,
            campaigns=CampaignAdjustments(plans),
            log=log,
            clock=clock,
        ),
        trials=Trials(
            database,
            experiments,
            None if counts is None else ReleasedCounts(measurement, counts.reach_min),
            clock,
        ),
        ledger=ledger,
        caps=CapService(database, policies.policies.privacy_budget, log, clock),
        budgets=LedgerReport(database, ledger, settings.state_dir / AUDITS),
        requests=RequestService(
            rooms, rules=policies.policies.requests, signer=signer, controller=settings.controller, clock=clock
        ),
        packages=Packager(
            rooms, purposes=policies.policies.purposes, signer=signer, controller=settings.controller, clock=clock
        ),
        desk=DeskSessions(database, access, pepper, clock),
        clock=clock,
    )


def initialise(settings: Settings, *, clock: Callable[[], float] = time.time) -> Services:
    """Make what is missing (keys, tables, the published notice) and leave what is there. Safe to repeat."""
    settings.state_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    keyfile.load_or_create(settings.signing_key)
    if not settings.authority:
        keyfile.load_or_create(settings.authority_key)
    if not settings.pepper.exists():
        settings.pepper.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with contextlib.suppress(FileExistsError):  # another process was first: its pepper is the pepper
            keyfile.write_private(settings.pepper, secrets.token_bytes(PEPPER_BYTES))
    services = build_services(settings, clock=clock)
    migrations.migrate(services.database)
    announce(services)
    services.notices.publish_documents(notice_directory(settings))
    services.ledger.retire()
    services.picks.retire()
    return services


def announce(services: Services) -> None:
    """Put what is in force into the transparency log where it is not there yet: the signing key, policy documents.

    Raises:
        MalformedInput: the signing key is not the one that this database has published last.
    """
    publish_first(services.database, services.log, services.signer.public)
    digests = dict(services.policies.digests)
    if services.placement.current().version:  # the file's placement policy is not the one in force
        del digests["placement"]
    publish_policies(services.database, services.log, digests, services.settings.policies)


def notice_directory(settings: Settings) -> Path | None:
    """Where the notices of this installation are; None: those of the package."""
    own = None if settings.policies is None else settings.policies / "notice"
    return own if own is not None and own.is_dir() else None


def _rulebook(settings: Settings, policies: LoadedPolicies) -> Rulebook:
    controller = Party(
        party_id="controller",
        name=settings.controller,
        address=settings.controller_address,
        contact=settings.controller_contact,
    )
    return Rulebook(policies.policies.purposes, policies.digests["purposes"], controller, settings.storage_location)


def _signing_key(path: Path) -> SigningKey:
    try:
        return keyfile.load(path)
    except OSError:
        raise MalformedInput(f"there is no signing key {path.name}; run: reticent server init") from None


def _authority_key(settings: Settings) -> SigningKey | None:
    """None where another authority certifies devices, or where there is none yet."""
    return keyfile.load(settings.authority_key) if settings.authority_key.exists() else None


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


def _own_policy(settings: Settings, policies: LoadedPolicies, signer: SigningKey) -> SignedPolicy:
    """The placement policy of this installation's file."""
    digest = policies.digests["placement"]
    text = ((settings.policies or DOCUMENTS) / "placement.yaml").read_bytes().decode()
    return SignedPolicy(policies.policies.placement, digest, seal(PolicyDocument(digest=digest, text=text), signer))
