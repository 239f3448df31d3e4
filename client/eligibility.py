"""Which of a node's devices may take part in something now. Owns the questions to gate, door and ledger before it.

Only asks; nothing is charged or sent here. Whoever is left out is told why in its own journal, and nobody else is.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from client.budget import Ledger, Reservation
from client.egress import Door
from client.store.keys import DeviceId
from common.errors import BudgetExhausted
from common.taxonomy import Purpose, RefusalReason
from policies.budget import PlannedRelease
from policies.consent import Refusal
from policies.door import Gate


def permitted(
    gate: Gate[DeviceId],
    door: Door[DeviceId, Reservation],
    devices: Collection[DeviceId],
    *,
    kind: str,
    needs: Sequence[Purpose],
) -> list[DeviceId]:
    """Devices whose live receipts permit every purpose, and that may send a message of this kind now.

    Args:
        gate: asked afresh for every device.
        door: asked for its own reasons, the cadence among them; journals who is left out.
        devices: of whom.
        kind: of message.
        needs: purposes of taking part; the last is the message's own.
    """
    barred: dict[DeviceId, RefusalReason] = {}
    for device in devices:
        answers = (gate.permits(device, purpose) for purpose in needs)
        refusal = next((answer for answer in answers if isinstance(answer, Refusal)), None)
        if refusal is not None:
            barred[device] = refusal.reason
    barred |= door.barred(kind, [device for device in devices if device not in barred], needs[-1])
    door.keep_back(kind, barred, needs[-1])
    return sorted(device for device in devices if device not in barred)


def over_budget(ledger: Ledger, planned: Sequence[PlannedRelease], devices: Sequence[DeviceId]) -> set[DeviceId]:
    """Devices whose budget does not allow the releases as it stands.

    Asked before a session begins, so that a device does not promise others a vector that it may not send.

    Raises:
        LedgerRolledBack: the ledger is older than what was spent; nobody may promise anything.
    """
    ledger.confirm()
    return ledger.refuses(devices, planned)


def fresh_charges(
    answers: Mapping[DeviceId, Reservation | BudgetExhausted],
) -> tuple[dict[DeviceId, Reservation], dict[DeviceId, RefusalReason]]:
    """What the ledger answered, as charges that may be used and reasons of those that may not.

    A charge that stood already belongs to an answer given before: it is never used for a second one.
    """
    charges: dict[DeviceId, Reservation] = {}
    refused: dict[DeviceId, RefusalReason] = {}
    for device, answer in answers.items():
        if not isinstance(answer, Reservation):
            refused[device] = RefusalReason.BUDGET_EXHAUSTED
        elif answer.repeated:
            refused[device] = RefusalReason.TOO_OFTEN
        else:
            charges[device] = answer
    return charges, refused
