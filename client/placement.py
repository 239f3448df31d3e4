"""g on the device. Owns the two-key rule: a placement needs the service's permit and the device's own gate.

Scores never leave this module's caller; nothing here sends anything. What the service sees is the same whatever the
device has learnt. See ``policies.placement`` for g itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from common.crypto.signing import PublicKey
from common.errors import ConsentRefused, DigestMismatch
from common.taxonomy import Purpose, RefusalReason
from common.wire.documents import open_document
from common.wire.messages import Catalogue, PlacementPermit
from policies.consent import CLOCK_TOLERANCE_S, Permit, Refusal
from policies.placement.decide import decide
from policies.placement.eligibility import running
from policies.placement.protocol import Placement, ScoreFunction
from policies.schema import PlacementPolicy


@dataclass(frozen=True, slots=True)
class Installed:
    """What this device holds, each verified when it arrived.

    Attributes:
        handle: its own subject handle.
        keys: pinned keys of the service.
        catalogue: the signed catalogue.
        policy: the placement policy.
        policy_digest: SHA-256 of the policy's document.
        model_version: version of the model that computes the scores.
    """

    handle: str
    keys: Mapping[str, PublicKey]
    catalogue: Catalogue
    policy: PlacementPolicy
    policy_digest: str
    model_version: int


def place(
    permit_jws: str, here: Installed, *, score: ScoreFunction, gate_permit: Permit | Refusal, now: float
) -> tuple[Placement, ...]:
    """Fill the permit's slots by A = g(Y), Y computed here.

    Args:
        permit_jws: the service's placement permit.
        here: what the device holds.
        score: gives eligible creatives their personal scores; called only after every check.
        gate_permit: the answer of the device's own gate for ``place.personalised``.
        now: seconds since the epoch.

    Raises:
        ConsentRefused: the gate or the permit does not allow it; carries the reason.
        TrustError, UnknownSigner: the permit does not verify.
        DigestMismatch: the permit is for another catalogue, policy or model: fetch them and ask again.

    Privacy:
        Protects everything: no message is made here. Spends nothing.
    """
    _check_gate(gate_permit, now)  # (1) our own key first: without it nothing is even looked at
    permit = open_document(permit_jws, PlacementPermit, here.keys)  # (2)
    if permit.handle != here.handle:  # (3)
        raise ConsentRefused(RefusalReason.UNKNOWN_SUBJECT)
    if not permit.issued_at - CLOCK_TOLERANCE_S <= now < permit.expires_at:  # (4)
        raise ConsentRefused(RefusalReason.EXPIRED)
    held = (here.catalogue.version, here.policy_digest, here.model_version)
    if held != (permit.catalogue_version, permit.policy_digest, permit.model_version):  # (5)
        raise DigestMismatch("the permit is for another catalogue, policy or model than this device holds")
    creatives = running(here.catalogue.creatives, permit.stopped)
    return decide(here.policy, creatives, score, permit.slots, salt=permit.decision_id)


def _check_gate(answer: object, now: float) -> None:
    """Anything but a live permit of our own gate for this very purpose is a refusal."""
    if isinstance(answer, Refusal):
        raise answer.error()
    if not isinstance(answer, Permit) or answer.purpose is not Purpose.PLACE_PERSONALISED:
        raise ConsentRefused(RefusalReason.NO_CONSENT)
    if not now < answer.valid_until:
        raise ConsentRefused(RefusalReason.EXPIRED)
