"""Tables of access. Owns their columns; no secret is stored as it is: keys, nonces and repetition keys are hashed."""

from __future__ import annotations

from sqlalchemy import BigInteger
from sqlmodel import Field, SQLModel


class ApiKey(SQLModel, table=True):
    """One API key.

    Attributes:
        key_id: public name of the key, by which it is revoked.
        key_hash: HMAC-SHA-256 of the key under the installation's pepper, hex.
        app_id: the one app whose subjects an app backend's key may ask about; None: all.
        holder: the person or organisation it was issued to.
        lineage: key_id of the first key of a chain of rotations.
        scopes: names, separated by spaces; empty: all that the role may do.
        expires_at, revoked_at: seconds since the epoch.
        last_used_day: days since the epoch; a finer time would say when somebody works.
    """

    __tablename__ = "api_key"

    key_id: str = Field(primary_key=True, max_length=64)
    role: str = Field(max_length=20)
    key_hash: str = Field(max_length=64, unique=True)
    app_id: str | None = Field(default=None, max_length=200)
    label: str = Field(max_length=200)
    created_at: int = Field(sa_type=BigInteger)
    expires_at: int = Field(sa_type=BigInteger)
    revoked_at: int | None = Field(default=None, sa_type=BigInteger)
    holder: str = Field(max_length=64)
    lineage: str = Field(max_length=64)
    scopes: str = Field(max_length=2000)
    last_used_day: int | None = None


class RequestNonce(SQLModel, table=True):
    """A nonce of a signed request that must not come again. Nothing in it leads back to a device.

    Attributes:
        digest: HMAC of the subject's handle and the nonce, hex.
        expires_at: seconds since the epoch from which the signature is too old anyway.
    """

    __tablename__ = "request_nonce"

    digest: str = Field(primary_key=True, max_length=64)
    expires_at: int = Field(sa_type=BigInteger, index=True)


class KeptAnswer(SQLModel, table=True):
    """The answer to a request that may be sent again, sealed under a key that only its sender can name.

    Attributes:
        digest: HMAC of the credential and the ``Idempotency-Key``, hex.
        subject: HMAC of the handle that the answer is about, hex, so that erasure finds it.
        request: HMAC of method, path and body, hex.
        answer: sealed; None while the request is being worked on.
        started_at, expires_at: seconds since the epoch.
    """

    __tablename__ = "kept_answer"

    digest: str = Field(primary_key=True, max_length=64)
    subject: str | None = Field(default=None, max_length=64, index=True)
    request: str = Field(max_length=64)
    answer: bytes | None = None
    started_at: int = Field(sa_type=BigInteger)
    expires_at: int = Field(sa_type=BigInteger, index=True)
