"""Who sits at the desk. Owns signing in with an API key, the session cookie, its end, and the form tokens.

The cookie is 256 random bits and is stored as an HMAC, as API keys are. The token of every form is derived from the
cookie under another key, so that a page of somebody else can neither read nor make one. A session ends with its key,
after half an hour without a click, and after a working day.
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
from common.errors import NotAllowed
from common.taxonomy import Role
from server.access.principal import Principal
from server.access.service import AccessService
from server.dashboard import repository
from server.dashboard.repository import StoredSession
from server.storage import Database

LASTS_S: Final = 8 * 3600
IDLE_S: Final = 30 * 60
ROLES: Final = frozenset({Role.PRIVACY_OFFICER, Role.AUDITOR, Role.ADMIN})
_TOUCH_S: Final = 60
_COOKIE: Final = re.compile(r"[A-Za-z0-9_-]{43}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Visitor:
    """A signed-in person.

    Attributes:
        holder: the person's name on the key; survives the key's rotation.
        form_token: what every form of this session must carry.
    """

    role: Role
    key_id: str
    holder: str
    form_token: str

    @property
    def actor(self) -> str:
        """As the transparency log names who acted."""
        return f"{self.role.value}:{self.holder}"

    @property
    def principal(self) -> Principal:
        """As services that decide by role know this person."""
        return Principal(role=self.role, key_id=self.key_id, holder=self.holder, credential=self.key_id)

    @property
    def officer(self) -> bool:
        """Whether this person may change anything."""
        return self.role is Role.PRIVACY_OFFICER


class DeskSessions:
    """Sessions of the desk."""

    def __init__(
        self, database: Database, access: AccessService, pepper: bytes, clock: Callable[[], float] = time.time
    ) -> None:
        self._database, self._access, self._clock = database, access, clock
        self._session_secret, self._form_secret = derive(pepper, "desk-session"), derive(pepper, "desk-form")

    def open(self, api_key: str) -> str:
        """Sign in; the cookie.

        Raises:
            NotAuthenticated: no valid key.
            NotAllowed: the key's role has no place at the desk, or the key is narrowed to less than its role.
        """
        principal = self._access.authenticate(api_key)
        if principal.role not in ROLES or principal.scopes:
            raise NotAllowed("this key's role has no place at the desk, or the key is narrowed to scopes")
        cookie, now = secrets.token_urlsafe(32), int(self._clock())
        stored = StoredSession(
            key_id=principal.key_id,
            role=principal.role,
            holder=principal.holder,
            created_at=now,
            seen_at=now,
            expires_at=now + LASTS_S,
        )
        with self._database.write() as session:
            repository.remove_lapsed(session, expired_before=now, idle_before=now - IDLE_S)
            repository.insert(session, self._hash(cookie), stored)
        return cookie

    def visitor(self, cookie: str) -> Visitor | None:
        """Who holds this cookie; None once the session or its key has ended."""
        if not _COOKIE.fullmatch(cookie):
            return None
        name, now = self._hash(cookie), int(self._clock())
        with self._database.read() as session:
            found = repository.get(session, name)
        if found is None or now >= found.expires_at or now - found.seen_at >= IDLE_S:
            return None
        if not self._access.live(found.key_id):
            return None
        if now - found.seen_at >= _TOUCH_S:
            with self._database.write() as session:
                repository.touch(session, name, now=now)
        return Visitor(found.role, found.key_id, found.holder, self.form_token(cookie))

    def close(self, cookie: str) -> None:
        """Sign out."""
        with self._database.write() as session:
            repository.remove(session, self._hash(cookie))

    def form_token(self, secret: str) -> str:
        """The token that forms carry beside this cookie."""
        return hmac.new(self._form_secret, secret.encode(), hashlib.sha256).hexdigest()

    def form_token_is(self, secret: str, token: str) -> bool:
        """Whether a form was made for this cookie."""
        return hmac.compare_digest(self.form_token(secret).encode(), token.encode())

    def _hash(self, cookie: str) -> str:
        return hmac.new(self._session_secret, cookie.encode(), hashlib.sha256).hexdigest()
