"""Experiments on the device. Owns the draw of this device's arm; the draw and its outcome never leave it.

What is fetched, when and in what order is the same in every arm: the document holds all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from common.crypto.kdf import derive
from common.crypto.signing import PublicKey
from common.errors import DigestMismatch
from common.wire.documents import open_document
from common.wire.experiments import ExperimentDocument
from policies.experiments.arms import arm_of
from policies.loader import read_placement
from policies.placement.document import PlacementPolicy


@dataclass(frozen=True, slots=True)
class Arm:
    """The arm that this device is in.

    Attributes:
        experiment: digest of the experiment's document.
        name: of the arm.
        policy, digest, text: its placement policy.
    """

    experiment: str
    name: str
    policy: PlacementPolicy
    digest: str
    text: str


def opened(jws: str, keys: Mapping[str, PublicKey]) -> ExperimentDocument | None:
    """The experiment as it was fetched; None where none is running.

    Raises:
        TrustError, UnknownSigner: it does not verify.
        PolicyError, InvariantViolated: an arm denies less than every placement policy must.
    """
    if not jws:
        return None
    document = open_document(jws, ExperimentDocument, keys)
    for arm in document.arms:
        read_placement(arm.policy_text.encode(), arm.name)
    return document


def drawn(document: ExperimentDocument | None, permitted: str | None, key: bytes) -> Arm | None:
    """The arm in which a permit is used; None where its decision is in no experiment.

    Args:
        document: what this device holds.
        permitted: the experiment that the permit names, by digest.
        key: the device's own key, from which the seed of the draw is derived.

    Raises:
        DigestMismatch: the permit is for another experiment than this device holds: fetch it and ask again.

    Privacy:
        Sends nothing. The seed is a subkey that nothing else uses; erasing the device destroys it.
    """
    if permitted is None:
        return None
    if document is None or document.digest != permitted:
        raise DigestMismatch("the permit is for another experiment than this device holds")
    arm = arm_of(document, derive(key, "experiment-arm").hex())
    policy, digest = read_placement(arm.policy_text.encode(), arm.name)
    return Arm(permitted, arm.name, policy, digest, arm.policy_text)
