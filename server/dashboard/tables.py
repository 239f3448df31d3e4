"""Table of the desk's sessions. Owns its columns; neither the cookie nor the API key is stored."""

from __future__ import annotations

from sqlalchemy import BigInteger
from sqlmodel import Field, SQLModel


class DeskSession(SQLModel, table=True):
    """One signed-in officer in one browser.

    Attributes:
        session_hash: HMAC-SHA-256 of the cookie under the installation's pepper, hex.
        key_id: the API key that signed in; when it ends, so does the session.
        holder: the person whose key it is.
        created_at, seen_at, expires_at: seconds since the epoch.
    """

    __tablename__ = "desk_session"

    session_hash: str = Field(primary_key=True, max_length=64)
    key_id: str = Field(max_length=64, index=True)
    role: str = Field(max_length=20)
    holder: str = Field(max_length=200)
    created_at: int = Field(sa_type=BigInteger)
    seen_at: int = Field(sa_type=BigInteger)
    expires_at: int = Field(sa_type=BigInteger)
