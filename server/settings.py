"""Settings of the server, from the environment. Owns the names of its variables; builds nothing, opens nothing.

Every part of the server (API, migrations, training) reads the same variables, so they meet in one database.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

DATABASE_FILE = "reticent.db"
SIGNING_KEY_FILE = "signing-key.json"
PEPPER_FILE = "api-key-pepper"


@dataclass(frozen=True, slots=True)
class Settings:
    """Where things are.

    Attributes:
        state_dir: RETICENT_STATE_DIR; the server's own directory (default ``var/server``).
        database_url: RETICENT_DATABASE_URL; any SQLAlchemy URL (default: SQLite in ``state_dir``).
        signing_key: RETICENT_SIGNING_KEY; Ed25519 private key file, 0600.
        pepper: RETICENT_API_KEY_PEPPER; file of the secret under which API keys are stored and event tokens made.
        feature_spec: RETICENT_FEATURE_SPEC; FeatureSpec JSON this installation expects of its models, if pinned.
        policies: RETICENT_POLICIES; directory of policy documents, else those of the package.
        controller: RETICENT_CONTROLLER; who is named in receipts as responsible.
    """

    state_dir: Path
    database_url: str
    signing_key: Path
    pepper: Path
    feature_spec: Path | None = None
    policies: Path | None = None
    controller: str = "Operator of this Reticent installation"

    @classmethod
    def at(cls, state_dir: Path, *, database_url: str | None = None) -> Settings:
        """Everything in one directory."""
        return cls(
            state_dir=state_dir,
            database_url=database_url or f"sqlite:///{(state_dir / DATABASE_FILE).absolute()}",
            signing_key=state_dir / SIGNING_KEY_FILE,
            pepper=state_dir / PEPPER_FILE,
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
            feature_spec=_path(found.get("RETICENT_FEATURE_SPEC")),
            policies=_path(found.get("RETICENT_POLICIES")),
            controller=found.get("RETICENT_CONTROLLER", base.controller),
        )


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None
