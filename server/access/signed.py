"""Signed requests of devices. Owns whose key a request is checked with, and that no request is accepted twice.

The key is the one that the device enrolled; its id is the subject's handle. An enrolment is signed with the key that it
enrols, whose id is that key: nobody enrols a key that they do not hold. A nonce is remembered in the database until
its signature is too old, so that it holds for every worker and after a restart.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy.exc import IntegrityError

from common.crypto import http_signing
from common.crypto.http_signing import Keys, Signed
from common.crypto.kdf import derive
from common.crypto.signing import PublicKey
from common.errors import InvalidSignature, NotAuthenticated, PossessionNotProven, RequestReplayed
from common.taxonomy import Role
from server.access import repository
from server.access.principal import Principal
from server.consent import repository as subjects
from server.storage import Database, Transaction

_SWEEP_S: Final = 60
_NEEDED: Final = "a request signed with the device's enrolled key is needed (RFC 9421)"
OWN_KEY_NEEDED: Final = "an enrolment is signed with the key that it enrols, whose key id is that key (RFC 9421)"


@dataclass(frozen=True, slots=True)
class Presented:
    """A request as it arrived.

    Attributes:
        method: of HTTP.
        url: absolute, as the caller wrote it.
        headers: every line.
        body: the bytes.
    """

    method: str
    url: str
    headers: tuple[tuple[str, str], ...]
    body: bytes


class SignedRequests:
    """Verifies devices' requests."""

    def __init__(self, database: Database, pepper: bytes, clock: Callable[[], float] = time.time) -> None:
        self._database, self._clock = database, clock
        self._secret = derive(pepper, "request-nonce")
        self._swept = 0.0

    def authenticate(self, request: Presented) -> Principal:
        """Which device asks.

        Raises:
            NotAuthenticated: the signature does not verify; which step failed is not told.
            RequestReplayed: this very signature was accepted before.
        """
        found = _Subject()
        try:
            signed = self._verified(request, lambda keyid: self._key(keyid, found))
        except InvalidSignature:
            raise NotAuthenticated(_NEEDED) from None
        self._once(signed)
        return Principal(Role.DEVICE, signed.keyid, found.app_id, credential=f"device:{signed.keyid}")

    def introduce(self, request: Presented) -> Principal:
        """A device without a subject, by the key that it holds and may now enrol.

        Raises:
            PossessionNotProven: the request is not signed with the key that its key id is.
            RequestReplayed: this very signature was accepted before.
        """
        try:
            signed = self._verified(request, PublicKey)
        except InvalidSignature:
            raise PossessionNotProven(OWN_KEY_NEEDED) from None
        self._once(signed)
        return Principal(Role.DEVICE, credential=f"key:{signed.keyid}", new_key=signed.keyid)

    def known(self, session: Transaction, handle: str) -> bool:
        """Whether a subject of this handle is enrolled; an erasure waits for the end of this transaction."""
        return subjects.subject(session, handle, lock="decide") is not None

    def identity(self, handle: str) -> bytes | None:
        """The public key that a subject's device enrolled, by which the ledger knows it."""
        found = self._key(handle, _Subject())
        return None if found is None else found.raw

    def _verified(self, request: Presented, keys: Keys) -> Signed:
        return http_signing.verify(
            request.method, request.url, headers=request.headers, body=request.body, keys=keys, now=self._clock()
        )

    def _key(self, keyid: str, found: _Subject) -> PublicKey | None:
        with self._database.read() as session:
            enrolled = subjects.enrolled_key(session, keyid)
        if enrolled is None:
            return None
        found.app_id = enrolled.app_id
        return PublicKey(enrolled.public_key)

    def _once(self, signed: Signed) -> None:
        text = f"{signed.keyid}\0{signed.nonce}".encode()
        digest = hmac.new(self._secret, text, hashlib.sha256).hexdigest()
        now = self._clock()
        try:
            with self._database.write() as session:
                if now - self._swept >= _SWEEP_S:
                    repository.drop_old_nonces(session, now=int(now))
                repository.add_nonce(session, digest, expires_at=signed.expires_at)
        except IntegrityError:
            raise RequestReplayed("this signed request was accepted before; sign afresh for every try") from None
        self._swept = now if now - self._swept >= _SWEEP_S else self._swept


@dataclass(slots=True)
class _Subject:
    """What the look-up of the key found beside the key."""

    app_id: str | None = field(default=None)
