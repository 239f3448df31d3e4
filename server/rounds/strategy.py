"""Our strategy over Flower's Grid. Owns sampling nodes, sending invitations and collecting replies before a deadline.

A thin adapter: what a reply must be is ``aggregation``'s business. It never waits for ever, and neither a straggler nor
an error reply costs the others their round. Replies are matched by the id of the message they answer, because an error
made by Flower's link carries the link's own node id.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from common.errors import TooFewSurvivors
from common.model.arrays import Arrays
from common.taxonomy import Decline
from server.rounds.aggregation import Expected, ReplyFault, Tally, add_reply

MESSAGE_TYPE = "train"
ARRAYS, INVITATION, JWS = "arrays", "invitation", "jws"
UPDATE, CONTRIBUTION, BODY = "update", "contribution", "body"
UNAVAILABLE = "Unavailable"
_POLL_S_MIN, _POLL_S_MAX = 0.02, 0.25


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to wait, and what to do meanwhile.

    Attributes:
        round_deadline_s: a reply later than this is too late; also the time to live of the invitation.
        node_wait_s: how long to wait for enough nodes before a round.
        beat: called often while waiting (keeps the checkpoint's lease).
    """

    round_deadline_s: float
    node_wait_s: float
    beat: Callable[[], None]
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


def sample_nodes(
    grid: Grid, *, nodes_min: int, nodes_wanted: int, seed: tuple[int, int], patience: Patience
) -> list[int]:
    """Nodes of one round, after waiting for at least ``nodes_min`` of them.

    Args:
        grid: Flower's grid.
        nodes_min: as few as this are enough.
        nodes_wanted: as many as this are drawn, uniformly without replacement; 0: all.
        seed: model seed and round number: a continued training draws as an uninterrupted one.
        patience: how long to wait.

    Raises:
        TooFewSurvivors: the deadline passed before enough nodes were there.
    """
    until = patience.clock() + patience.node_wait_s
    nodes = sorted(grid.get_node_ids())
    while len(nodes) < nodes_min:
        if patience.clock() >= until:
            raise TooFewSurvivors(f"{len(nodes)} nodes are connected, at least {nodes_min} are needed")
        patience.beat()
        patience.sleep(min(0.5, patience.node_wait_s))
        nodes = sorted(grid.get_node_ids())
    if 0 < nodes_wanted < len(nodes):
        drawn = np.random.default_rng(seed).choice(len(nodes), nodes_wanted, replace=False)
        nodes = [nodes[i] for i in sorted(drawn)]
    return nodes


def run_round(
    grid: Grid, nodes: Collection[int], *, invitation: str, model: Arrays, expected: Expected, patience: Patience
) -> Tally:
    """Invite nodes to one round and add what they answer until all have answered or the deadline passes.

    Args:
        grid: Flower's grid.
        nodes: whom to ask.
        invitation: the signed ``RoundInvitation``.
        model: global arrays, sent beside it.
        expected: what a reply must declare.
        patience: how long to wait.
    """
    content = RecordDict({ARRAYS: array_record(model), INVITATION: ConfigRecord({JWS: invitation})})
    tally = Tally.start(expected.length)

    def take(node: int, reply: Message) -> None:
        if reply.has_error():
            tally.declined[closed_name(reply.error.reason)] += 1
            return
        unpacked = unpack(reply.content)
        if unpacked is None:
            tally.refused[ReplyFault.MALFORMED] += 1
            return
        add_reply(tally, expected, node_id=node, body=unpacked[0], arrays=unpacked[1])

    silent = exchange(
        grid,
        dict.fromkeys(nodes, content),
        message_type=MESSAGE_TYPE,
        group_id=str(expected.round_number),
        deadline_s=patience.round_deadline_s,
        patience=patience,
        take=take,
        stray=lambda fault: tally.refused.update([fault]),
    )
    if silent:
        tally.declined[UNAVAILABLE] += silent
    return tally


def array_record(model: Mapping[str, npt.NDArray[np.generic]]) -> ArrayRecord:
    """Named arrays in Flower's form."""
    return ArrayRecord({name: Array(array) for name, array in model.items()})


def exchange(
    grid: Grid,
    contents: Mapping[int, RecordDict],
    *,
    message_type: str,
    group_id: str,
    deadline_s: float,
    patience: Patience,
    take: Callable[[int, Message], None],
    stray: Callable[[ReplyFault], None],
) -> int:
    """Send one message to each node and hand over what they answer until all have answered or the deadline passes.

    Args:
        grid: Flower's grid.
        contents: what to send, by node.
        message_type: Flower's type of the messages.
        group_id: the round, for Flower's own log.
        deadline_s: a later reply is too late; also the messages' time to live.
        patience: clock, sleep and heartbeat.
        take: gets the asked node and its first reply, error replies included.
        stray: gets what nobody asked for.

    Returns:
        How many nodes did not answer in time.
    """
    messages = [
        Message(content, node, message_type, ttl=deadline_s, group_id=group_id) for node, content in contents.items()
    ]
    asked = {
        message_id: node for message_id, node in zip(grid.push_messages(messages), contents, strict=False) if message_id
    }
    waiting = set(asked)
    until, pause = patience.clock() + deadline_s, _POLL_S_MIN
    while waiting and patience.clock() < until:
        replies = list(grid.pull_messages(sorted(waiting)))
        for reply in replies:
            answers = reply.metadata.reply_to_message_id
            if answers in waiting:
                waiting.discard(answers)
                take(asked[answers], reply)
            else:
                stray(ReplyFault.DUPLICATE if answers in asked else ReplyFault.FOREIGN_RUN)
        patience.beat()
        pause = _POLL_S_MIN if replies else min(2 * pause, _POLL_S_MAX)
        if waiting:
            patience.sleep(max(0.0, min(pause, until - patience.clock())))
    return len(contents) - len(asked) + len(waiting)


def closed_name(reason: str | None) -> str:
    """The name a node declined with, if it is one of ours; any other text is dropped unread."""
    return reason if reason in set(Decline) else UNAVAILABLE


def unpack(content: RecordDict) -> tuple[bytes, dict[str, npt.NDArray[np.generic]]] | None:
    """Body and arrays of a reply, or None when it does not have exactly the agreed records."""
    if set(content) != {UPDATE, CONTRIBUTION}:
        return None
    update, contribution = content[UPDATE], content[CONTRIBUTION]
    if not isinstance(update, ArrayRecord) or not isinstance(contribution, ConfigRecord):
        return None
    body = contribution.get(BODY)
    if set(contribution) != {BODY} or not isinstance(body, bytes):
        return None
    try:
        return body, {name: array.numpy() for name, array in update.items()}
    except (ValueError, TypeError, OSError, EOFError, MemoryError):
        return None
