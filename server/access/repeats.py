"""Requests that may come again (``Idempotency-Key``). Owns which request is the same one, and its one answer.

The same key with the same request gets the stored answer for a day; with another request it is an error; while the
first is being worked on it has to wait. Only answers below 400 are kept: a refusal has changed nothing, so it may be
asked again.

**Privacy:** an answer may hold what is shown once (an API key) or what names somebody (a handle). It is sealed under a
key that is derived from the pepper *and* from the ``Idempotency-Key``, which is itself stored as an HMAC only: neither
the database alone nor the database with the pepper opens it. The subject is stored as an HMAC, so that erasure finds
it.
**Source:** draft-ietf-httpapi-idempotency-key-header-07.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from common.crypto.aead import Aead, NotAuthentic
from common.crypto.kdf import derive
from common.errors import IdempotencyMismatch, RequestInFlight
from server.access import repository
from server.access.repository import StoredAnswer
from server.consent import repository as subjects
from server.storage import Database, Transaction, exclusive

KEPT_S: Final = 24 * 3600
LEASE_S: Final = 60
_SWEEP_S: Final = 600


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it was sent."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


@dataclass(frozen=True, slots=True)
class Ticket:
    """The right to work on a request; ``finish`` or ``abandon`` it."""

    digest: str
    started_at: int
    sealing: bytes


class Repeats:
    """Keeps answers on one database."""

    def __init__(self, database: Database, pepper: bytes, clock: Callable[[], float] = time.time) -> None:
        self._database, self._clock = database, clock
        self._secret = derive(pepper, "kept-answer")
        self._swept = 0.0

    def begin(self, credential: str, key: str, request: bytes) -> Ticket | Answer:
        """Begin to work on a request, or give the answer that it got.

        Args:
            credential: who asks; keys of different credentials have nothing to do with each other.
            key: the ``Idempotency-Key``.
            request: all that makes it this request: method, path and body.

        Raises:
            IdempotencyMismatch: the key came with another request.
            RequestInFlight: it is being worked on. A request whose worker died may be tried again after a minute.
        """
        digest, now = self._mac("key", credential, key), int(self._clock())
        ticket = Ticket(digest, now, bytes.fromhex(self._mac("seal", credential, key)))
        wanted = self._mac("request", request.hex())
        with self._database.write() as session:
            exclusive(session, f"kept-answer/{digest}")
            self._sweep(session, now)
            found = repository.kept(session, digest)
            if found is None or found.expires_at <= now:
                repository.begin(session, digest, StoredAnswer(wanted, None, now, now + KEPT_S))
                return ticket
            if found.request != wanted:
                raise IdempotencyMismatch("this Idempotency-Key came before with another request; use a new one")
            if found.answer is None and now - found.started_at < LEASE_S:
                raise RequestInFlight("the same request is still being worked on; ask again in a moment")
            answer = None if found.answer is None else _open(ticket, found.answer)
            if answer is None:
                repository.begin(session, digest, StoredAnswer(wanted, None, now, now + KEPT_S))
                return ticket
        return answer

    def finish(self, ticket: Ticket, answer: Answer, *, subject: str | None = None) -> None:
        """Keep the answer. What is about a subject who has been erased meanwhile is not kept."""
        with self._database.write() as session:
            if subject is not None and subjects.subject(session, subject, lock="decide") is None:
                repository.release(session, ticket.digest, ticket.started_at)
                return
            mark = None if subject is None else self._mac("subject", subject)
            repository.keep(session, ticket.digest, ticket.started_at, _seal(ticket, answer), subject=mark)

    def abandon(self, ticket: Ticket) -> None:
        """Let the request be tried again."""
        with self._database.write() as session:
            repository.release(session, ticket.digest, ticket.started_at)

    def forget(self, session: Transaction, subject: str) -> int:
        """Erase every kept answer about a subject, in the caller's transaction; how many there were."""
        return repository.forget(session, self._mac("subject", subject))

    def _sweep(self, session: Transaction, now: int) -> None:
        if now - self._swept >= _SWEEP_S:
            repository.drop_old_answers(session, now=now)
            self._swept = now

    def _mac(self, purpose: str, *parts: str) -> str:
        return hmac.new(self._secret, "\0".join((purpose, *parts)).encode(), hashlib.sha256).hexdigest()


def _seal(ticket: Ticket, answer: Answer) -> bytes:
    body = base64.b64encode(answer.body).decode()
    text = json.dumps({"status": answer.status, "headers": answer.headers, "body": body})
    return Aead(ticket.sealing).seal(text.encode(), ticket.digest.encode())


def _open(ticket: Ticket, sealed: bytes) -> Answer | None:
    """The answer; None where the pepper has changed since: the request is then worked on again."""
    try:
        record = json.loads(Aead(ticket.sealing).open(sealed, ticket.digest.encode()))
    except NotAuthentic:
        return None
    headers = tuple((str(name), str(value)) for name, value in record["headers"])
    return Answer(int(record["status"]), headers, base64.b64decode(record["body"]))
