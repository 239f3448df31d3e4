"""Composition root of the service. Owns what its parts are and how they are set up; nothing is built at import."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from common.crypto import keyfile
from common.crypto.signing import SigningKey
from policies.loader import LoadedPolicies
from server import migrations
from server.access.limits import RateLimits, read_quotas
from server.access.repeats import Repeats
from server.access.service import AccessService
from server.access.signed import SignedRequests
from server.api import building
from server.campaigns.plans import PlanService
from server.campaigns.service import CatalogueService
from server.campaigns.surfaces import SurfaceService
from server.consent.authority import Authority
from server.consent.notices import NoticeService
from server.consent.service import ConsentService
from server.controls.service import Controls
from server.dashboard.sessions import DeskSessions
from server.decisions.follow_ups import FollowUpService
from server.decisions.line import Dispatcher
from server.decisions.scoring import ContextualScorer
from server.decisions.service import DecisionService
from server.experiments.policies import PlacementPolicies
from server.experiments.proposals import Proposals
from server.experiments.service import Experiments
from server.experiments.trials import Trials
from server.ledger.audits import DIRECTORY as AUDITS
from server.ledger.caps import CapService
from server.ledger.report import LedgerReport
from server.ledger.service import ServerLedger
from server.measurement.clicks import ClickService
from server.measurement.pacing import PacingService
from server.measurement.service import MeasurementService
from server.picks.service import PickService
from server.registry.service import Registry
from server.requests.package import Packager
from server.requests.service import RequestService
from server.settings import Settings
from server.signals.service import SignalReader
from server.storage import Database
from server.transparency.keys import KeyRing, publish_first
from server.transparency.publications import publish_policies
from server.transparency.service import TransparencyLog


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
    dispatcher: Dispatcher
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
    ground = building.build_ground(settings, clock)
    consent = building.build_consent(ground)
    shop = building.build_shop(ground)
    choosing = building.build_choosing(ground, shop, consent)
    subjects = building.build_subjects(ground, shop, choosing, consent)
    database, log, policies, pepper = ground.database, ground.log, ground.policies, ground.pepper
    access = AccessService(database, pepper, clock, log=log)
    return Services(
        settings=settings,
        database=database,
        signer=ground.signer,
        authority=Authority(_authority_key(settings), clock),
        policies=policies,
        keys=ground.keys,
        log=log,
        access=access,
        signed=SignedRequests(database, pepper, clock),
        repeats=subjects.repeats,
        limits=RateLimits(read_quotas(settings.rate_limits), workers=settings.workers),
        notices=NoticeService(database, policies.policies.purposes, clock, log=log),
        consent=consent,
        controls=choosing.controls,
        catalogues=shop.catalogues,
        plans=shop.plans,
        surfaces=SurfaceService(database, shop.catalogues, log=log, clock=clock),
        registry=shop.registry,
        scorer=shop.scorer,
        follow_ups=shop.follow_ups,
        clicks=ClickService(database, shop.follow_ups, shop.known),
        measurement=shop.measurement,
        pacing=shop.pacing,
        signals=choosing.signals,
        picks=choosing.picks,
        decisions=choosing.decisions,
        dispatcher=Dispatcher(settings, policies.digests["purposes"], choosing.decisions.journal),
        placement=choosing.placement,
        experiments=choosing.experiments,
        proposals=choosing.proposals,
        trials=choosing.trials,
        ledger=subjects.ledger,
        caps=CapService(database, ground.budget, log, clock),
        budgets=LedgerReport(database, subjects.ledger, settings.state_dir / AUDITS),
        requests=subjects.requests,
        packages=subjects.packages,
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
            keyfile.write_private(settings.pepper, secrets.token_bytes(building.PEPPER_BYTES))
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


def _authority_key(settings: Settings) -> SigningKey | None:
    """None where another authority certifies devices, or where there is none yet."""
    return keyfile.load(settings.authority_key) if settings.authority_key.exists() else None
