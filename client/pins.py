"""What a node trusts. Owns ``keys.json``: keys of the service, enrolment authorities, digests of the notices in force.

Whoever installs the app pins them; nothing that arrives later can add a key. An absent file trusts nobody.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from common.crypto.signing import PublicKey, key_ring
from common.errors import MalformedInput

_FORMAT: Final = "reticent-pins-1"


@dataclass(frozen=True, slots=True)
class Pins:
    """The service's public keys by id, and the digests of the notices in force (one per language).

    Attributes:
        authorities: whose word it takes that another device exists, in a secure aggregation; never the signing keys.
    """

    keys: Mapping[str, PublicKey] = field(default_factory=dict)
    notices: frozenset[str] = frozenset()
    authorities: tuple[PublicKey, ...] = ()


def read_pins(path: Path) -> Pins:
    """The pins in a file; none at all when there is no file.

    Raises:
        MalformedInput: not a file of ours; nothing is trusted then.
    """
    try:
        record = json.loads(path.read_bytes())
        if record["format"] != _FORMAT or not all(isinstance(n, str) for n in record["notices"]):
            raise ValueError(_FORMAT)  # noqa: TRY301 - one message for whatever is wrong
        return Pins(
            key_ring(*(PublicKey(x) for x in record["keys"])),
            frozenset(record["notices"]),
            tuple(PublicKey(x) for x in record.get("authorities", ())),  # older files have none
        )
    except FileNotFoundError:
        return Pins()
    except (ValueError, KeyError, TypeError):
        raise MalformedInput(f"{path.name} does not hold pinned keys of format {_FORMAT}; pin them again") from None


def write_pins(
    path: Path, keys: Iterable[PublicKey], notices: Iterable[str], authorities: Iterable[PublicKey] = ()
) -> None:
    """Replace the pins, all at once."""
    record = {
        "format": _FORMAT,
        "keys": sorted(key.x for key in keys),
        "notices": sorted(notices),
        "authorities": sorted(key.x for key in authorities),
    }
    replace_private(path, json.dumps(record, indent=1).encode())


def replace_private(path: Path, data: bytes) -> None:
    """Write a file with mode 0600 so that readers find the old content or the new one, never a part."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


class PinFile:
    """The pins of a node, read again when the file changes."""

    def __init__(self, path: Path) -> None:
        """Watch ``path``."""
        self.path = path
        self._state: tuple[int, int, int] | None = None
        self._pins = Pins()

    def current(self) -> Pins:
        """The pins now.

        Raises:
            MalformedInput: the file is not one of ours.
        """
        try:
            stat = self.path.stat()
        except FileNotFoundError:
            return Pins()
        state = (stat.st_mtime_ns, stat.st_size, stat.st_ino)
        if state != self._state:
            self._pins = read_pins(self.path)
            self._state = state
        return self._pins
