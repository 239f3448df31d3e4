"""The proof that goes with a receipt. Owns when there is one."""

from __future__ import annotations

from common.wire.log import LogProof
from server.transparency.service import TransparencyLog


def proof_of(log: TransparencyLog, seq: int | None) -> LogProof | None:
    """That an entry is in the log, under a signed checkpoint that covers it; None for what is older than the log.

    **Privacy:** holds the salt of the entry's record: for the person it is about, and for officers.
    """
    return None if seq is None else log.proof(seq)
