"""The enrolment authority: certifies device identities for secure aggregation. Owns how long its word holds.

Its key is not the signing key: who signs models must not thereby be able to invent devices. Where an installation is
its own authority (``RETICENT_AUTHORITY_KEY``), nothing but its word says that a device exists; a deployment that must
not be trusted in this runs the authority elsewhere, behind the attestation of its platform, and pins that one.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable
from typing import Final

from common.crypto.signing import PublicKey, SigningKey
from common.errors import MalformedInput
from common.secagg.certificate import issue_certificate

CERTIFICATE_DAYS: Final = 365


class Authority:
    """Certifies identities with one key, or with none."""

    def __init__(self, key: SigningKey | None, clock: Callable[[], float] = time.time) -> None:
        """Use ``key``; None where the authority is elsewhere."""
        self._key, self._clock = key, clock

    @property
    def public(self) -> PublicKey | None:
        """What devices pin; None where the authority is elsewhere."""
        return None if self._key is None else self._key.public

    def certify(self, public_key: str) -> str | None:
        """A certificate for a device's key.

        Args:
            public_key: base64url text of the device's Ed25519 key.

        Returns:
            The certificate, base64url; None where the authority is elsewhere.

        Raises:
            MalformedInput: that is no public key.
        """
        try:
            identity = PublicKey(public_key).raw
        except ValueError:
            raise MalformedInput("public_key is not an Ed25519 key") from None
        if self._key is None:
            return None
        certificate = issue_certificate(self._key, identity, self._clock() + CERTIFICATE_DAYS * 86_400)
        return base64.urlsafe_b64encode(certificate).rstrip(b"=").decode()
