"""Checkpoints: the form of C2SP, and every way a note can be wrong."""

from __future__ import annotations

import base64

import pytest

from common.crypto.signing import SigningKey, key_ring
from common.errors import InvalidCheckpoint, TrustError, UnknownSigner
from common.transparency.checkpoint import (
    Checkpoint,
    key_hash,
    open_checkpoint,
    read_checkpoint,
    seal_checkpoint,
    verifier_key,
)

KEY = SigningKey(bytes(range(32)))
KEYS = key_ring(KEY.public)
CHECKPOINT = Checkpoint("example.org/log", 15, bytes(range(100, 132)), 1_800_000_000)
NOTE = seal_checkpoint(CHECKPOINT, KEY)


def test_the_text_is_that_of_the_specification() -> None:
    """C2SP signed-note: key id = SHA-256(name, newline, 0x01, key)[:4]; em dash, name, base64(id, signature)."""
    body, empty, signature, end = NOTE.split("\n")[:4], NOTE.split("\n")[4], NOTE.split("\n")[5], NOTE.split("\n")[6:]
    assert body == ["example.org/log", "15", base64.b64encode(CHECKPOINT.root).decode(), "time 1800000000"]
    assert (empty, end) == ("", [""])
    dash, name, blob = signature.split(" ")
    raw = base64.b64decode(blob)
    assert (dash, name, raw[:4]) == ("—", "example.org/log", key_hash("example.org/log", KEY.public))
    assert KEY.public.verify_bytes(NOTE.split("\n\n")[0].encode() + b"\n", raw[4:])


def test_the_key_id_is_that_of_another_implementation() -> None:
    """The verifier key and note in the documentation of golang.org/x/mod/sumdb/note."""
    name, hashed, encoded = ["PeterNeumann", "c74f20a3", "ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"]
    from common.crypto.signing import PublicKey

    key = PublicKey.of_raw(base64.b64decode(encoded)[1:])
    assert key_hash(name, key).hex() == hashed
    assert verifier_key(name, key) == f"{name}+{hashed}+{encoded}"
    text = b"If you think cryptography is the answer to your problem,\nthen you don't know what your problem is.\n"
    blob = base64.b64decode(
        "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM="
    )
    assert blob[:4] == key_hash(name, key)
    assert key.verify_bytes(text, blob[4:])


def test_a_signed_checkpoint_opens() -> None:
    opened = open_checkpoint(NOTE, KEYS, origin="example.org/log")
    assert (opened.checkpoint, opened.kid, opened.note) == (CHECKPOINT, KEY.kid, NOTE)


def test_lines_of_witnesses_are_passed_over() -> None:
    other = SigningKey.generate()
    line = f"— witness.example {base64.b64encode(bytes(76)).decode()}\n"
    foreign = seal_checkpoint(CHECKPOINT, other).rsplit("\n\n", 1)[1]
    assert open_checkpoint(NOTE + line, KEYS).checkpoint == CHECKPOINT
    assert open_checkpoint(f"{CHECKPOINT.text()}\n{line}{foreign}{NOTE.rsplit(chr(10) * 2, 1)[1]}", KEYS)
    with pytest.raises(UnknownSigner):
        open_checkpoint(f"{CHECKPOINT.text()}\n{line}", KEYS)


@pytest.mark.parametrize(
    "note",
    [
        "",
        NOTE.replace("15", "16", 1),
        NOTE.replace("time 1800000000", "time 1700000000"),
        NOTE.replace("example.org/log\n15", "example.org/logs\n15"),
        NOTE[:-1],
        NOTE + "\n",
        NOTE + "rubbish\n",
        NOTE.replace("— ", "- "),
        NOTE.replace("\n15\n", "\n015\n"),
        NOTE.replace("\n\n", "\n"),
        NOTE.replace("time 1800000000\n", ""),
        NOTE.replace("time 1800000000\n", "time 1800000000\nanother line\n"),
        CHECKPOINT.text() + "\n",
        "x" * 20_000,
    ],
)
def test_a_note_that_was_changed_does_not_open(note: str) -> None:
    with pytest.raises((InvalidCheckpoint, UnknownSigner)):
        open_checkpoint(note, KEYS)


def test_no_flipped_bit_passes() -> None:
    for bit in range(len(NOTE.encode()) * 8):
        data = bytearray(NOTE.encode())
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises(TrustError):
            open_checkpoint(data.decode("utf-8", "replace"), KEYS)


def test_another_log_or_another_key_is_refused() -> None:
    with pytest.raises(InvalidCheckpoint):
        open_checkpoint(NOTE, KEYS, origin="example.org/other")
    with pytest.raises(UnknownSigner):
        open_checkpoint(NOTE, key_ring(SigningKey.generate().public))
    with pytest.raises(UnknownSigner):
        open_checkpoint(NOTE, {})


def test_what_cannot_be_written_is_not_signed() -> None:
    for origin in ("two words", "", "a\nb", "plus+sign"):
        with pytest.raises(ValueError, match="origin"):
            seal_checkpoint(Checkpoint(origin, 1, bytes(32), 1), KEY)


def test_reading_does_not_verify() -> None:
    assert read_checkpoint(NOTE.rsplit("\n\n", 1)[0] + "\n\n").size == 15
