"""The catalogue of problems. Owns what each ``type`` of an error answer means, in words for people.

Everything is derived from the tree of errors and the closed list of refusals: a problem cannot be missing here.
"""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel

from common.errors import ReticentError
from common.taxonomy import RefusalReason
from policies.notices import Locale
from server.api import errors
from server.api.deps import declared, document
from server.decisions import wording
from server.words import words

router = APIRouter(tags=["public documents"])
ROOM: Final = "api"

_FRAMEWORK: Final = {
    ("MalformedInput", 400): "The body is not JSON, or a value is not of the form that is described.",
    ("MethodNotAllowed", 405): "This endpoint does not take this method.",
    ("BodyTooLarge", 413): "The body is longer than this endpoint takes.",
    ("InvalidRequest", 422): "The request does not have its declared form; `errors` says where.",
    ("InternalError", 500): "The service failed; nothing was changed by this request.",
}


class ProblemKind(BaseModel):
    """One kind of problem."""

    type: str
    title: str
    status: int
    meaning: str


class ProblemCatalogue(BaseModel):
    """Every kind of problem that an answer can name."""

    problems: tuple[ProblemKind, ...]


@router.get("/v1/problems", response_model=ProblemCatalogue, responses=declared("application/json"))
def problems(request: Request, locale: Annotated[Locale, Query()] = "en") -> Response:
    """What each problem type means."""
    return document(request, catalogue(locale).model_dump_json().encode(), "application/json")


def catalogue(locale: Locale) -> ProblemCatalogue:
    """Every kind of problem, in one language, by status and name."""
    say = words(locale, ROOM)
    kinds = [
        ProblemKind(type=errors.problem_type(name), title=name, status=status, meaning=say(text))
        for (name, status), text in {**_own(), **_FRAMEWORK}.items()
    ]
    refusals = [
        ProblemKind(
            type=errors.problem_type(reason.value),
            title="Refused",
            status=403,
            meaning=say(wording.explanation(reason, locale)),
        )
        for reason in RefusalReason
    ]
    return ProblemCatalogue(problems=tuple(sorted(kinds + refusals, key=lambda kind: (kind.status, kind.type))))


def _own() -> dict[tuple[str, int], str]:
    """Errors of ours that have a status of their own: name and status, with the first line of what they mean."""
    found = {kind: errors.STATUS.get(kind) or errors.status_of(kind.__new__(kind)) for kind in _tree(ReticentError)}
    return {
        (kind.__name__, status): (kind.__doc__ or "").split("\n", 1)[0]
        for kind, status in found.items()
        if status < 500 or kind in errors.STATUS
    }


def _tree(root: type[ReticentError]) -> list[type[ReticentError]]:
    """The errors that a service can meet: those of the shared tree and of its own rooms, whatever else is imported."""
    known = [child for child in root.__subclasses__() if child.__module__.startswith(("common.", "server."))]
    return [root, *(found for child in known for found in _tree(child))]
