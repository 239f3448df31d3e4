"""The types carry the proof: whatever is not masked has no way to the door, and a type checker says so."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

OFFENDER = """
import numpy as np
from client.budget import Reservation
from client.training.contribution import masked_share
from common.privacy.clipping import clip_update
from common.privacy.distributed import MaskedShare, NoisedShare, noise_share
from common.privacy.parameters import CohortParameters, UserDpParameters
from common.privacy.randomness import NoiseSource
from common.privacy.updates import ModelDelta
from common.secagg.device import Shared
from common.secagg.roster import VerifiedRoster
from common.wire.secagg import MaskedUpdateHeader, SecAggDelivery
from policies.door import Letter

def release(head: MaskedUpdateHeader, charge: Reservation, state: Shared, roster: VerifiedRoster,
            delivery: SecAggDelivery, release: UserDpParameters, cohort: CohortParameters, rng: NoiseSource) -> None:
    delta = ModelDelta(np.zeros(2))
    clipped = clip_update(delta, 1.0)
    noised = noise_share([(clipped, release)], cohort, 10, rng)
    _, masked = masked_share(state, roster, delivery, noised)
    Letter(head, charge, masked)
    Letter(head, charge, noised)
    Letter(head, charge, clipped)
    Letter(head, charge, delta)
    Letter(head, charge, noised.vector)
    masked_share(state, roster, delivery, clipped)
    masked_share(state, roster, delivery, delta)
    noise_share([(delta, release)], cohort, 10, rng)
"""


def test_mypy_refuses_every_shortcut_to_the_door(tmp_path: Path) -> None:
    source = tmp_path / "offender.py"
    source.write_text(OFFENDER, encoding="utf-8")
    lines = OFFENDER.splitlines()
    wrong = range(lines.index("    Letter(head, charge, masked)") + 2, len(lines) + 1)
    result = subprocess.run(
        [sys.executable, "-m", "mypy", "--follow-imports=silent", f"--cache-dir={tmp_path / 'cache'}",
         "--config-file=", str(source)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    errors = [int(line.split(":")[1]) for line in result.stdout.splitlines() if "error:" in line]
    assert errors == list(wrong), result.stdout + result.stderr


def constructors(name: str) -> set[str]:
    """Files of the product that call ``name``."""
    found = set()
    for package in ("client", "common", "policies", "server"):  # the audit in cli forges proofs on purpose
        for path in (ROOT / package).rglob("*.py"):
            calls = (node.func for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))
            if any(isinstance(call, ast.Name) and call.id == name for call in calls):
                found.add(str(path.relative_to(ROOT)))
    return found


def test_each_proof_is_made_in_one_place() -> None:
    assert constructors("MaskedShare") == {"client/training/contribution.py"}
    assert constructors("NoisedShare") == {"common/privacy/distributed.py"}
    assert constructors("ClippedUpdate") == {"common/privacy/clipping.py"}


def test_the_door_is_used_in_few_places() -> None:
    """Who sends a device's own message: rounds, stages, and the agent that speaks to the service."""
    senders = set()
    for path in (ROOT / "client").rglob("*.py"):
        called = {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
        if called & {"release_letters", "release_contribution"}:
            senders.add(path.name)
    assert senders == {"agent.py", "rounds.py", "stages.py"}
