"""Table of API keys. Owns its columns; the key itself is never stored."""

from __future__ import annotations

from sqlalchemy import BigInteger
from sqlmodel import Field, SQLModel


class ApiKey(SQLModel, table=True):
    """One API key.

    Attributes:
        key_id: public name of the key, by which it is revoked.
        key_hash: HMAC-SHA-256 of the key under the installation's pepper, hex.
        subject: the one subject that a device key may speak for.
        app_id: the one app whose subjects an app backend's key may ask about; None: all.
        expires_at, revoked_at: seconds since the epoch.
    """

    __tablename__ = "api_key"

    key_id: str = Field(primary_key=True, max_length=64)
    role: str = Field(max_length=20)
    key_hash: str = Field(max_length=64, unique=True)
    subject: str | None = Field(default=None, foreign_key="subject.handle", max_length=64)
    app_id: str | None = Field(default=None, max_length=200)
    label: str = Field(max_length=200)
    created_at: int = Field(sa_type=BigInteger)
    expires_at: int = Field(sa_type=BigInteger)
    revoked_at: int | None = Field(default=None, sa_type=BigInteger)
