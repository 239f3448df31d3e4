"""The package of an access or portability request. Owns what is in it and its form: a zip of JSON, signed as a whole.

Made when it is fetched and kept nowhere. It holds what this service holds: the enrolment, every consent event with its
receipt, the openings of the log's entries about the person, their requests, and what the ledger charged to their
device. What the device holds is not here: it never left it. An access package also says what GDPR Art. 15(1) asks for:
purposes, categories, recipients, storage and the logic of automated decisions.
"""

from __future__ import annotations

import hashlib
import io
import json
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from common.crypto import signing
from common.taxonomy import RequestKind
from common.transparency.leaf import text_of
from common.wire.requests import LedgerProof, proven_identity
from policies.notices import Locale
from policies.schema import PurposesPolicy
from server.consent import repository as subjects
from server.consent.repository import StoredEvent, SubjectFacts
from server.ledger.told import number
from server.ledger.words import Entry
from server.requests import repository
from server.requests.erasure import Rooms
from server.requests.repository import Request
from server.storage import Transaction
from server.transparency.repository import StoredEntry

PACKAGE_TYP: Final = "dsr-package+jws"
MANIFEST: Final = "manifest.jws"
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)
_README: Final[dict[Locale, str]] = {
    "en": """What this service holds about you
=================================
subject.json    what you declared when this device enrolled, and the public key it signs with
consents.json   every decision about consent; receipts/ holds the signed receipts
log.json        what opens the entries about you in the transparency log: only you and this service have it
requests.json   what you have asked for, and what was answered
ledger.json     every release that was charged to this device here, with its privacy cost
processing.json why and how data are processed, who receives them, how long they are kept (access only)
manifest.jws    SHA-256 of every file, signed by this service (keys: /.well-known/jwks.json)

What you viewed, bought, searched or wrote is not here: it never left your device. Decisions about single placements
are stored without any mark of whom they were for, so there is nothing of yours to be found among them.
""",
    "zh-CN": """本服务持有的关于您的内容
========================
subject.json    此设备登记时您所声明的内容，以及其用于签名的公钥
consents.json   关于同意的每一次决定；receipts/ 中是已签名的回执
log.json        可打开透明日志中与您有关条目的内容：只有您和本服务持有
requests.json   您提出过的请求及答复
ledger.json     在此记入此设备的每一次发布及其隐私代价
processing.json 处理数据的目的与方式、接收者、保存期限（仅限查阅请求）
manifest.jws    每个文件的 SHA-256，由本服务签名（公钥见 /.well-known/jwks.json）

您浏览、购买、搜索或书写的内容不在此处：它们从未离开您的设备。单次广告展示的决定在保存时不带有任何对象标记，
因此其中找不到属于您的内容。
""",
}


