"""A training in Flower's simulation engine, in a network namespace of its own: run by ``test_simulation_engine``.

Ray's servers listen on every interface. Here the only interface is this namespace's loopback.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import struct
import sys
from pathlib import Path

from tests.flower.lab import Lab

_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 0x1


def loopback_up() -> None:
    """What ``ip link set lo up`` does."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = struct.pack("16sH14s", b"lo", 0, b"\0" * 14)
        flags = struct.unpack("16sH14s", fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sH14s", b"lo", flags | _IFF_UP, b"\0" * 14))


def main() -> None:
    """Arguments: a JSON object with ``home``, ``environment``, ``nodes`` and ``config``. Prints how the run ended."""
    order = json.loads(sys.argv[1])
    loopback_up()
    interfaces = [name for _, name in socket.if_nameindex()]
    if interfaces != ["lo"]:
        raise SystemExit(f"not confined: {interfaces}")
    with Lab(Path(order["home"]), server=order["environment"], simulation_nodes=order["nodes"]) as lab:
        done = lab.run(order["config"], timeout_s=240)
        logs = lab.logs()
    print(  # noqa: T201 - read by the test
        json.dumps({"status": done.status, "details": done.details, "log": done.log[-4000:] + logs[-4000:]}),
        flush=True,  # the next line ends the process without
    )
    os._exit(0 if not lab.survivors() else 3)


if __name__ == "__main__":
    main()
