"""The server's side of one secure aggregation in the test's own process, against real nodes and their ClientApp.

No Flower grid: a test decides stage by stage who is asked, what they are sent, and who never hears of it.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

import client.app
from client.device import Node
from client.releases.plan import Plan
from common.crypto.signing import SigningKey
from common.model import arrays
from common.model.network import initial_arrays
from common.privacy.distributed import decode_sum, sum_limit
from common.secagg.server import Aggregator, UnmaskedSum
from common.secagg.terms import SessionTerms
from common.taxonomy import ModelFamily, Profile, Stage, Task
from common.wire.codec import decode, encode
from common.wire.messages import ModelSpec, RoundInvitation
from common.wire.secagg import (
    MaskedMeasurement,
    MaskedUpdateHeader,
    SecAggAdvert,
    SecAggConfirmation,
    SecAggReveal,
    SecAggShares,
)
from common.wire.signed import seal_invitation
from policies.loader import load
from tests.flower.nodes import SPEC, World

MODEL = ModelSpec(family=ModelFamily.LOGISTIC, spec_digest=SPEC.digest, base_rate=0.3)
ARRAYS = initial_arrays(MODEL, SPEC)
Rows = npt.NDArray[np.uint8]


@contextmanager
def app_of(world: World, monkeypatch: object) -> Iterator[None]:
    """The ClientApp with the world's settings, in this process."""
    before = (TaskIdentity._task_id, TaskIdentity._run_id, TaskIdentity._node_id)
    for name, value in world.environment.items():
        monkeypatch.setenv(name, value)
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
    try:
        yield
    finally:
        TaskIdentity._task_id, TaskIdentity._run_id, TaskIdentity._node_id = before
        client.app._WARM.close()
        client.app._ROSTERS.clear()


