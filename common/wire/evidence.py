"""The evidence bundle: one archive that proves itself. Owns the names in it and the signed list of its contents."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import Field, ValidationError

from common.crypto import signing
from common.crypto.signing import PublicKey, SigningKey
from common.errors import TrustError
from common.wire.base import Digest, Message, ShortText

MANIFEST_TYP: Final = "evidence-bundle+jws"
MANIFEST: Final = "manifest.jws"
KEYS: Final = "keys.json"
README: Final = "README.txt"
LEAVES: Final = "log/leaves.jsonl"
HASHES: Final = "log/hashes.bin"
RECORDS: Final = "log/records.jsonl"
CHECKPOINTS: Final = "log/checkpoints.jsonl"
INCLUSION: Final = "proofs/inclusion.jsonl"
CONSISTENCY: Final = "proofs/consistency.jsonl"
RECEIPTS: Final = "receipts/receipts.jsonl"
CHARGES: Final = "ledger/charges.jsonl"
POLICIES: Final = "policies/"
NOTICES: Final = "notices/"
CATALOGUES: Final = "catalogues/"
MODELS: Final = "models/"
CARDS: Final = "cards/"
AUDITS: Final = "audits/"
NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,120}(/[A-Za-z0-9][A-Za-z0-9._-]{0,120})?$"


class FileDigest(Message):
    """One file of the bundle."""

    sha256: Digest
    size_bytes: int = Field(ge=0)


class BundleKey(Message):
    """One published key."""

    number: int = Field(ge=1)
    kid: ShortText
    x: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{43}$")]
    published_at: int
    retired_at: int | None
    succession: Annotated[str, Field(max_length=4000)] | None


class BundleReceipt(Message):
    """One consent receipt, and where the log has it (None for receipts older than the log)."""

    receipt_id: ShortText
    seq: int | None
    jws: Annotated[str, Field(max_length=64 * 1024)]


class EvidenceManifest(Message):
    """What a bundle holds.

    Attributes:
        origin: which log.
        made_at: seconds since the epoch.
        entries: how many the log had.
        files: every file but this one, by name.
    """

    kind: Literal["evidence_manifest"] = "evidence_manifest"
    format: Literal["reticent-evidence-1"] = "reticent-evidence-1"
    origin: ShortText
    made_at: int
    entries: int = Field(ge=0)
    files: dict[Annotated[str, Field(pattern=NAME)], FileDigest]


def seal_manifest(manifest: EvidenceManifest, key: SigningKey) -> str:
    """The manifest as a compact JWS."""
    return signing.sign(manifest.model_dump_json().encode(), key, MANIFEST_TYP)


def open_evidence(jws: str, keys: Mapping[str, PublicKey]) -> EvidenceManifest:
    """The manifest, its signature verified.

    Raises:
        UnknownSigner: signed by a key that is not trusted.
        TrustError: it does not verify.
    """
    payload = signing.verify(jws, keys, MANIFEST_TYP)
    try:
        return EvidenceManifest.model_validate_json(payload)
    except ValidationError:
        raise TrustError("what was signed is not the list of an evidence bundle") from None