class Packager:
    """Makes packages.

    Args of the constructor:
        rooms: every room that holds something about subjects.
        purposes: what is said about processing.
        signer: signs manifests.
        controller: who is responsible, in words.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        rooms: Rooms,
        *,
        purposes: PurposesPolicy,
        signer: signing.SigningKey,
        controller: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._rooms, self._purposes, self._signer = rooms, purposes, signer
        self._controller, self._clock = controller, clock

    def make(self, request: Request, proof: LedgerProof | None = None) -> bytes:
        """The package of a request whose subject is known.

        Args:
            request: for access or portability.
            proof: of a ledger identity that is not the enrolled key; used for this answer only.

        Raises:
            TrustError: the proof does not verify.
        """
        handle = str(request.handle)
        proven = None if proof is None else proven_identity(proof, handle, self._clock())
        with self._rooms.database.read() as session:
            files = self._held(session, handle, proven)
        if request.request is RequestKind.ACCESS:
            files["processing.json"] = _json(self._processing())
        files["README.txt"] = _README[request.locale].encode()
        digests = {name: hashlib.sha256(body).hexdigest() for name, body in sorted(files.items())}
        manifest = {"request_id": request.request_id, "request": request.request.value, "files": digests}
        return _zip(files | {MANIFEST: signing.sign(manifest, self._signer, PACKAGE_TYP).encode()})

    def _held(self, session: Transaction, handle: str, proven: bytes | None) -> dict[str, bytes]:
        facts, key = subjects.subject(session, handle), subjects.enrolled_key(session, handle)
        events = subjects.history(session, handle)
        identities = self._rooms.identities(session, handle, proven)
        entries = [entry for identity in identities for entry in self._rooms.ledger.entries_in(session, identity)]
        files = {
            "subject.json": _json({**_subject(facts), "public_key": None if key is None else key.public_key}),
            "consents.json": _json([_event(event) for event in events]),
            "log.json": _json([_opening(entry) for entry in self._rooms.log.about(session, handle)]),
            "requests.json": _json([_request(one) for one in repository.of_subject(session, handle)]),
            "ledger.json": _json([_charge(entry) for entry in entries]),
        }
        return files | {f"receipts/{event.receipt_id}.jws": event.receipt.encode() for event in events}

    def _processing(self) -> dict[str, Any]:
        rules = self._purposes
        return {
            "controller": self._controller,
            "purposes": [rule.model_dump(mode="json") for rule in rules.purposes],
            "withdrawal": rules.withdrawal_method,
            "source": "you, or the app you declared your age band and place in; nothing is bought or inferred",
            "transfers": "none by this service; its operator states where it runs",
            "rights": [kind.value for kind in RequestKind] + ["withdrawal at any time", "complaint to an authority"],
            "automated_decisions": (
                "Ads are chosen by score and a published placement policy (GET /v1/policy/current). With consent the "
                "score is computed on the device from the person's own history; otherwise from the page alone. No "
                "decision has legal or similarly significant effects, and no price depends on a score."
            ),
        }


def _subject(facts: SubjectFacts | None) -> dict[str, Any]:
    return {} if facts is None else {**asdict(facts), "age_band": facts.age_band.value}


def _event(event: StoredEvent) -> dict[str, Any]:
    return {
        "receipt_id": event.receipt_id,
        "purpose": event.purpose.value,
        "state": event.state.value,
        "event_time": event.event_time,
        "valid_until": event.valid_until,
        "notice_digest": event.notice_digest,
        "locale": event.locale,
        "surface": event.surface,
        "actor": event.actor,
        "method": event.method.value,
        "log_seq": event.log_seq,
    }


def _opening(entry: StoredEntry) -> dict[str, Any]:
    """A leaf with what opens it, so that the person can check it against any checkpoint.

    Who in office acted is a role here: the name of an employee is not the subject's data (CJEU C-579/21). Such a leaf
    is checked by its hash.
    """
    opened, leaf = entry.opening, json.loads(entry.leaf.encode())
    role, named, _ = entry.leaf.actor.partition(":")
    found: dict[str, Any] = {"leaf": leaf | {"actor": role}, "leaf_hash": text_of(entry.leaf_hash)}
    if named:
        found["holder_withheld"] = True
    if opened is not None:
        salts = {"salt": opened.salt, "subject_salt": opened.subject_salt}
        found |= {name: None if salt is None else text_of(salt) for name, salt in salts.items()}
        found["record"] = json.loads(opened.record)
    return found


def _request(request: Request) -> dict[str, Any]:
    return {
        "request_id": request.request_id,
        "request": request.request.value,
        "details": request.details,
        "status": request.status.value,
        "law": request.law,
        "received_at": request.received_at,
        "due_at": request.due_at,
        "completed_at": request.completed_at,
        "acknowledgement": request.acknowledgement,
    }


def _charge(entry: Entry) -> dict[str, Any]:
    return {
        "cause": entry.cause,
        "run_id": entry.run_id,
        "kind": entry.kind.value,
        "use": entry.use.model_dump(mode="json", exclude_none=True),
        "period": entry.period,
        "day": entry.day,
        "settled": entry.settled,
        "epsilon": number(entry.epsilon),
        "rho": None if entry.rho is None else number(entry.rho),
        "delta": entry.delta,
    }


def _json(value: Mapping[str, Any] | Sequence[Any]) -> bytes:
    return (json.dumps(value, ensure_ascii=False, indent=1) + "\n").encode()


def _zip(files: Mapping[str, bytes]) -> bytes:
    """Always the same bytes for the same files."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), body, zipfile.ZIP_DEFLATED)
    return target.getvalue()
