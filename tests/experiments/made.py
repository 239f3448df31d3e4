"""Experiment documents made for tests."""

from __future__ import annotations

import hashlib

from common.wire.experiments import ExperimentArm, ExperimentDocument
from policies.loader import DOCUMENTS

OWN = (DOCUMENTS / "placement.yaml").read_text(encoding="utf-8")
OTHER = OWN.replace("version: 1", "version: 2").replace("k: 50", "k: 1")


def arm(name: str, share: int, text: str = OWN) -> ExperimentArm:
    digest = hashlib.sha256(text.encode()).hexdigest()
    return ExperimentArm(name=name, share=share, policy_digest=digest, policy_text=text)


def document(*shares: int, salt: str = "00" * 16, experiment_id: str = "trial") -> ExperimentDocument:
    texts = (OWN, OTHER)
    return ExperimentDocument(
        experiment_id=experiment_id,
        salt=salt,
        arms=tuple(arm(f"arm{i}", share, texts[i % 2]) for i, share in enumerate(shares)),
        starts_at=100,
        ends_at=200,
    )
