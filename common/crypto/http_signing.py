"""Signed HTTP requests (RFC 9421, Ed25519). Owns the one form in which a device signs what it asks.

Covered always: method, target URI, digest of the body (RFC 9530, of no bytes too), and the idempotency key where there
is one; with the time of signing, a nonce and a tag of our own. Both ends call this module, so there is one form. The
library would accept a signature for a day and check neither body nor coverage unless told; here it is told.

Whoever verifies must also remember nonces: this module keeps no state.
"""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, final

from http_message_signatures import HTTPMessageSigner, HTTPMessageVerifier, HTTPSignatureKeyResolver
from http_message_signatures.algorithms import ED25519
from http_message_signatures.exceptions import HTTPMessageSignaturesException

from common.crypto.signing import PublicKey, SigningKey
from common.errors import InvalidSignature, ReticentError

TAG: Final = "reticent-device-v1"
MAX_AGE_S: Final = 300
SKEW_S: Final = 60
NONCE_CHARACTERS_MAX: Final = 64
KEYID_CHARACTERS_MAX: Final = 64
_COVERED: Final = ("@method", "@target-uri", "content-digest")
_IDEMPOTENCY: Final = "idempotency-key"
_FIELD_CHARACTERS_MAX: Final = 1024
_REFUSAL: Final = "the request's signature does not verify"

Keys = Callable[[str], PublicKey | None]
"""The public key filed under a key id; None where there is none."""


@dataclass(frozen=True, slots=True)
class Signed:
    """What a verified signature says.

    Attributes:
        keyid: whose key, as it was enrolled.
        nonce: never to be accepted again from this key before ``expires_at``.
        expires_at: seconds since the epoch from which this signature is refused for its age.
    """

    keyid: str
    nonce: str
    expires_at: int


def sign(
    method: str,
    url: str,
    *,
    key: SigningKey,
    keyid: str,
    now: float,
    body: bytes = b"",
    headers: Mapping[str, str] | None = None,
    nonce: str | None = None,
) -> dict[str, str]:
    """The headers that make a request a signed one; send them beside your own.

    Args:
        method: ``GET``, ``POST``, …
        url: absolute, as it goes out, query included.
        key: the device's enrolment key.
        keyid: the subject handle that the service gave for it.
        now: seconds since the epoch.
        body: the exact bytes that are sent; none for a request without a body.
        headers: the request's own; of these only ``Idempotency-Key`` is covered.
        nonce: fresh random text; made here unless given.

    Returns:
        ``content-digest``, ``signature-input`` and ``signature``.

    **Privacy:** the nonce is random and the time is in whole seconds; nothing else about the device is added.
    **Source:** RFC 9421 §3.1, RFC 9530 §2.
    """
    own = {name.lower(): value for name, value in (headers or {}).items()}
    covered = (*_COVERED, _IDEMPOTENCY) if _IDEMPOTENCY in own else _COVERED
    request = _Request(method, url, _Lines((name, own[name]) for name in (_IDEMPOTENCY,) if name in own))
    signer = HTTPMessageSigner(signature_algorithm=ED25519)
    prepared = signer.prepare(
        request,
        key_id=keyid,
        created=dt.datetime.fromtimestamp(int(now), tz=dt.UTC),
        nonce=secrets.token_urlsafe(16) if nonce is None else nonce,
        label="sig",
        tag=TAG,
        include_alg=False,  # the key says which; RFC 9421 §3.3.7 advises against repeating it
        covered_component_ids=[component for component in covered if component != "content-digest"],
        body=body,
    )
    signer.apply(request, prepared, key.sign_bytes(prepared.signature_base))
    return {name.lower(): value for name, value in request.headers.items() if name.lower() != _IDEMPOTENCY}


def is_signed(headers: Iterable[tuple[str, str]]) -> bool:
    """Whether a request claims to be signed."""
    return any(name.lower() == "signature-input" for name, _ in headers)


