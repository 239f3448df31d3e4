"""A Flower grid inside the test's own process. It leaks exactly as Flower 1.41 does, and keeps every byte."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Self

import numpy as np
from flwr.app import ArrayRecord, Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity


class InlineGrid(Grid):
    """Runs ``client_app`` at once for every message that is pushed.

    Attributes:
        frames: the protobuf bytes of every message, both ways, in order.
        arrays: every array in them, decoded.
    """

    run = None  # type: ignore[assignment]
    set_run = create_message = send_and_receive = None  # type: ignore[assignment]

    def __init__(
        self, client_app: ClientApp, nodes: Sequence[Mapping[str, str]], run_config: Mapping[str, object]
    ) -> None:
        self.frames: list[bytes] = []
        self.arrays: list[np.ndarray] = []
        self._app = client_app
        self._contexts = {
            100 + i: Context(1, 100 + i, dict(node), RecordDict(), dict(run_config)) for i, node in enumerate(nodes)
        }
        self._replies: dict[str, Message] = {}
        self._before = (TaskIdentity._task_id, TaskIdentity._run_id, TaskIdentity._node_id)

    def __enter__(self) -> Self:
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
        return self

    def __exit__(self, kind: type[BaseException] | None, err: BaseException | None, tb: TracebackType | None) -> None:
        TaskIdentity._task_id, TaskIdentity._run_id, TaskIdentity._node_id = self._before

    def context(self) -> Context:
        """The server's context."""
        return Context(1, 1, {}, RecordDict(), dict(next(iter(self._contexts.values())).run_config))

    def get_node_ids(self) -> Iterable[int]:
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        ids = []
        for message in messages:
            message.metadata.__dict__["_message_id"] = uuid.uuid4().hex
            ids.append(message.metadata.message_id)
            request = self._pass(message)
            try:
                reply = self._app(request, self._contexts[request.metadata.dst_node_id])
            except Exception as error:  # noqa: BLE001 - as Flower's own runner does
                reason = f"{type(error)}:<'{error}'>"
                reply = Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason), reply_to=request)
            self._replies[ids[-1]] = self._pass(reply)
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return [self._replies.pop(one) for one in list(message_ids) if one in self._replies]

    def _pass(self, message: Message) -> Message:
        """Through Flower's own wire form, as nothing else crosses."""
        frame = message_to_proto(message).SerializeToString()
        self.frames.append(frame)
        arrived = message_from_proto(ProtoMessage.FromString(frame))
        if arrived.has_content():
            for record in arrived.content.values():
                if isinstance(record, ArrayRecord):
                    self.arrays += [array.numpy() for array in record.values()]
        return arrived


InlineGrid.__abstractmethods__ = frozenset()  # the rest of Flower's interface is not used by our strategy
