"""What the log says must be there. Owns reading records for it: one pass over millions, so only what is asked."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from common.taxonomy import LogKind
from common.transparency.history import History
from common.transparency.records import RecordLine

_DIGEST: Final = b'"receipt_sha256":"'
"""In canonical JSON these bytes are the name of a member: within a text the quotes would be escaped."""
_HEARD: Final = (LogKind.CONSENT, LogKind.CHARGE, LogKind.POLICY, LogKind.NOTICE, LogKind.CATALOGUE, LogKind.MODEL)


@dataclass(slots=True)
class Promises:
    """Records that speak of something else in the bundle.

    Attributes:
        receipts: hexadecimal digest of the receipt by the entry's number.
        charges: what the ledger said, JSON, by the entry's number.
        policies: digest last published, by document.
        notices: digests of every text.
        catalogues, models: digest by version.
        unreadable: the first entry whose record says nothing that can be understood.
    """

    receipts: dict[int, bytes] = field(default_factory=dict)
    charges: dict[int, bytes] = field(default_factory=dict)
    policies: dict[str, str] = field(default_factory=dict)
    notices: set[str] = field(default_factory=set)
    catalogues: dict[str, str] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)
    unreadable: int | None = None

    def hear(self, lines: Sequence[RecordLine], log: History) -> None:
        """Records that are what their entries commit to."""
        receipts, charges = self.receipts, self.charges
        for at, kind in log.of_kinds([line.seq for line in lines], _HEARD):
            line = lines[at]
            if kind is LogKind.CONSENT:
                record = bytes(line.record)
                name = record.find(_DIGEST)
                if name >= 0:
                    receipts[line.seq] = record[name + len(_DIGEST) : name + len(_DIGEST) + 64]
            elif kind is LogKind.CHARGE:
                charges[line.seq] = bytes(line.record)
            else:
                self._heard(line.seq, kind, bytes(line.record))

    def _heard(self, seq: int, kind: LogKind, record: bytes) -> None:
        try:
            self._published(kind, json.loads(record))
        except (ValueError, KeyError, TypeError, AttributeError):
            self.unreadable = seq if self.unreadable is None else self.unreadable

    def _published(self, kind: LogKind, record: dict[str, Any]) -> None:
        if kind is LogKind.POLICY:
            self.policies[str(record["document"])] = str(record["sha256"])
        elif kind is LogKind.NOTICE:
            self.notices |= {str(digest) for digest in record["digests"].values()}
        elif kind is LogKind.CATALOGUE:
            self.catalogues[str(record["version"])] = str(record["sha256"])
        else:
            self.models[str(record["version"])] = str(record["sha256"])
