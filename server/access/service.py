"""API keys. Owns their form ``rtk_<role>_<256 random bits>``, their hashing, expiry, rotation and revocation.

A key is shown once and stored as an HMAC under a pepper kept outside the database, so a copy of the database opens
nothing. The key is random, so a slow hash would protect nothing more. Every issue, rotation and end of a key is in the
transparency log, written by the same transaction: an admin who hands themself an officer's key leaves a trace.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from common.crypto.kdf import KeyedHash, derive
from common.errors import MalformedInput, NotAllowed, NotAuthenticated, NotFound
from common.taxonomy import LogKind, Role
from server.access import repository
from server.access.principal import Principal as Principal  # noqa: PLC0414 - where other rooms look for it
from server.access.repository import StoredKey
from server.storage import Database, Transaction, exclusive

RECALLED_MAX: Final = 10_000
DAYS_DEFAULT: Final = 365
OVERLAP_HOURS_DEFAULT: Final = 24
OVERLAP_HOURS_MAX: Final = 30 * 24
DAY_S: Final = 86_400
HOLDER: Final = r"^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$"
_FORM: Final = re.compile(r"rtk_[a-z_]{1,20}_[A-Za-z0-9_-]{43}", re.ASCII)
_COMMAND_LINE: Final = "command line"


class Log(Protocol):
    """The transparency log, as far as this room writes to it."""

    def append(
        self, session: Transaction, kind: LogKind, record: Mapping[str, Any], *, actor: str, subject: str | None = None
    ) -> int:
        """Write one entry in the caller's transaction."""
        ...


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A new key; the only moment its text exists outside its owner's hands."""

    key_id: str
    token: str
    expires_at: int


@dataclass(frozen=True, slots=True)
class Recalled:
    """Whom a key belonged to when it was last looked up. It may have ended since: whoever uses this asks again.

    Attributes:
        key_hash: by which the database is asked again.
        day: days since the epoch on which its use was noted.
    """

    principal: Principal
    key_hash: str
    expires_at: int
    day: int


