"""Private keys on disk. The one place in ``common`` that touches a file, so that mode 0600 is not a matter of memory.

Format: one JSON object ``{"format": "reticent-ed25519-1", "secret": <base64url>}``.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
from pathlib import Path

from common.crypto.signing import SigningKey
from common.errors import MalformedInput

_FORMAT = "reticent-ed25519-1"


def write_private(path: Path, data: bytes) -> None:
    """Create ``path`` with mode 0600 and ``data`` on disk, all at once; an existing file is never overwritten.

    Raises:
        FileExistsError: something is there already.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.link(temporary, path)  # unlike a rename, a link never replaces what is there
    finally:
        temporary.unlink()
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # its name is durable too, before anybody relies on it
    finally:
        os.close(folder)


def save(key: SigningKey, path: Path) -> None:
    """Write a private key to a new file (0600) in a directory made 0700 if it is missing.

    Raises:
        FileExistsError: there is a key already; it is never overwritten.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    secret = base64.urlsafe_b64encode(key.secret).rstrip(b"=").decode()
    write_private(path, json.dumps({"format": _FORMAT, "secret": secret}).encode())


def load(path: Path) -> SigningKey:
    """Read a private key.

    Raises:
        MalformedInput: not a key file of ours; the content is not echoed.
        FileNotFoundError: there is none.
    """
    try:
        record = json.loads(path.read_bytes())
        secret = base64.urlsafe_b64decode(record["secret"] + "=") if record["format"] == _FORMAT else b""
        return SigningKey(secret)
    except (ValueError, KeyError, TypeError):
        raise MalformedInput(f"{path.name} is not a signing key file of format {_FORMAT}") from None


def load_or_create(path: Path) -> SigningKey:
    """The key at ``path``; a new one is generated and saved when there is none."""
    if not path.exists():
        with contextlib.suppress(FileExistsError):  # another process was first: its key is the key
            save(SigningKey.generate(), path)
    return load(path)
