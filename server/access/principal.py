"""Who is calling. Owns the answer that every other room is given; knows no database."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from common.taxonomy import Role

PERSONS: Final = frozenset({Role.PRIVACY_OFFICER, Role.AUDITOR, Role.ADMIN})
"""Roles whose keys people hold; what they do and read is put down to them."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling.

    Attributes:
        role: what the caller may do.
        subject: whom a device speaks for.
        app_id: whose subjects an app backend may ask about; None: all.
        key_id: public name of the API key; empty for a device, which has none.
        holder: the person or organisation behind the key; survives rotation. Empty for a device.
        credential: what limits and repeated requests are counted by: the same before and after a rotation.
        scopes: what the key is narrowed to; none: all that its role may do.
        new_key: the public key that a device without a subject has proved to hold; it may enrol that one.
    """

    role: Role
    subject: str | None = None
    app_id: str | None = None
    key_id: str = ""
    holder: str = ""
    credential: str = ""
    scopes: frozenset[str] = frozenset()
    new_key: str | None = None

    @property
    def actor(self) -> str:
        """How the transparency log names the caller: the role, and the holder where a person acted."""
        return f"{self.role.value}:{self.holder}" if self.role in PERSONS and self.holder else self.role.value
