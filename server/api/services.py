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
from common.crypto.signing import SigningKey, key_ring
from common.errors import MalformedInput
from common.model.feature_spec import FeatureSpec
from common.wire.documents import seal
from common.wire.messages import PolicyDocument
from policies.loader import DOCUMENTS, LoadedPolicies, load
from server import migrations
from server.access.service import AccessService
from server.campaigns.service import CatalogueService
from server.consent.authority import Authority
from server.consent.notices import NoticeService
from server.consent.service import ConsentService
from server.decisions.follow_ups import FollowUpService
from server.decisions.scoring import ContextualScorer
from server.decisions.service import DecisionService, PolicyInForce
from server.decisions.tokens import TokenMint
from server.registry.service import Registry
from server.settings import Settings
from server.signals.service import SignalReader
from server.storage import Database, open_database

PEPPER_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Services:
    """Every part of one running service."""

    settings: Settings
    database: Database
    signer: SigningKey
    authority: Authority
    policies: LoadedPolicies
    policy_jws: str
    access: AccessService
    notices: NoticeService
    consent: ConsentService
    catalogues: CatalogueService
    registry: Registry
    scorer: ContextualScorer
    follow_ups: FollowUpService
    signals: SignalReader
    decisions: DecisionService


def build_services(settings: Settings, *, clock: Callable[[], float] = time.time) -> Services:
    """Read keys and policies, open the database, and put the parts together.

    Raises:
        MalformedInput: a key is missing or unreadable; ``reticent server init`` makes them.
        PolicyError: a policy document is not valid.
    """
    signer, pepper = _signing_key(settings.signing_key), _pepper(settings.pepper)
    policies = load(settings.policies)
    database = open_database(settings.database_url)
    registry = Registry(database.read, key_ring(signer.public))
    consent = ConsentService(
        database, rules=policies.policies.purposes, signer=signer, controller=settings.controller, clock=clock
    )
    catalogues = CatalogueService(database, signer, clock)
    scorer = ContextualScorer(registry, _pinned_digest(settings.feature_spec))
    follow_ups = FollowUpService(database, TokenMint(pepper), clock)
    signals = SignalReader(settings.signals, policies.policies.purposes, clock)
    return Services(
        settings=settings,
        database=database,
        signer=signer,
        authority=Authority(_authority_key(settings), clock),
        policies=policies,
        policy_jws=_policy_jws(settings, policies, signer),
        access=AccessService(database, pepper, clock),
        notices=NoticeService(database, policies.policies.purposes, clock),
        consent=consent,
        catalogues=catalogues,
        registry=registry,
        scorer=scorer,
        follow_ups=follow_ups,
        signals=signals,
        decisions=DecisionService(
            database,
            consent=consent,
            catalogues=catalogues,
            scorer=scorer,
            follow_ups=follow_ups,
            signals=signals,
            policy=PolicyInForce(policies.policies.placement, policies.digests["placement"]),
            signer=signer,
            clock=clock,
        ),
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
    services.notices.publish_documents(notice_directory(settings))
    return services


def notice_directory(settings: Settings) -> Path | None:
    """Where the notices of this installation are; None: those of the package."""
    own = None if settings.policies is None else settings.policies / "notice"
    return own if own is not None and own.is_dir() else None


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
        return FeatureSpec.model_validate_json(path.read_bytes()).digest
    except (OSError, ValueError):
        raise MalformedInput(f"{path.name} is not a feature specification") from None


def _policy_jws(settings: Settings, policies: LoadedPolicies, signer: SigningKey) -> str:
    text = ((settings.policies or DOCUMENTS) / "placement.yaml").read_text(encoding="utf-8")
    return seal(PolicyDocument(digest=policies.digests["placement"], text=text), signer)
