"""What a device remembers between two stages. Owns its bytes (``dump``, ``load``); shows no secret in its ``repr``.

Whoever stores these bytes stores secrets: encrypted, under the device's key, and only until the session is over.
"""

from __future__ import annotations

from typing import ClassVar, Self

import msgspec

from common.errors import MalformedInput


class _State(msgspec.Struct, frozen=True, tag_field="stage", forbid_unknown_fields=True):
    """Common to all stages.

    Attributes:
        terms: digest of the session's terms.
        identity: the device's own raw Ed25519 public key.
    """

    NAME: ClassVar[str] = "state"

    terms: bytes
    identity: bytes

    def dump(self) -> bytes:
        """Bytes for an encrypted store."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def load(cls, data: bytes) -> Self:
        """The state in bytes made by ``dump`` of the same stage.

        Raises:
            MalformedInput: of another stage, or not such bytes; nothing of them is repeated.
        """
        try:
            return msgspec.msgpack.decode(data, type=cls)
        except msgspec.MsgspecError:
            raise MalformedInput(f"not the stored state of a session after stage {cls.__name__.lower()}") from None

    def __repr__(self) -> str:
        return f"{type(self).__name__}(identity={self.identity.hex()[:8]}…)"

    __str__ = __repr__

    def __rich_repr__(self) -> list[tuple[str, str]]:
        return [("identity", self.identity.hex()[:8])]


class Advertised(_State, frozen=True, tag="advertised"):
    """After stage advertise: the secret halves of what was advertised."""

    signing_secret: bytes
    agreement_secret: bytes
    masking_secret: bytes


class Shared(_State, frozen=True, tag="shared"):
    """After stage share: own secrets, and the keys under which neighbours' shares will come, one after the other."""

    signing_secret: bytes
    masking_secret: bytes
    self_seed: bytes
    inbound_keys: bytes
    roster: bytes
    index: int


class Masked(_State, frozen=True, tag="masked"):
    """After stage mask: own secrets are gone; what is left are neighbours' shares.

    Attributes:
        roster: digest of the roster.
        sharers: who shared, by index.
        held: which neighbours' shares opened, by position among the neighbours.
        shares: those shares, one after the other.
    """

    signing_secret: bytes
    roster: bytes
    index: int
    sharers: bytes
    held: bytes
    shares: bytes


class Confirmed(_State, frozen=True, tag="confirmed"):
    """After stage confirm: what was confirmed, and neighbours' shares; no key to sign anything else."""

    roster: bytes
    index: int
    survivors: bytes
    digest: str
    held: bytes
    shares: bytes


class Revealed(_State, frozen=True, tag="revealed"):
    """After stage reveal: nothing secret is left."""

    roster: bytes
    digest: str
