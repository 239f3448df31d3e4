"""The ClientApp's own corners: what it imports, where it looks for data, and what it says to nonsense."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from flwr.app import ConfigRecord, Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from client.app import app, closed_name, node_directory
from client.settings import Settings
from common.errors import PolicyError, TamperedModel, UnknownSigner
from common.taxonomy import Decline


def context(node: Mapping[str, str | int], run: Mapping[str, str]) -> Context:
    return Context(1, 100, dict(node), RecordDict(), dict(run))


def test_a_message_does_not_pay_for_torch_before_it_is_accepted() -> None:
    code = "import client.app, sys; print(sorted({'torch', 'opacus', 'dp_accounting'} & set(sys.modules)))"
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_server_cannot_choose_where_a_real_device_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RETICENT_HOME", "/home/of/the/owner")
    lure = {"simulation-nodes-dir": "/somebody/else"}
    assert node_directory(context({"partition-id": 3}, lure), Settings()) == Path("/home/of/the/owner")
    assert node_directory(context({"partition-id": 3}, lure), Settings(simulation=True)) == Path(
        "/somebody/else/node-3"
    )
    own = {"data-path": "/own", "partition-id": 3}
    assert node_directory(context(own, lure), Settings(simulation=True)) == Path("/own")


@pytest.mark.parametrize("message_type", ["train", "train.other", "evaluate", "query"])
def test_nonsense_is_answered_with_a_closed_name(
    message_type: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = (TaskIdentity._task_id, TaskIdentity._run_id, TaskIdentity._node_id)
    TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, 1, 1
    try:
        message = Message(RecordDict({"x": ConfigRecord({"jws": "nonsense"})}), 100, message_type)
        reply = app(message, context({"data-path": str(tmp_path)}, {}))
    finally:
        TaskIdentity._task_id, TaskIdentity._run_id, TaskIdentity._node_id = before
    assert reply.has_error()
    assert reply.error.reason in {Decline.MALFORMED, Decline.SPEC, Decline.FAILURE}


def test_names_are_from_the_closed_list() -> None:
    assert closed_name(UnknownSigner("x")) is Decline.UNKNOWN_SIGNER
    assert closed_name(PolicyError("x")) is Decline.POLICY
    assert closed_name(TamperedModel("x")) is Decline.UNVERIFIED