def verify(
    method: str,
    url: str,
    *,
    headers: Iterable[tuple[str, str]],
    body: bytes,
    keys: Keys,
    now: float,
) -> Signed:
    """Verify a request's one signature of ours.

    Args:
        method: as received.
        url: absolute, as the caller wrote it.
        headers: every header line, in the order received.
        body: the exact bytes received.
        keys: resolves a key id; asked once, before the signature is checked.
        now: seconds since the epoch.

    Raises:
        InvalidSignature: it does not verify; which step failed is not told.
        ReticentError: of ``keys``, where the key could not be looked up.
    """
    lines, resolver = _Lines(headers), _Resolver(keys)
    try:
        # (1) one signature of bounded size, no header twice that we read
        _check_lines(lines)
        # (2) form, tag, time, key, coverage, signature, and (3) the body's digest
        (result,) = _Verifier(resolver, now).verify(
            _Request(method, url, lines),
            max_age=dt.timedelta(seconds=MAX_AGE_S),
            expect_tag=TAG,
            require_components=(*_COVERED, _IDEMPOTENCY) if lines.has(_IDEMPOTENCY) else _COVERED,
            body=body,
        )
        # (4) the parameters that replay protection needs
        return _signed(result.parameters)
    except (HTTPMessageSignaturesException, ValueError, TypeError, KeyError, RecursionError):
        raise resolver.failure or InvalidSignature(_REFUSAL) from None


def _check_lines(lines: _Lines) -> None:
    for name in ("signature", "signature-input", "content-digest", _IDEMPOTENCY):
        found = [value for known, value in lines.items() if known.lower() == name]
        if len(found) > 1 or any(len(value) > _FIELD_CHARACTERS_MAX for value in found):
            raise ValueError(name)


def _signed(parameters: Mapping[str, Any]) -> Signed:
    keyid, nonce, created = parameters["keyid"], parameters["nonce"], parameters["created"]
    if not (16 <= len(nonce) <= NONCE_CHARACTERS_MAX and len(keyid) <= KEYID_CHARACTERS_MAX):
        raise ValueError("nonce")
    return Signed(keyid, nonce, created + MAX_AGE_S + SKEW_S)


@final
class _Lines:
    """Header lines in the form that the library asks for."""

    def __init__(self, lines: Iterable[tuple[str, str]]) -> None:
        self._lines = list(lines)

    def items(self) -> list[tuple[str, str]]:
        return list(self._lines)

    def has(self, name: str) -> bool:
        return any(known.lower() == name for known, _ in self._lines)

    def __iter__(self) -> Any:  # noqa: ANN401 - an iterator of names
        return iter([name for name, _ in self._lines])

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.has(name.lower())

    def __getitem__(self, name: str) -> str:
        return ", ".join(value for known, value in self._lines if known.lower() == name.lower())

    def __setitem__(self, name: str, value: str) -> None:
        self._lines.append((name, value))

    def __delitem__(self, name: str) -> None:
        self._lines = [line for line in self._lines if line[0].lower() != name.lower()]


@dataclass(frozen=True, slots=True)
class _Request:
    """A request in the form that the library asks for."""

    method: str
    url: str
    headers: _Lines = field(default_factory=lambda: _Lines(()))


class _Resolver(HTTPSignatureKeyResolver):
    """Looks keys up; keeps a failure to do so, which the library would report as a bad signature."""

    def __init__(self, keys: Keys) -> None:
        self._keys = keys
        self.failure: ReticentError | None = None

    def resolve_public_key(self, key_id: str) -> Any:  # noqa: ANN401 - the library's union of key types
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            found = self._keys(key_id) if len(key_id) <= KEYID_CHARACTERS_MAX else None
        except ReticentError as failure:
            self.failure = failure
            return None
        return None if found is None else Ed25519PublicKey.from_public_bytes(found.raw)


class _Verifier(HTTPMessageVerifier):
    """The library's verifier with the caller's clock."""

    def __init__(self, resolver: _Resolver, now: float) -> None:
        super().__init__(signature_algorithm=ED25519, key_resolver=resolver)
        self._now = now

    def validate_created_and_expires(self, sig_input: Any, max_age: dt.timedelta | None = None) -> None:  # noqa: ANN401 - untyped there
        """Not older than ``max_age``, not from the future, and not past an end of its own."""
        created, expires = sig_input.params.get("created"), sig_input.params.get("expires")
        if type(created) is not int or max_age is None:
            raise ValueError("created")
        if not self._now - max_age.total_seconds() - SKEW_S < created <= self._now + SKEW_S:
            raise ValueError("created")
        if expires is not None and expires < self._now:
            raise ValueError("expires")
