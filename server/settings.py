"""Settings of the server, from the environment. Owns the names of its variables; builds nothing, opens nothing.

Every part of the server (API, migrations, training) reads the same variables, so they meet in one database.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from common.errors import MalformedInput
from common.signals.rules import DisclosedVendors, GpcSubsection, SignalRules, VendorRule
from common.signals.tcf import VENDOR_ID_MAX

DATABASE_FILE = "reticent.db"
SIGNING_KEY_FILE = "signing-key.json"
AUTHORITY_KEY_FILE = "authority-key.json"
PEPPER_FILE = "api-key-pepper"


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
        controller: RETICENT_CONTROLLER; who is named in receipts as responsible.
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
    signals: SignalRules = field(default_factory=SignalRules)

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
            signals=_signal_rules(found),
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


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None
