"""The desk as an application of its own, mounted at /desk. Owns its errors as pages; decides nothing else."""

from __future__ import annotations

from http import HTTPStatus
from typing import cast
from urllib.parse import urlencode

from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse
from starlette.exceptions import HTTPException

from common.errors import ReticentError
from server.api import errors
from server.api.security import endpoints_of
from server.api.services import Services
from server.dashboard.desk import HEADERS, render, words_for
from server.dashboard.door import SignInNeeded, admit, check_complete
from server.dashboard.pages import PAGES


def create_desk(services: Services) -> FastAPI:
    """The officer's pages over these services."""
    desk = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, dependencies=[Depends(admit)])
    desk.state.services = services
    for router in PAGES:
        desk.include_router(router)
    check_complete(endpoints_of(PAGES))
    desk.add_exception_handler(SignInNeeded, _sign_in)
    desk.add_exception_handler(ReticentError, _ours)
    desk.add_exception_handler(RequestValidationError, _invalid)
    desk.add_exception_handler(HTTPException, _http)
    desk.add_exception_handler(Exception, _unforeseen)
    return desk


async def _sign_in(_request: Request, error: Exception) -> Response:
    wanted = cast("SignInNeeded", error).wanted
    return RedirectResponse("/desk/sign-in" + (f"?{urlencode({'next': wanted})}" if wanted else ""), 303, HEADERS)


async def _ours(request: Request, error: Exception) -> Response:
    found = cast("ReticentError", error)
    return _problem(request, errors.status_of(found), found.name, str(found))


async def _invalid(request: Request, _error: Exception) -> Response:
    return _problem(request, 422, "InvalidRequest", "The form does not have its declared fields.")


async def _http(request: Request, error: Exception) -> Response:
    status = cast("HTTPException", error).status_code
    return _problem(request, status, HTTPStatus(status).phrase, "")


async def _unforeseen(request: Request, error: Exception) -> Response:
    errors.unforeseen(error)  # the log gets its class and place, never its text
    return _problem(request, 500, "InternalError", "")


def _problem(request: Request, status: int, name: str, detail: str) -> Response:
    return render("problem.html", words_for(request), http_status=status, name=name, detail=detail)
