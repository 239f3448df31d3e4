"""The transparency log over HTTP: checkpoint and proofs for everybody, entries and exports for people in office."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from common.taxonomy import LogKind
from policies.notices import Locale
from server.api.deps import ServicesDep, declared, document
from server.api.paging import PageDep, cut, link
from server.evidence.bundle import bundle_stream
from server.transparency.export import ExportFormat, as_csv, as_jsonl, as_pdf, entries_of
from server.transparency.keys import published
from server.transparency.schemas import AuditEvent, AuditEvents, ConsistencyAnswer, InclusionAnswer

router = APIRouter()
_EVENTS: Final = "audit-events"
_INDEX_MAX: Final = 2**53
_TYPES: Final = {
    ExportFormat.JSONL: "application/jsonl",
    ExportFormat.CSV: "text/csv; charset=utf-8",
    ExportFormat.PDF: "application/pdf",
    ExportFormat.BUNDLE: "application/zip",
}
_EXPORTED: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {"application/jsonl": {}, "text/csv": {}, "application/pdf": {}, "application/zip": {}}}
}
_Index = Annotated[int, Query(ge=0, le=_INDEX_MAX)]


class KeySet(BaseModel):
    """RFC 7517 key set. ``status`` is ``active`` or ``retired``; ``succession`` is the document that named the key."""

    keys: tuple[dict[str, str], ...]


@router.get("/.well-known/jwks.json", tags=["public documents"])
def jwks(services: ServicesDep) -> KeySet:
    """Every key that has signed models, catalogues, policies, permits, receipts and checkpoints, the newest first."""
    found = []
    for stored in reversed(published(services.database)):
        key = {"kty": "OKP", "crv": "Ed25519", "use": "sig", "kid": stored.key.kid, "x": stored.key.x}
        key["status"] = "active" if stored.retired_at is None else "retired"
        found.append(key | ({"succession": stored.succession} if stored.succession else {}))
    return KeySet(keys=tuple(found))


@router.get("/v1/log/checkpoint", tags=["public documents"], response_class=Response, responses=declared("text/plain"))
def checkpoint(request: Request, services: ServicesDep) -> Response:
    """The newest checkpoint: a C2SP signed note of how long the log is and what its root is. Keep it."""
    return document(request, services.log.checkpoint().encode(), "text/plain; charset=utf-8", max_age_s=5)


@router.get("/v1/log/proof/inclusion", tags=["public documents"])
def inclusion(
    services: ServicesDep,
    seq: _Index,
    size: Annotated[int | None, Query(ge=1, le=_INDEX_MAX, description="Of the log; by default all of it.")] = None,
) -> InclusionAnswer:
    """Proof that an entry is in the log."""
    return InclusionAnswer.of(services.log.inclusion(seq, size))


@router.get("/v1/log/proof/consistency", tags=["public documents"])
def consistency(
    services: ServicesDep,
    old: Annotated[int, Query(ge=1, le=_INDEX_MAX)],
    new: Annotated[int | None, Query(ge=1, le=_INDEX_MAX, description="By default the present size.")] = None,
) -> ConsistencyAnswer:
    """Proof that the log of ``new`` entries begins with the log of ``old`` ones."""
    return ConsistencyAnswer.of(services.log.consistency(old, new))


@router.get("/v1/audit/events", tags=["audit"])
def events(
    request: Request, response: Response, services: ServicesDep, wanted: PageDep, kind: LogKind | None = None
) -> AuditEvents:
    """Entries of the log with what opens them, oldest first. Reading them is itself an entry."""
    place = wanted.after(_EVENTS, (int,))
    rows = services.log.events(None if place is None else int(place[0]), wanted.rows, kind)
    page = cut(rows, wanted, _EVENTS, lambda entry: (entry.leaf.seq,))
    link(request, response, page)
    return AuditEvents(events=tuple(AuditEvent.of(entry) for entry in page.items), next_cursor=page.next_cursor)


@router.get("/v1/audit/export", tags=["audit"], response_class=Response, responses=_EXPORTED)
def export(
    services: ServicesDep,
    form: Annotated[ExportFormat, Query(alias="format")] = ExportFormat.JSONL,
    kind: LogKind | None = None,
    locale: Locale = "en",
) -> Response:
    """The whole log as a file; ``bundle`` is the evidence bundle, a zip that verifies offline."""
    if form is ExportFormat.BUNDLE:
        headers = {"content-disposition": 'attachment; filename="reticent-evidence.zip"'}
        return StreamingResponse(bundle_stream(services), media_type=_TYPES[form], headers=headers)
    note, entries = services.log.checkpoint(), entries_of(services.log, kind)
    headers = {"content-disposition": f'attachment; filename="transparency-log.{form.value}"'}
    if form is ExportFormat.PDF:
        return Response(as_pdf(note, entries, locale), media_type=_TYPES[form], headers=headers)
    body = as_jsonl(note, entries) if form is ExportFormat.JSONL else as_csv(entries)
    return StreamingResponse(body, media_type=_TYPES[form], headers=headers)
