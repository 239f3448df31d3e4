"""Settings of the server, from the environment. Owns the names of its variables; builds nothing, opens nothing.

Every part of the server (API, migrations, training) reads the same variables, so they meet in one database.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path

from common.errors import MalformedInput
from common.signals.rules import DisclosedVendors, GpcSubsection, SignalRules, VendorRule
from common.signals.tcf import VENDOR_ID_MAX

DATABASE_FILE = "reticent.db"
SIGNING_KEY_FILE = "signing-key.json"
AUTHORITY_KEY_FILE = "authority-key.json"
PEPPER_FILE = "api-key-pepper"
LOG_ORIGIN = "reticent-log"


class RoundConsentRule(StrEnum):
    """Whose word on consent a secure aggregation needs beside the devices' own gates."""

    SERVICE = "service"
    DEVICES = "devices"


@dataclass(frozen=True, slots=True)
class Settings:
    """Where things are.

    Attributes:
        state_dir: RETICENT_STATE_DIR; the server's own directory (default ``var/server``).
        database_url: RETICENT_DATABASE_URL; any SQLAlchemy URL (default: SQLite in ``state_dir``).
        signing_key: RETICENT_SIGNING_KEY; Ed25519 private key file, 0600.
        authority: RETICENT_AUTHORITY; base64url public key of the enrolment authority that certifies devices for secure
            aggregation; where it is not set, that of ``authority_key``.
        authority_key: RETICENT_AUTHORITY_KEY; the authority's private key file, on installations that are their own
            authority (demonstrations, simulations): then nothing but their word says that devices exist.
        pepper: RETICENT_API_KEY_PEPPER; file of the secret under which API keys are stored and event tokens made.
        feature_spec: RETICENT_FEATURE_SPEC; FeatureSpec JSON this installation expects of its models, if pinned.
        policies: RETICENT_POLICIES; directory of policy documents, else those of the package.
        controller: RETICENT_CONTROLLER; who is named in receipts as responsible. RETICENT_CONTROLLER_ADDRESS and
            RETICENT_CONTROLLER_CONTACT say where they can be reached, RETICENT_STORAGE_LOCATION where the records are.
        round_consent: RETICENT_ROUND_CONSENT; ``service`` (default): a secure aggregation takes only devices that are
            enrolled here and have live consent here; ``devices``: for simulations without people at a service, whose
            devices' own gates decide alone.
        log_origin: RETICENT_LOG_ORIGIN; name of the transparency log in checkpoints, without spaces; never change it.
        public_url: RETICENT_PUBLIC_URL; how devices see the service, scheme and host, where a proxy stands before it:
            they sign the URL that they call. Else the request's own host counts.
        rate_limits: RETICENT_RATE_LIMITS; ``device=600/60 app_backend=100000/60``: requests per seconds, by role.
        sequencer: RETICENT_SEQUENCER; ``on`` (default): on SQLite, one process of its own commits the decisions of all
            workers; ``off``: every worker commits its own.
        workers: WEB_CONCURRENCY, uvicorn's variable; each worker grants its share of the rate limits.
        currency: RETICENT_CURRENCY; ISO 4217 code of the account that bids are in (default USD).
        exchange_responses_per_mille: RETICENT_EXCHANGE_RESPONSES_PER_MILLE; how many responses a thousand views are
            taken to bring (default 10), by which exchanges are told a price per thousand: bid per response times this
            figure. It is the same for everybody and every ad, so that no price depends on a prediction.
        signals: how privacy signals are read. RETICENT_TCF_VENDOR_ID is our id in the Global Vendor List, or
            ``unchecked``; without it no TC string is enough. RETICENT_TCF_DISCLOSED_VENDORS (``required``, ``legacy``)
            and RETICENT_GPP_GPC_SUBSECTION (``required``, ``optional``) say which missing parts are let pass.
    """

    state_dir: Path
    database_url: str
    signing_key: Path
    pepper: Path
    authority_key: Path
    authority: str = ""
    feature_spec: Path | None = None
    policies: Path | None = None
    controller: str = "Operator of this Reticent installation"
    controller_address: str = ""
    controller_contact: str = ""
    storage_location: str = "the server of this installation"
    round_consent: RoundConsentRule = RoundConsentRule.SERVICE
    log_origin: str = LOG_ORIGIN
    public_url: str = ""
    rate_limits: str = ""
    workers: int = 1
    sequencer: bool = False
    signals: SignalRules = field(default_factory=SignalRules)
    currency: str = "USD"
    exchange_responses_per_mille: float = 10.0

    @classmethod
    def at(cls, state_dir: Path, *, database_url: str | None = None) -> Settings:
        """Everything in one directory."""
        return cls(
            state_dir=state_dir,
            database_url=database_url or f"sqlite:///{(state_dir / DATABASE_FILE).absolute()}",
            signing_key=state_dir / SIGNING_KEY_FILE,
            pepper=state_dir / PEPPER_FILE,
            authority_key=state_dir / AUTHORITY_KEY_FILE,
        )

    @property
    def sequencer_socket(self) -> Path:
        """Where workers reach the sequencer."""
        return self.state_dir / "decisions.sock"

    def environment(self) -> dict[str, str]:
        """What a process of our own needs to find the same database and policies."""
        own = {"RETICENT_STATE_DIR": str(self.state_dir), "RETICENT_DATABASE_URL": self.database_url}
        if self.policies is not None:
            own["RETICENT_POLICIES"] = str(self.policies)
        return {**os.environ, **own}

    @classmethod
    def simulated(cls, state_dir: Path) -> Settings:
        """The same for a simulation without people at a service: nobody is enrolled, devices' own gates decide."""
        return replace(cls.at(state_dir), round_consent=RoundConsentRule.DEVICES)

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Settings:
        """Read RETICENT_* variables; an empty one counts as unset."""
        found = {name: value for name, value in (os.environ if env is None else env).items() if value}
        base = cls.at(Path(found.get("RETICENT_STATE_DIR", "var/server")))
        return cls(
            state_dir=base.state_dir,
            database_url=found.get("RETICENT_DATABASE_URL", base.database_url),
            signing_key=Path(found.get("RETICENT_SIGNING_KEY", base.signing_key)),
            pepper=Path(found.get("RETICENT_API_KEY_PEPPER", base.pepper)),
            authority_key=Path(found.get("RETICENT_AUTHORITY_KEY", base.authority_key)),
            authority=found.get("RETICENT_AUTHORITY", ""),
            feature_spec=_path(found.get("RETICENT_FEATURE_SPEC")),
            policies=_path(found.get("RETICENT_POLICIES")),
            controller=found.get("RETICENT_CONTROLLER", base.controller),
            controller_address=found.get("RETICENT_CONTROLLER_ADDRESS", ""),
            controller_contact=found.get("RETICENT_CONTROLLER_CONTACT", ""),
            storage_location=found.get("RETICENT_STORAGE_LOCATION", base.storage_location),
            round_consent=_round_consent(found.get("RETICENT_ROUND_CONSENT", RoundConsentRule.SERVICE.value)),
            log_origin=found.get("RETICENT_LOG_ORIGIN", base.log_origin),
            public_url=found.get("RETICENT_PUBLIC_URL", ""),
            rate_limits=found.get("RETICENT_RATE_LIMITS", ""),
            workers=_workers(found.get("WEB_CONCURRENCY", "1")),
            sequencer=_sequencer(found),
            signals=_signal_rules(found),
            currency=_currency(found.get("RETICENT_CURRENCY", "USD")),
            exchange_responses_per_mille=_per_mille(found.get("RETICENT_EXCHANGE_RESPONSES_PER_MILLE", "10")),
        )


