"""The service's word before a round and before an update: is it still yes? Owns the second key of training.

The device's own gate answers from its receipts; what the service knows and has not told (an objection by another way, a
restriction, a kill switch) is asked for at the round's start and again before a masked update leaves. Both must say
yes. Where the service cannot be asked, the answer is no.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol

from client.agent import Agent, Connect
from client.consent import Gate
from client.device import Node
from client.egress import HttpTransport
from client.store.keys import DeviceId
from common.errors import ReticentError, ServiceUnreachable
from common.taxonomy import Purpose, RefusalReason, Stage
from common.wire.messages import ConsentStanding
from policies.consent import Permit, Refusal

Fetch = Callable[[DeviceId], ConsentStanding]
ASKED_AT: Final = frozenset({Stage.ADVERTISE, Stage.MASK})
"""Stages in which the service is asked: where a round begins for a device, and where its update leaves."""


class RoundGate(Protocol):
    """What a round asks of consent."""

    def permits(self, device: DeviceId, purpose: Purpose) -> Permit | Refusal:
        """Whether this device's data may be used for this purpose now."""

    def renew(self) -> None:
        """Whatever was known until now has to be found out again."""


class FreshGate:
    """The device's gate, and a standing fetched since the last ``renew``."""

    def __init__(self, gate: Gate, fetch: Fetch, now: Callable[[], float]) -> None:
        """Ask ``gate`` first, then ``fetch``: a device that refuses by itself is not asked about."""
        self._gate: Final = gate
        self._fetch: Final = fetch
        self._now: Final = now
        self._heard: dict[DeviceId, ConsentStanding | None] = {}
        self._unreachable = False

    def permits(self, device: DeviceId, purpose: Purpose) -> Permit | Refusal:
        """Whether both keys say yes. Never raises for what it cannot find out: that is a no."""
        answer = self._gate.permits(device, purpose)
        if isinstance(answer, Refusal):
            return answer
        standing = self._standing(device)
        if standing is None:
            return Refusal(purpose, RefusalReason.UNAVAILABLE)
        if not standing.permits(purpose, self._now()):
            told = self._gate.permits(device, purpose)  # the gate has heard the standing too, with its reason
            return told if isinstance(told, Refusal) else Refusal(purpose, RefusalReason.UNAVAILABLE)
        return answer

    def renew(self) -> None:
        """Ask the service afresh from now on."""
        self._gate.renew()
        self._heard.clear()
        self._unreachable = False

    def _standing(self, device: DeviceId) -> ConsentStanding | None:
        if device not in self._heard:
            self._heard[device] = None if self._unreachable else self._ask(device)
        return self._heard[device]

    def _ask(self, device: DeviceId) -> ConsentStanding | None:
        try:
            return self._fetch(device)
        except ServiceUnreachable:
            self._unreachable = True  # nobody else of this node waits for the same silence
            return None
        except ReticentError:
            return None


def learn_keys(node: Node, connect: Connect | None = None) -> bool:
    """Follow the service's key successions, if a service is configured; whether there is a newer key now."""
    devices = node.vault.devices()
    if not node.settings.service_url or not devices:
        return False
    try:
        return Agent(node, devices[0], connect or _wired(node)).follow_keys()
    except ReticentError:
        return False


def round_gate(node: Node, stage: Stage, connect: Connect | None = None) -> RoundGate:
    """The gate of one stage of a round: with the service's word wherever one is configured and this stage asks.

    Args:
        node: whose devices.
        stage: what is about to be done; a round of one message is both stages that ask.
        connect: makes transports, for tests; to the configured service otherwise.
    """
    if not node.settings.service_url or stage not in ASKED_AT:
        return node.gate
    wired = connect or _wired(node)
    return FreshGate(node.gate, lambda device: Agent(node, device, wired).standing(), node.settings.now)


def _wired(node: Node) -> Connect:
    return lambda signer: HttpTransport(node.settings.service_url, signer=signer)
