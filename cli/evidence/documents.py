"""What is in a bundle beside the log, held to the log and to signatures. Owns one check per kind of thing."""

from __future__ import annotations

import base64
import hashlib
import itertools
import json
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from pydantic import ValidationError

from cli.evidence.archive import EvidenceArchive
from cli.evidence.promises import Promises
from cli.evidence.receipts import check_receipts
from common.crypto.signing import PublicKey, signer_of
from common.errors import ReticentError
from common.model.manifest import read_manifest
from common.taxonomy import Tampering
from common.transparency.findings import Finding, Gap
from common.transparency.history import History, whole_lines
from common.transparency.tree import verify_consistency, verify_inclusion
from common.wire import evidence as names
from common.wire.documents import open_document
from common.wire.messages import Catalogue
from policies.notices import Notice
from server.registry.card import card_json, card_of


class _Charge(msgspec.Struct, gc=False):
    charge: int


class Documents:
    """One bundle's documents.

    Attributes:
        findings: the first bad row of each file.
        gaps: what is promised and not there, or there and promised by nobody.
        counts: how many of each were found to be good.
        signatures: of how many receipts the own signature was verified.
    """

    def __init__(
        self,
        archive: EvidenceArchive,
        promises: Promises,
        log: History,
        keys: Mapping[str, PublicKey],
        *,
        every_signature: bool = False,
    ) -> None:
        self._every_signature, self.signatures = every_signature, 0
        self._archive, self._promises, self._tree, self._keys = archive, promises, log.tree, keys
        self._began = log.times[0] if len(log) else 0
        self.findings: list[Finding] = []
        self.gaps: list[Gap] = []
        self.counts: dict[str, int] = {}

    def check(self) -> None:
        """Everything."""
        self._receipts()
        self._charges()
        self._policies()
        self._notices()
        self._signed(names.CATALOGUES, self._promises.catalogues, self._catalogue)
        self._signed(names.MODELS, self._promises.models, lambda text: read_manifest(text, self._keys))
        self._cards()
        self._proofs()
        self.counts["audits"] = len(self._archive.below(names.AUDITS))

    # ── receipts ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _receipts(self) -> None:
        promised = self._promises.receipts
        found = check_receipts(
            self._lines(names.RECEIPTS), promised, self._keys, began=self._began, every=self._every_signature
        )
        self.counts["receipts"], self.signatures = found.good, found.signatures
        if found.finding is not None:
            self.findings.append(found.finding)
            return
        self._gap(names.RECEIPTS, len(promised.keys() - found.seen), "receipts that the log speaks of")
        if found.older:
            self.gaps.append(Gap(names.RECEIPTS, found.older, "receipts are older than the log", expected=True))

    # ── the ledger ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _charges(self) -> None:
        last = self._charged()
        due, order, unlogged, good, before = dict(last), deque(sorted(last)), 0, 0, -1
        for row, line in enumerate(self._lines(names.CHARGES)):
            try:
                charge = json.loads(line)
                number, seq = int(charge["charge"]), charge.pop("seq")
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                self._bad(Tampering.EDIT, names.CHARGES, row, "this is not a charge")
                return
            while order and order[0] <= before:
                order.popleft()
            missing = order[0] if order and order[0] < number else None
            if number <= before or missing is not None:
                kind = Tampering.REORDERING if number <= before else Tampering.DELETION
                said = "charges are not in their order" if number <= before else f"charge {missing} is missing here"
                self._bad(kind, names.CHARGES, row, said)
                return
            before = number
            if number not in last:
                unlogged += 1
                continue
            if not self._same_charge(charge, last[number]) or seq != due.pop(number):
                self._bad(Tampering.EDIT, names.CHARGES, row, f"charge {number} is not as the log has it")
                return
            good += 1
        self.counts["charges"] = good
        if due:
            self._bad(
                Tampering.TRUNCATION, names.CHARGES, good + unlogged, f"{len(due)} charges of the log are missing"
            )
        if unlogged:
            self.gaps.append(Gap(names.CHARGES, unlogged, "charges that the log does not speak of (older than it)"))

    def _charged(self) -> dict[int, int]:
        """The log's last word on each charge, by the charge's number."""
        found = dict[int, int]()
        for seq, record in sorted(self._promises.charges.items()):
            try:
                found[msgspec.json.decode(record, type=_Charge).charge] = seq
            except (msgspec.DecodeError, ValueError):
                self.gaps.append(Gap(names.RECORDS, 1, f"record of entry {seq} is about no charge that can be told"))
        return found

    def _same_charge(self, charge: Mapping[str, Any], seq: int) -> bool:
        record = {name: value for name, value in json.loads(self._promises.charges[seq]).items() if name != "event"}
        return record == charge

    # ── publications ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _policies(self) -> None:
        good = 0
        for document, digest in sorted(self._promises.policies.items()):
            name = f"{names.POLICIES}{document}.yaml"
            if name not in self._archive.names:
                self._gap(names.POLICIES, 1, f"document {document}, which the log says is in force,")
            elif hashlib.sha256(self._archive.read(name)).hexdigest() != digest:
                self._bad(Tampering.EDIT, name, 0, "it is not the document that the log says is in force")
            else:
                good += 1
        for name in self._archive.below(names.POLICIES):
            if name.removeprefix(names.POLICIES).removesuffix(".yaml") not in self._promises.policies:
                self._bad(Tampering.FORGERY, name, 0, "the log does not speak of this document")
        self.counts["policies"] = good

    def _notices(self) -> None:
        good = set[str]()
        for name in self._archive.below(names.NOTICES):
            digest = name.removeprefix(names.NOTICES).removesuffix(".json")
            try:
                genuine = Notice.model_validate_json(self._archive.read(name)).digest == digest
            except ValidationError:
                genuine = False
            if not genuine:
                self._bad(Tampering.EDIT, name, 0, "it is not the text of its digest")
            elif digest not in self._promises.notices:
                self.gaps.append(Gap(name, 1, "notice that the log does not speak of (older than it)"))
            else:
                good.add(digest)
        self.counts["notices"] = len(good)
        self._gap(names.NOTICES, len(self._promises.notices - good), "notices that the log speaks of")

    def _signed(self, folder: str, promised: Mapping[str, str], check: Any) -> None:  # noqa: ANN401 - a document's own check
        found = {name.removeprefix(folder).removesuffix(".jws"): name for name in self._archive.below(folder)}
        good = 0
        for version, name in found.items():
            text = self._archive.read(name).decode("ascii", "replace")
            if version in promised and hashlib.sha256(text.encode()).hexdigest() != promised[version]:
                self._bad(Tampering.EDIT, name, 0, "it is not the document that the log speaks of")
                continue
            try:
                opened = check(text)
            except ReticentError as error:
                self._bad(Tampering.FORGERY, name, 0, f"its signature does not verify ({error.name})")
                continue
            if str(opened.version) != version:
                self._bad(Tampering.EDIT, name, 0, "it is listed under another version")
                continue
            good += 1
        self.counts[folder.rstrip("/")] = good
        self._gap(folder, len(promised.keys() - found.keys()), "versions that the log speaks of")
        older = len(found.keys() - promised.keys())
        if older:
            self.gaps.append(Gap(folder, older, "versions are older than the log", expected=True))

    def _catalogue(self, text: str) -> Catalogue:
        return open_document(text, Catalogue, self._keys)

    def _cards(self) -> None:
        good = 0
        for name in self._archive.below(names.CARDS):
            if not name.endswith(".json"):
                continue
            version = name.removeprefix(names.CARDS).removesuffix(".json")
            jws = self._archive.read(f"{names.MODELS}{version}.jws").decode("ascii", "replace")
            try:
                told = card_json(card_of(read_manifest(jws, self._keys), signed_by=signer_of(jws)))
            except (ReticentError, ValueError):
                self._bad(Tampering.FORGERY, name, 0, "there is no signed model that it is the card of")
                continue
            if told.encode() != self._archive.read(name):
                self._bad(Tampering.EDIT, name, 0, "it does not say what the signed model says")
            else:
                good += 1
        self.counts["cards"] = good

    # ── proofs ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _proofs(self) -> None:
        good = 0
        for name, verify in ((names.INCLUSION, self._inclusion), (names.CONSISTENCY, self._consistency)):
            for row, line in enumerate(self._lines(name)):
                try:
                    verify(json.loads(line))
                except (ReticentError, ValueError, KeyError, TypeError, IndexError, RecursionError):
                    self._bad(Tampering.EDIT, name, row, "the proof proves nothing about this log")
                    break
                good += 1
        self.counts["proofs"] = good

    def _inclusion(self, proof: Mapping[str, Any]) -> None:
        seq, size = int(proof["seq"]), int(proof["size"])
        if not 0 <= seq < size <= self._tree.size:
            raise ValueError("a proof of another log")
        verify_inclusion(self._tree.leaf(seq), seq, size, _path(proof), self._tree.root(size))

    def _consistency(self, proof: Mapping[str, Any]) -> None:
        old, new = int(proof["old"]), int(proof["new"])
        if not 0 < old <= new <= self._tree.size:
            raise ValueError("a proof of another log")
        roots = {"old_root": self._tree.root(old), "new_root": self._tree.root(new)}
        verify_consistency(old, new, _path(proof), **roots)

    # ── inside ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _lines(self, name: str) -> Iterator[bytes]:
        chunks = (chunk.split(b"\n") for chunk in whole_lines(self._archive.blocks(name)))
        return (line for line in itertools.chain.from_iterable(chunks) if line)

    def _bad(self, kind: Tampering, where: str, row: int, detail: str) -> None:
        self.findings.append(Finding(kind, where, row, detail))

    def _gap(self, where: str, count: int, what: str) -> None:
        if count:
            self.gaps.append(Gap(where, count, f"{what} are not in the bundle"))


def _path(proof: Mapping[str, Any]) -> list[bytes]:
    return [base64.b64decode(step, validate=True) for step in proof["path"]]
