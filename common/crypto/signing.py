"""Signatures. Owns the one signed form: compact JWS (RFC 7515), ``alg`` Ed25519 (RFC 9864), JCS payload (RFC 8785).

Verification follows numbered steps and is stricter than the standards where they leave room: one algorithm, exactly
three header fields, a ``typ`` that the caller names, a pinned ``kid``, canonical base64url and a canonical payload.
So a signed thing has one spelling, and a signature for one kind of thing is never valid for another.
"""

from __future__ import annotations

import base64
import binascii
import functools
import json
from collections.abc import Mapping
from typing import Any, Final, final

import rfc8785
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import OKPKey

from common.errors import TrustError, UnknownSigner

ALGORITHM: Final = "Ed25519"
SIZE_BYTES_MAX: Final = 4 * 1024 * 1024
_SAFE_INTEGER: Final = 2**53 - 1


class _Large(jws.JWSRegistry):
    """The library's limit of 128 kB is for tokens; a signed catalogue is larger. Our own limit is checked first."""

    max_payload_length = SIZE_BYTES_MAX


_LARGE: Final = _Large(algorithms=[ALGORITHM])


@final
class PublicKey:
    """An Ed25519 public key; its ``kid`` is the RFC 7638 thumbprint, so an id cannot be claimed for another key.

    Attributes:
        kid: RFC 7638 thumbprint.
        raw: the 32 key bytes.
    """

    __slots__ = ("_key", "kid", "raw")

    def __init__(self, x: str) -> None:
        """Take the base64url text of the 32 key bytes (43 characters).

        Raises:
            ValueError: this is not a public key.
        """
        self.raw = _decode(x)
        if len(self.raw) != 32:
            raise ValueError("an Ed25519 public key has 32 bytes")
        self._key = OKPKey.import_key({"kty": "OKP", "crv": ALGORITHM, "x": x})
        self.kid = self._key.thumbprint()

    @classmethod
    def of_raw(cls, raw: bytes) -> PublicKey:
        """The key of 32 raw bytes.

        Raises:
            ValueError: this is not a public key.
        """
        return cls(base64.urlsafe_b64encode(raw).rstrip(b"=").decode())

    @property
    def x(self) -> str:
        """The key's base64url text, 43 characters."""
        return str(self._key.as_dict(private=False)["x"])

    def verify_bytes(self, message: bytes, signature: bytes) -> bool:
        """Whether a raw signature of ``SigningKey.sign_bytes`` is of this key over exactly these bytes."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, message)
        except InvalidSignature:
            return False
        return True

    @property
    def okp(self) -> OKPKey:
        """The key in joserfc's form."""
        return self._key


@final
class SigningKey:
    """An Ed25519 private key. Its ``repr`` shows the public id only."""

    __slots__ = ("_key", "_private", "public")

    def __init__(self, secret: bytes) -> None:
        """Take the 32 secret bytes (RFC 8032 seed).

        Raises:
            ValueError: not 32 bytes.
        """
        if len(secret) != 32:
            raise ValueError("an Ed25519 private key has 32 bytes")
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        self._private = Ed25519PrivateKey.from_private_bytes(secret)
        self._key = OKPKey.import_key(self._private)
        self.public = PublicKey(str(self._key.as_dict(private=False)["x"]))

    @classmethod
    def generate(cls) -> SigningKey:
        """A fresh key from the operating system's generator."""
        key = OKPKey.generate_key(ALGORITHM)
        return cls(_decode(str(key.as_dict(private=True)["d"])))

    @property
    def secret(self) -> bytes:
        """The 32 secret bytes, for ``common.crypto.keyfile`` only."""
        return _decode(str(self._key.as_dict(private=True)["d"]))

    def sign_bytes(self, message: bytes) -> bytes:
        """Raw signature of 64 bytes, for fixed binary forms (``common.secagg``).

        The message begins with a context of its own, which no JWS signing input does: those begin with base64url.
        """
        return self._private.sign(message)

    def sign_input(self, signing_input: bytes) -> bytes:
        """Raw signature over a JWS signing input, for ``sign_canonical`` only."""
        return self._private.sign(signing_input)

    @property
    def kid(self) -> str:
        """Id of the public half."""
        return self.public.kid

    @property
    def okp(self) -> OKPKey:
        """The key in joserfc's form."""
        return self._key

    def __repr__(self) -> str:
        return f"SigningKey(kid={self.kid!r})"


