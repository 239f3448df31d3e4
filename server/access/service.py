"""API keys. Owns their form ``rtk_<role>_<256 random bits>``, their hashing, expiry and revocation.

A key is shown once and stored as an HMAC under a pepper kept outside the database, so a copy of the database opens
nothing. The key is random, so a slow hash would protect nothing more.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from common.crypto.kdf import derive
from common.errors import NotAuthenticated, NotFound
from common.taxonomy import Role
from server.access import repository
from server.access.repository import StoredKey
from server.storage import Database

DAYS_DEFAULT: Final = 365
_DAY_S: Final = 86_400
_FORM: Final = re.compile(r"rtk_[a-z_]{1,20}_[A-Za-z0-9_-]{43}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling.

    Attributes:
        role: what the caller may do.
        subject: whom a device speaks for.
        app_id: whose subjects an app backend may ask about; None: all.
    """

    role: Role
    subject: str | None = None
    app_id: str | None = None


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A new key; the only moment its text exists outside its owner's hands."""

    key_id: str
    token: str
    expires_at: int


class AccessService:
    """Issues, checks and revokes API keys."""

    def __init__(self, database: Database, pepper: bytes, clock: Callable[[], float] = time.time) -> None:
        self._database, self._clock = database, clock
        self._secret = derive(pepper, "api-key")

    def issue(
        self,
        role: Role,
        *,
        label: str,
        subject: str | None = None,
        app_id: str | None = None,
        days: int = DAYS_DEFAULT,
    ) -> IssuedKey:
        """A new key.

        Raises:
            ValueError: a device key needs a subject, and no other key has one.
        """
        if (role is Role.DEVICE) != (subject is not None):
            raise ValueError("a device key speaks for exactly one subject; other keys for none")
        now = int(self._clock())
        key = IssuedKey(
            key_id=f"key_{secrets.token_urlsafe(9)}",
            token=f"rtk_{role.value}_{secrets.token_urlsafe(32)}",
            expires_at=now + days * _DAY_S,
        )
        with self._database.write() as session:
            stored = StoredKey(role, self._hash(key.token), subject, app_id, key.expires_at, revoked=False)
            repository.insert(session, key.key_id, stored, label=label, now=now)
        return key

    def authenticate(self, token: str) -> Principal:
        """Who holds this key.

        Raises:
            NotAuthenticated: no valid key; which of the reasons is not told.
        """
        refusal = NotAuthenticated("a valid API key is needed: Authorization: Bearer rtk_…")
        if not _FORM.fullmatch(token):
            raise refusal
        presented = self._hash(token)
        with self._database.read() as session:
            found = repository.by_hash(session, presented)
        if found is None or not hmac.compare_digest(found.key_hash, presented):
            raise refusal
        if found.revoked or self._clock() >= found.expires_at:
            raise refusal
        return Principal(found.role, found.subject, found.app_id)

    def revoke(self, key_id: str) -> None:
        """End a key now; ending it twice changes nothing.

        Raises:
            NotFound: there is no such key.
        """
        with self._database.write() as session:
            if not repository.revoke(session, key_id, now=int(self._clock())):
                raise NotFound("no such API key")

    def _hash(self, token: str) -> str:
        return hmac.new(self._secret, token.encode(), hashlib.sha256).hexdigest()