class AccessService:
    """Issues, checks, rotates and revokes API keys."""

    def __init__(self, database: Database, pepper: bytes, clock: Callable[[], float] = time.time, *, log: Log) -> None:
        """Use ``pepper`` to hash keys and ``log`` for what happens to them."""
        self._database, self._clock, self._log = database, clock, log
        self._secret = derive(pepper, "api-key")
        self._seen: dict[str, int] = {}
        self._recalled: dict[bytes, Recalled] = {}
        self._keyed = KeyedHash(self._secret)

    def issue(
        self,
        role: Role,
        *,
        label: str,
        holder: str = "",
        app_id: str | None = None,
        days: int = DAYS_DEFAULT,
        scopes: frozenset[str] = frozenset(),
        by: Principal | None = None,
    ) -> IssuedKey:
        """A new key.

        Args:
            role: what it may do.
            label: for whom, in the issuer's words.
            holder: the person or organisation; the label where it has the form of a name, else the key's own id.
            app_id: narrows an app backend to the subjects of one app.
            days: until it expires.
            scopes: narrow the role; none: all that it may do.
            by: who issues it; None: somebody with access to the machine.

        Raises:
            MalformedInput: a device has no API key; ``holder`` has not the form of a name.
        """
        if role is Role.DEVICE:
            raise MalformedInput("a device has no API key: it signs its requests with the key that it enrolled")
        key_id = f"key_{secrets.token_urlsafe(9)}"
        person = holder or (label if re.fullmatch(HOLDER, label) else key_id)
        if not re.fullmatch(HOLDER, person):
            raise MalformedInput("holder takes letters, digits and . _ @ -, 64 at most")
        now, token = int(self._clock()), _token(role)
        stored = StoredKey(
            key_id=key_id,
            role=role,
            key_hash=self._hash(token),
            app_id=app_id,
            label=label,
            created_at=now,
            expires_at=now + days * DAY_S,
            holder=person,
            lineage=key_id,
            scopes=scopes,
        )
        with self._database.write() as session:
            repository.insert(session, stored)
            self._note(session, "issued", stored, by)
        return IssuedKey(key_id, token, stored.expires_at)

    def rotate(
        self, key_id: str, *, by: Principal, overlap_hours: int = OVERLAP_HOURS_DEFAULT, days: int = DAYS_DEFAULT
    ) -> IssuedKey:
        """A new key in place of an old one, which stays valid for the overlap and no longer than it would have.

        Only whoever calls with the old key may do so: a key that somebody else can make is not its holder's. And only
        once: who has stolen a key must not get a successor of their own. The new one lives no longer than the old one
        was issued for.

        Raises:
            NotFound: there is no such key, or it is no longer valid.
            NotAllowed: it is not the caller's, or it was rotated before.
        """
        now = int(self._clock())
        with self._database.write() as session:
            exclusive(session, f"api-key/{key_id}")
            old = repository.by_id(session, key_id)
            if by.key_id != key_id:
                raise NotAllowed("a key is rotated with that key itself")
            if old is None or old.revoked_at is not None or old.expires_at <= now:
                raise NotFound("no such API key")
            if repository.succeeded(session, old):
                raise NotAllowed("this key was rotated before; use its successor")
            token = _token(old.role)
            fresh = replace(
                old,
                key_id=f"key_{secrets.token_urlsafe(9)}",
                key_hash=self._hash(token),
                created_at=max(now, old.created_at + 1),  # later, so that it is seen to be the successor
                expires_at=now + min(days * DAY_S, old.expires_at - old.created_at),
            )
            repository.insert(session, fresh)
            repository.expire(session, key_id, at=min(old.expires_at, now + overlap_hours * 3600))
            self._note(session, "rotated", fresh, by)
        return IssuedKey(fresh.key_id, token, fresh.expires_at)

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
        if found.role is Role.DEVICE or found.revoked_at is not None or self._clock() >= found.expires_at:
            raise refusal
        self._used(found)
        principal = Principal(
            role=found.role,
            app_id=found.app_id,
            key_id=found.key_id,
            holder=found.holder,
            credential=found.lineage,
            scopes=found.scopes,
        )
        if len(self._recalled) >= RECALLED_MAX:
            self._recalled.clear()
        day = int(self._clock()) // DAY_S
        self._recalled[bytes.fromhex(presented)] = Recalled(principal, presented, found.expires_at, day)
        return principal

    def recall(self, token: bytes) -> Recalled | None:
        """Whom a key belonged to when it was looked up here, today; None where ``authenticate`` has to be asked.

        The database is not asked, so a key that was revoked since may be recalled: the caller checks ``key_hash`` in
        the transaction that its answer depends on.
        """
        found, now = self._recalled.get(self._keyed.digest(token)), self._clock()
        return found if found is not None and now < found.expires_at and int(now) // DAY_S == found.day else None

    def forget(self, recalled: Recalled) -> None:
        """Look a key up again when it comes next."""
        self._recalled.pop(bytes.fromhex(recalled.key_hash), None)

    def live(self, key_id: str) -> bool:
        """Whether a key is still valid: sessions that it opened end with it."""
        with self._database.read() as session:
            found = repository.by_id(session, key_id)
        return found is not None and found.revoked_at is None and self._clock() < found.expires_at

    def listed(self, *, after: tuple[int, str] | None, rows: int) -> Sequence[StoredKey]:
        """Keys, oldest first; never what opens anything."""
        with self._database.read() as session:
            return repository.listed(session, after=after, rows=rows)

    def revoke(self, key_id: str, *, by: Principal | None = None) -> None:
        """End a key now; ending it twice changes nothing.

        Raises:
            NotFound: there is no such key.
        """
        with self._database.write() as session:
            found = repository.by_id(session, key_id)
            if found is None:
                raise NotFound("no such API key")
            if found.revoked_at is None:
                repository.revoke(session, key_id, now=int(self._clock()))
                self._note(session, "revoked", found, by)

    def _used(self, key: StoredKey) -> None:
        """Note the day of use: one write per key and day, never one per request."""
        day = int(self._clock()) // DAY_S
        if key.last_used_day == day or self._seen.get(key.key_id) == day:
            return
        with self._database.write() as session:
            repository.use(session, key.key_id, day=day)
        self._seen[key.key_id] = day

    def _note(self, session: Transaction, what: str, key: StoredKey, by: Principal | None) -> None:
        record = {
            "event": f"api-key-{what}",
            "key_id": key.key_id,
            "lineage": key.lineage,
            "role": key.role.value,
            "holder": key.holder,
            "scopes": sorted(key.scopes),
            "expires_at": key.expires_at,
        }
        self._log.append(session, LogKind.KEY, record, actor=_COMMAND_LINE if by is None else by.actor)

    def _hash(self, token: str) -> str:
        return hmac.new(self._secret, token.encode(), hashlib.sha256).hexdigest()


def _token(role: Role) -> str:
    return f"rtk_{role.value}_{secrets.token_urlsafe(32)}"