def _signal_rules(found: Mapping[str, str]) -> SignalRules:
    """Rules for privacy signals.

    Raises:
        MalformedInput: a variable has a value that is not described.
    """
    vendor = found.get("RETICENT_TCF_VENDOR_ID", VendorRule.REFUSE.value)
    known = vendor.isdecimal() and vendor.isascii() and len(vendor) <= 5 and 1 <= int(vendor) <= VENDOR_ID_MAX
    try:
        return SignalRules(
            vendor=int(vendor) if known else VendorRule(vendor),
            disclosed_vendors=DisclosedVendors(found.get("RETICENT_TCF_DISCLOSED_VENDORS", "required")),
            gpc_subsection=GpcSubsection(found.get("RETICENT_GPP_GPC_SUBSECTION", "required")),
        )
    except ValueError:
        names = "RETICENT_TCF_VENDOR_ID, RETICENT_TCF_DISCLOSED_VENDORS or RETICENT_GPP_GPC_SUBSECTION"
        raise MalformedInput(f"{names} has a value that is not allowed") from None


def _round_consent(text: str) -> RoundConsentRule:
    """Raises MalformedInput for a word that is none."""
    try:
        return RoundConsentRule(text)
    except ValueError:
        raise MalformedInput("RETICENT_ROUND_CONSENT is service or devices") from None


def _sequencer(found: Mapping[str, str]) -> bool:
    said = found.get("RETICENT_SEQUENCER", "on")
    if said not in {"on", "off"}:
        raise MalformedInput("RETICENT_SEQUENCER takes on or off")
    return said == "on"


def _workers(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and 1 <= int(text[:4]) <= 999):
        raise MalformedInput("WEB_CONCURRENCY takes a number of workers from 1 to 999")
    return int(text)


def _currency(text: str) -> str:
    if not (len(text) == 3 and text.isascii() and text.isupper()):
        raise MalformedInput("RETICENT_CURRENCY takes an ISO 4217 code such as USD")
    return text


def _per_mille(text: str) -> float:
    with contextlib.suppress(ValueError):
        if 0 < (figure := float(text)) <= 1000:
            return figure
    raise MalformedInput("RETICENT_EXCHANGE_RESPONSES_PER_MILLE takes a number above 0, at most 1000")


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None
