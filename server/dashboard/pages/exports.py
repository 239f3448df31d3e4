"""Exports: lists as files, and the evidence bundle."""

from __future__ import annotations

from collections.abc import Iterator
from tempfile import SpooledTemporaryFile
from typing import IO, Annotated, BinaryIO, Final, cast

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse

from common.errors import NotFound
from server.dashboard.desk import HEADERS, Desk, DeskDep
from server.evidence.bundle import write_bundle
from server.reports.exports import EXPORTS, MEDIA, Format, export

router = APIRouter()
_SPOOL_BYTES: Final = 16 << 20
_PIECE_BYTES: Final = 1 << 18


@router.get("/exports")
def exports(desk: DeskDep) -> Response:
    """What can be taken away."""
    return desk.page("exports.html", lists=EXPORTS, size=desk.services.log.size(), key=desk.services.signer.public)


@router.get("/exports/{name}")
def download(
    desk: DeskDep,
    name: str,
    format: Annotated[Format, Query()] = "csv",  # noqa: A002 - the parameter's public name
    people: Annotated[bool, Query()] = True,  # noqa: FBT002 - a query parameter
) -> Response:
    """One list, or the bundle, as a file."""
    if name != "bundle" and name not in EXPORTS:
        raise NotFound("there is no such export")
    desk.note_read("export", export=name, format=format)
    if name == "bundle":
        return _bundle(desk, people=people)
    body = export(desk.services, name, format, desk.say)
    return _file(body, f"reticent-{name}.{format}", MEDIA[format])


def _bundle(desk: Desk, *, people: bool) -> Response:
    """The evidence bundle; past ``_SPOOL_BYTES`` it waits on the disk, not in memory."""
    spool = SpooledTemporaryFile(max_size=_SPOOL_BYTES)  # noqa: SIM115 - closed when it was sent
    write_bundle(desk.services, cast("BinaryIO", spool), personal=people)
    spool.seek(0)
    headers = {**HEADERS, "content-disposition": 'attachment; filename="reticent-evidence.zip"'}
    return StreamingResponse(_pieces(spool), media_type="application/zip", headers=headers)


def _pieces(spool: IO[bytes]) -> Iterator[bytes]:
    with spool:
        while piece := spool.read(_PIECE_BYTES):
            yield piece


def _file(body: bytes, name: str, media_type: str) -> Response:
    headers = {**HEADERS, "content-disposition": f'attachment; filename="{name}"'}
    return Response(body, media_type=media_type, headers=headers)