def canonical(payload: bytes | Mapping[str, Any]) -> bytes:
    """RFC 8785 bytes of a JSON object, given as JSON text or as a mapping.

    Raises:
        ValueError: not a JSON object, or a value without a canonical form (NaN, infinity, integers past 2⁵³).
    """
    value = payload
    if isinstance(payload, bytes):
        value = json.loads(payload, parse_int=_number, parse_constant=_no_constant)
    if not isinstance(value, Mapping):
        raise ValueError("only JSON objects are signed")  # noqa: TRY004 - whatever cannot be signed is one error class
    return rfc8785.dumps(dict(value))


def sign(payload: bytes | Mapping[str, Any], key: SigningKey, typ: str) -> str:
    """Sign a JSON object as a compact JWS whose header names ``typ``; the payload is put into canonical form first."""
    header = {"alg": ALGORITHM, "kid": key.kid, "typ": typ}
    return jws.serialize_compact(header, canonical(payload), key.okp, algorithms=[ALGORITHM])


def sign_canonical(payload: bytes, key: SigningKey, typ: str) -> str:
    """The same as ``sign`` for a payload that is in canonical form already; the caller answers for that."""
    signed = f"{_header(key.kid, typ)}.{_encode(payload)}"
    return f"{signed}.{_encode(key.sign_input(signed.encode()))}"


@functools.lru_cache(maxsize=64)
def _header(kid: str, typ: str) -> str:
    return _encode(json.dumps({"alg": ALGORITHM, "kid": kid, "typ": typ}, separators=(",", ":")).encode())


def verify(token: str, keys: Mapping[str, PublicKey], typ: str, *, error: type[TrustError] = TrustError) -> bytes:
    """Verify a compact JWS and return its payload, byte for byte as it was signed.

    Args:
        token: the compact JWS.
        keys: pinned public keys by ``kid``; an empty mapping verifies nothing.
        typ: the kind of thing expected.
        error: class to raise for anything but an unknown key.

    Raises:
        UnknownSigner: the token names a key that is not pinned.
        TrustError: of class ``error``: the token does not verify. The text never echoes the token.
    """
    # (1) three segments, bounded, each in canonical base64url
    segments = token.split(".")
    if len(segments) != 3 or len(token) > SIZE_BYTES_MAX:
        raise error("not a compact signature")
    try:
        header_bytes, payload, _ = (_decode(segment) for segment in segments)
        header = json.loads(header_bytes)
    except ValueError:
        raise error("not a compact signature") from None
    # (2) exactly the header that ``sign`` writes
    if not isinstance(header, dict) or set(header) != {"alg", "kid", "typ"}:
        raise error("unexpected fields in the signature's header")
    if header["alg"] != ALGORITHM:
        raise error(f"signed with another algorithm than {ALGORITHM}")
    if header["typ"] != typ:
        raise error(f"this signature is not for a {typ}")
    # (3) a pinned key, filed under its own id
    key = keys.get(header["kid"]) if isinstance(header["kid"], str) else None
    if key is None or key.kid != header["kid"]:
        raise UnknownSigner("signed by a key that is not pinned here")
    # (4) the signature
    try:
        jws.deserialize_compact(token, key.okp, registry=_LARGE)
    except (JoseError, ValueError):
        raise error("the signature does not verify") from None
    # (5) one spelling per signed thing
    try:
        spelling = canonical(payload)
    except (ValueError, RecursionError):
        raise error("the signed payload is not a JSON object") from None
    if spelling != payload:
        raise error("the signed payload is not in canonical form")
    return payload


def signer_of(token: str) -> str:
    """Key id named by a compact JWS that ``verify`` has accepted; read without verifying."""
    return str(json.loads(_decode(token.split(".", 1)[0]))["kid"])


def key_ring(*keys: PublicKey) -> dict[str, PublicKey]:
    """Pinned keys by their ids."""
    return {key.kid: key for key in keys}


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(segment: str) -> bytes:
    """Strict base64url without padding: text that would not come out the same way is refused."""
    try:
        data = base64.b64decode(segment + "=" * (-len(segment) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("not base64url") from None
    if base64.urlsafe_b64encode(data).rstrip(b"=").decode() != segment:
        raise ValueError("not canonical base64url")
    return data


def _number(text: str) -> int | float:
    """JSON's one number type: past 2⁵³ a whole number is a double, as RFC 8785 prints it."""
    value = int(text) if len(text) < 24 else float(text)
    return value if abs(value) <= _SAFE_INTEGER else float(text)


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is not JSON")
