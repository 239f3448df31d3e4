"""As on a real SuperNode: every message of a session in a process of its own, with nothing but the disk in between."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from flwr.app import Message
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as ProtoMessage

from common.crypto import keyfile
from common.taxonomy import Profile, Stage, Task
from tests.flower.nodes import RELEASE, RELEASES, make_world
from tests.rounds.secagg_hub import Hub, app_of, secure

ROOT = Path(__file__).resolve().parents[2]
PROCESS = """
import sys
from flwr.app import Context, RecordDict
from flwr.common.serde import message_from_proto, message_to_proto
from flwr.proto.message_pb2 import Message as ProtoMessage
from flwr.supercore.task_identity import TaskIdentity
TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
from client.app import app
message = message_from_proto(ProtoMessage.FromString(sys.stdin.buffer.read()))
reply = app(message, Context(1, 100, {"data-path": sys.argv[1]}, RecordDict(), {}))
sys.stdout.buffer.write(message_to_proto(reply).SerializeToString())
"""


class Processes(Hub):
    """Answers come from a fresh process per message."""

    def answer(self, node: int, message: Message) -> Message:
        message.metadata.__dict__["_message_id"] = f"{len(self.heard)}"
        done = subprocess.run(
            [sys.executable, "-c", PROCESS, str(self.world.directory(node))],
            input=message_to_proto(message).SerializeToString(),
            cwd=ROOT,
            env={"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", **self.world.environment},
            capture_output=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return message_from_proto(ProtoMessage.FromString(done.stdout))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("profile", "task"),
    [
        (Profile.USER_DISTRIBUTED, Task.TRAIN),
        (Profile.LAYERED, Task.TRAIN),
        (Profile.USER_DISTRIBUTED, Task.CALIBRATE),
        (Profile.USER_DISTRIBUTED, Task.EVALUATE),
        (Profile.USER_DISTRIBUTED, Task.HISTOGRAM),
    ],
)
def test_a_process_per_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, profile: Profile, task: Task) -> None:
    releases = RELEASES | {"feature_histogram": RELEASE}
    world = make_world(tmp_path / "w", nodes=1, devices=4, **secure(profile, releases=releases))
    with app_of(world, monkeypatch):
        session = Processes(world, world.key, keyfile.load_or_create(world.server.authority_key), task)
        total = session.run()
    assert session.declined == {}
    assert len(total.survivors) == 4
    assert len(session.heard) == len(Stage)
