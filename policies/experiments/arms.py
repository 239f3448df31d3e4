"""Arms of an experiment. Owns the rule that says which arm a device, or a decision without a person, is in.

On a device the seed is the device's own and never leaves it: the service sees the same whatever the arm. A contextual
decision has no person: its own id is the seed.

**Source:** Kohavi, Tang and Xu 2020, "Trustworthy Online Controlled Experiments", ch. 14-15 (hash-based assignment).
"""

from __future__ import annotations

import hashlib

from common.wire.experiments import SHARES, ExperimentArm, ExperimentDocument


def bucket_of(document: ExperimentDocument, seed: str) -> int:
    """SHA-256(experiment ‖ salt ‖ seed) mod 10,000, each part with its length before it.

    The remainder favours no bucket by more than 2^-242.
    """
    name, salt = document.experiment_id, document.salt
    named = f"{len(name)}:{name}{len(salt)}:{salt}{len(seed)}:{seed}"
    return int.from_bytes(hashlib.sha256(named.encode()).digest()) % SHARES


def arm_of(document: ExperimentDocument, seed: str) -> ExperimentArm:
    """The arm that a seed is in: shares lie end to end over the buckets, in the document's order."""
    bucket = bucket_of(document, seed)
    for arm in document.arms[:-1]:
        if bucket < arm.share:
            return arm
        bucket -= arm.share
    return document.arms[-1]


def runs(document: ExperimentDocument, now: float) -> bool:
    """Whether the experiment is on at this moment."""
    return document.starts_at <= now < document.ends_at
