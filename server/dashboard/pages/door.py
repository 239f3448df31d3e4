"""Signing in and out, the language, the style sheet."""

from __future__ import annotations

import secrets
from importlib.resources import files
from typing import Annotated, Final

from fastapi import APIRouter, Form, Query, Request, Response
from fastapi.responses import RedirectResponse

from common.errors import NotAllowed, NotAuthenticated, NotFound
from server.api.deps import ServicesDep
from server.dashboard.desk import HEADERS, LANGUAGE_COOKIE, DeskDep, render, words_for
from server.dashboard.door import COOKIE, DOOR_COOKIE, FormRefused
from server.dashboard.sessions import LASTS_S
from server.words import LANGUAGES, chosen

router = APIRouter()
_LOOPBACK: Final = {"127.0.0.1", "::1", "localhost"}
_STATIC: Final = {"desk.css": "text/css; charset=utf-8"}


@router.get("/static/{name}")
def static(name: str) -> Response:
    """The style sheet."""
    if name not in _STATIC:
        raise NotFound("no such file")
    body = (files("server.dashboard") / "static" / name).read_bytes()
    return Response(body, media_type=_STATIC[name], headers={"cache-control": "public, max-age=300"})


@router.get("/language")
def language(request: Request, to: str, back: Annotated[str, Query()] = "/desk/") -> Response:
    """Choose a language; it is remembered in a cookie that says nothing else."""
    answer = RedirectResponse(_own(back), 303, HEADERS)
    _set_cookie(request, answer, LANGUAGE_COOKIE, chosen(to), max_age=31_536_000)
    return answer


@router.get("/sign-in")
def sign_in_page(request: Request, services: ServicesDep, next: Annotated[str, Query()] = "/desk/") -> Response:  # noqa: A002 - the parameter's public name
    """The door."""
    return _door(request, services, wanted=_own(next))


@router.post("/sign-in")
def sign_in(
    request: Request,
    services: ServicesDep,
    api_key: Annotated[str, Form(max_length=200)],
    form_token: Annotated[str, Form(max_length=64)],
    wanted: Annotated[str, Form(max_length=500)] = "/desk/",
) -> Response:
    """Sign in with an API key."""
    if not services.desk.form_token_is(request.cookies.get(DOOR_COOKIE, ""), form_token):
        raise FormRefused("the form was not made for this browser; load the page again")
    try:
        cookie = services.desk.open(api_key.strip())
    except (NotAuthenticated, NotAllowed):
        return _door(request, services, wanted=_own(wanted), refused=True)
    answer = RedirectResponse(_own(wanted), 303, HEADERS)
    _set_cookie(request, answer, COOKIE, cookie, max_age=LASTS_S)
    answer.delete_cookie(DOOR_COOKIE, path="/desk")
    return answer


@router.post("/sign-out")
def sign_out(request: Request, desk: DeskDep) -> Response:
    """End the session."""
    desk.services.desk.close(request.cookies.get(COOKIE, ""))
    answer = RedirectResponse("/desk/sign-in", 303, HEADERS)
    answer.delete_cookie(COOKIE, path="/desk")
    return answer


def _door(request: Request, services: ServicesDep, *, wanted: str, refused: bool = False) -> Response:
    secret = request.cookies.get(DOOR_COOKIE) or secrets.token_urlsafe(16)
    answer = render(
        "sign_in.html",
        words_for(request),
        http_status=401 if refused else 200,
        wanted=wanted,
        refused=refused,
        form_token=services.desk.form_token(secret),
        languages=LANGUAGES,
        insecure=not _secure(request) and request.url.hostname not in _LOOPBACK,
    )
    _set_cookie(request, answer, DOOR_COOKIE, secret)
    return answer


def _set_cookie(request: Request, answer: Response, name: str, value: str, *, max_age: int | None = None) -> None:
    """A cookie that no script reads and no other site sends; only loopback may do without TLS."""
    secure = _secure(request) or request.url.hostname not in _LOOPBACK
    answer.set_cookie(name, value, max_age, path="/desk", secure=secure, httponly=True, samesite="strict")


def _secure(request: Request) -> bool:
    return request.url.scheme == "https"


def _own(path: str) -> str:
    """A page of the desk; anything else becomes the overview."""
    plain = path.startswith("/desk/") and "//" not in path and "\\" not in path and path.isprintable()
    return path if plain else "/desk/"
