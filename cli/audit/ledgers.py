"""The ledger under audit: a fresh one charged round by round, and a node's own, recomputed. Changes neither's rules."""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from cli.audit.checks import SECOND_BOUND, TOLERANCE, lowest, second_opinion, times
from cli.audit.results import Budget, Finding, Trial
from client.budget import Ledger
from client.store.keys import DeviceId
from common.errors import BudgetExhausted
from common.privacy.parameters import MechanismUse
from common.privacy.recompute import recompute_epsilon
from common.taxonomy import ReleaseKind
from policies.budget import PlannedRelease, claims_amplification
from policies.releases import line_for, release_of
from policies.schema import BudgetLine, PrivacyBudgetPolicy

LedgerOpener = Callable[[Path, PrivacyBudgetPolicy], Ledger]

_ROUNDS = 4
_DEVICE = DeviceId("audited")


def growth(
    opener: LedgerOpener, policy: PrivacyBudgetPolicy, line: BudgetLine, planned: Sequence[PlannedRelease]
) -> Finding:
    """Charge rounds to a device's ledger, closed and opened between them: its ε must hold every one of them.

    It charges under the document with room for four releases of each kind, so that a fifth has to be refused.

    Args:
        opener: opens the ledger under audit.
        policy: the privacy budget document.
        line: whose ε is read.
        planned: what one round releases.
    """
    uses = [release.use for release in planned]
    found: list[tuple[float, float]] = []
    numbered, refused = _numbered(policy, _ROUNDS), False
    with tempfile.TemporaryDirectory(prefix="reticent-audit-") as folder:
        for number in range(1, _ROUNDS + 2):
            with contextlib.closing(opener(Path(folder) / "ledger.db", numbered)) as ledger:
                answer = ledger.reserve([_DEVICE], planned, cause=f"audit-{number}")[_DEVICE]
                if isinstance(answer, BudgetExhausted):
                    refused = True
                    break
                ledger.settle([answer])
            with contextlib.closing(opener(Path(folder) / "ledger.db", numbered)) as ledger:
                found.append((ledger.epsilon(_DEVICE, line), recompute_epsilon(times(uses, number), line.delta)))
    return second_opinion(
        Trial.LEDGER,
        "device ledger",
        found,
        grows=refused and all(before < after for (before, _), (after, _) in itertools.pairwise(found)),
        power="a ledger that forgets a round when it is opened again, charges it more than 1 % too low, or lets a "
        "device make more releases of a kind than the document says",
        note=f"ε after {len(found)} rounds {found[-1][0] if found else 0:.4g}; "
        f"{'one more was refused' if refused else 'one more was NOT refused'}",
    )


def _numbered(policy: PrivacyBudgetPolicy, most: int) -> PrivacyBudgetPolicy:
    """The document with room for so many releases of each kind that it declares."""
    declared = {kind.value: release_of(policy, kind) for kind in ReleaseKind}
    numbered = {
        name: release.model_copy(update={"releases_max": most})
        for name, release in declared.items()
        if release is not None
    }
    releases = policy.releases.model_copy(update=numbered)
    return policy.model_copy(update={"rounds_max": most, "releases": releases})


def node_finding(ledger: Ledger, line: BudgetLine) -> Finding:
    """Recompute every entry of a node's ledger on one line, and each device's composed ε."""
    problems: list[str] = []
    entries = [entry for entry in ledger.entries() if line_for(ledger.policy, entry.use) == line]
    claimed: dict[tuple[MechanismUse, float], float] = {}
    for entry in entries:
        if claims_amplification(entry.use):
            problems.append(f"charge {entry.charge} claims amplification among participants it knows")
        key = entry.whole_use, entry.delta
        claimed[key] = min(entry.epsilon, claimed.get(key, entry.epsilon))
    found = [(ours, recompute_epsilon([use], delta)) for (use, delta), ours in claimed.items()]
    for device in ledger.devices():
        uses = [use for _, use in ledger.spent(device) if line_for(ledger.policy, use) == line]
        found.append((ledger.epsilon(device, line), recompute_epsilon(uses, line.delta)))
    worst = lowest(found)
    if worst < 1 - TOLERANCE:
        problems.append("an ε in it is lower than the independent accountant's")
    return Finding(
        kind=Trial.LEDGER,
        part="node ledger",
        passed=not problems,
        statistic=worst,
        bound=SECOND_BOUND,
        error_probability=0.0,
        power="any entry or device charged more than 1 % too low; amplification among participants",
        samples=len(entries),
        note="; ".join(dict.fromkeys(problems)) or f"{len(entries)} entries of {len(ledger.devices())} devices",
    )


def node_budget(ledger: Ledger, line: BudgetLine) -> Budget:
    """What the device that has spent most on a line has left."""
    devices = ledger.devices()
    spent = max(_spent(ledger, devices, line), default=0.0)
    return Budget(
        epsilon_cap=line.epsilon_cap,
        epsilon_spent=spent,
        epsilon_remaining=max(0.0, line.epsilon_cap - spent),
        devices=len(devices),
    )


def _spent(ledger: Ledger, devices: Iterable[DeviceId], line: BudgetLine) -> Iterable[float]:
    return (ledger.epsilon(device, line) for device in devices)