@dataclass
class Hub:
    """One session.

    Attributes:
        declined: reason by stage and node.
        heard: every reply, for those who listen.
        home: which node an index belongs to.
    """

    world: World
    key: SigningKey
    authority: SigningKey
    task: Task = Task.TRAIN
    changes: Mapping[str, object] = field(default_factory=dict)
    declined: dict[tuple[Stage, int], str] = field(default_factory=dict)
    heard: list[Message] = field(default_factory=list)
    home: dict[int, int] = field(default_factory=dict)
    between: Mapping[Stage, Callable[[], None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        loaded = load(Path(self.world.environment["RETICENT_POLICIES"]))
        self.budget = loaded.policies.privacy_budget
        values = {
            "run_id": "run-1",
            "session": secrets.token_hex(32),
            "task": self.task,
            "round_number": 1,
            "rounds_total": 3,
            "deadline_s": 60,
            "expires_at": int(time.time()) + 600,
            "model": MODEL,
            "arrays_digest": arrays.digest(ARRAYS),
            "profile": self.budget.profile,
            "parameters": self.budget.training,
            "clipping_norm": self.budget.releases.training_update.clipping_norm,
            "budget_policy_digest": loaded.digests["privacy_budget"],
        }
        self.invitation = RoundInvitation.model_validate(values | dict(self.changes))
        self.jws = seal_invitation(self.invitation, self.key)
        self.plan = Plan.of(self.invitation, self.budget, SPEC)
        self.terms = SessionTerms(
            self.invitation.session,
            self.plan.length,
            self.plan.bits,
            self.budget.cohort,
            (self.authority.public,),
            time.time(),
        )
        self.aggregator = Aggregator(self.terms)

    @property
    def nodes(self) -> list[int]:
        return list(range(len(list(self.world.nodes.iterdir()))))

    def ask(
        self,
        node: int,
        stage: Stage,
        bodies: Sequence[bytes] = (),
        *,
        jws: str | None = None,
        named: Mapping[str, np.ndarray] = ARRAYS,
    ) -> Message:
        content = RecordDict({"secagg": ConfigRecord({"jws": jws or self.jws, "bodies": list(bodies)})})
        if stage is Stage.MASK:
            content["arrays"] = ArrayRecord({name: Array(array) for name, array in named.items()})
        message = Message(content, 100 + node, f"train.{stage.value}")
        reply = self.answer(node, message)
        self.heard.append(reply)
        if reply.has_error():
            self.declined[stage, node] = reply.error.reason
        return reply

    def answer(self, node: int, message: Message) -> Message:
        context = Context(1, 100 + node, {"data-path": str(self.world.directory(node))}, RecordDict(), {})
        return client.app.app(message, context)

    def bodies(self, stage: Stage, node: int, bodies: Sequence[bytes] = ()) -> list[bytes]:
        reply = self.ask(node, stage, bodies)
        return [] if reply.has_error() else [bytes(body) for body in reply.content["secagg"]["bodies"]]

    def advertise(self, nodes: Collection[int] | None = None) -> bytes:
        owners: dict[bytes, int] = {}
        for node in self.nodes if nodes is None else nodes:
            for body in self.bodies(Stage.ADVERTISE, node):
                advert = decode(body, SecAggAdvert)
                self.aggregator.add_advert(advert)
                owners[advert.agreement_key] = node
        roster = self.aggregator.close_adverts()
        self.home = {index: owners[advert.agreement_key] for index, advert in enumerate(roster.adverts)}
        return encode(roster)

    def share(self, roster: bytes, nodes: Collection[int] | None = None) -> dict[int, bytes]:
        for node in self.nodes if nodes is None else nodes:
            for body in self.bodies(Stage.SHARE, node, [roster]):
                self.aggregator.add_shares(decode(body, SecAggShares))
        return {index: encode(delivery) for index, delivery in self.aggregator.close_shares().items()}

    def mask(self, deliveries: Mapping[int, bytes], nodes: Collection[int] | None = None) -> bytes:
        for node in self.nodes if nodes is None else nodes:
            mine = [body for index, body in deliveries.items() if self.home[index] == node]
            for head, row in self.masked(node, mine):
                assert head == self.plan.header(head.index)
                self.aggregator.add_masked(head.index, row.tobytes())
        return encode(self.aggregator.close_masked())

    def masked(self, node: int, mine: Sequence[bytes]) -> list[tuple[MaskedUpdateHeader | MaskedMeasurement, Rows]]:
        reply = self.ask(node, Stage.MASK, mine)
        if reply.has_error():
            return []
        form = MaskedMeasurement if self.task is Task.HISTOGRAM else MaskedUpdateHeader
        heads = [decode(bytes(body), form) for body in reply.content["secagg"]["bodies"]]
        return list(zip(heads, reply.content["payload"]["masked"].numpy(), strict=True))

    def confirm(self, survivors: bytes, nodes: Collection[int] | None = None) -> bytes:
        for node in self.nodes if nodes is None else nodes:
            for body in self.bodies(Stage.CONFIRM, node, [survivors]):
                self.aggregator.add_confirmation(decode(body, SecAggConfirmation))
        return encode(self.aggregator.close_confirmations())

    def reveal(self, confirmations: bytes, nodes: Collection[int] | None = None) -> UnmaskedSum:
        for node in self.nodes if nodes is None else nodes:
            for body in self.bodies(Stage.REVEAL, node, [confirmations]):
                self.aggregator.add_reveal(decode(body, SecAggReveal))
        parameters = [segment.parameters for segment in self.plan.segments]
        return self.aggregator.finish(sum_limit(parameters, self.budget.cohort, len(self.home)))

    def run(self) -> UnmaskedSum:
        """All five stages; ``between`` says what happens before a stage."""

        def before(stage: Stage) -> None:
            self.between.get(stage, lambda: None)()

        roster = self.advertise()
        before(Stage.SHARE)
        deliveries = self.share(roster)
        before(Stage.MASK)
        survivors = self.mask(deliveries)
        before(Stage.CONFIRM)
        confirmations = self.confirm(survivors)
        before(Stage.REVEAL)
        return self.reveal(confirmations)

    def decoded(self, total: UnmaskedSum) -> list[np.ndarray]:
        return decode_sum(total.vector, [(segment.length, segment.parameters) for segment in self.plan.segments])

    def node(self, index: int) -> Node:
        return self.world.node(index)


def secure(profile: Profile = Profile.USER_DISTRIBUTED, **more: object) -> dict[str, object]:
    """Budget of a world whose trainings are masked."""
    return {"profile": profile.value, **more}
