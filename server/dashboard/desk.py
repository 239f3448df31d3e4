"""What every page is made with: the visitor, their language, the services. Owns rendering and going back."""

from __future__ import annotations

import datetime as dt
import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Annotated, Any, Final
from urllib.parse import urlencode

from fastapi import Depends, Request
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import BaseLoader, Environment, StrictUndefined, TemplateNotFound
from markupsafe import Markup

from common.taxonomy import LogKind, Role
from policies.notices import Locale
from server.api.deps import ServicesDep
from server.api.services import Services
from server.dashboard.charts import number
from server.dashboard.door import signed_in
from server.dashboard.menu import menu
from server.dashboard.sessions import Visitor
from server.transparency.repository import StoredEntry
from server.words import LANGUAGES, Words, chosen, words

LANGUAGE_COOKIE: Final = "reticent_desk_language"
ROOM: Final = "dashboard"
HEADERS: Final = {
    "content-security-policy": "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "cache-control": "no-store",
    "referrer-policy": "same-origin",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
}


@dataclass(frozen=True, slots=True)
class Desk:
    """One request of one visitor."""

    services: Services
    visitor: Visitor
    say: Words
    path: str
    said: str

    @property
    def now(self) -> float:
        """Seconds since the epoch, by the service's clock."""
        return self.services.clock()

    def page(self, template: str, /, *, http_status: int = 200, **values: object) -> HTMLResponse:
        """A page inside the frame."""
        frame = {
            "visitor": self.visitor,
            "menu": menu(self.visitor.role, self.path),
            "said": self.said,
            "may_search": self.visitor.role is not Role.ADMIN,
        }
        return render(template, self.say, http_status=http_status, path=self.path, **frame, **values)

    def back(self, path: str, said: str) -> RedirectResponse:
        """After a form: to a page (GET), which says what was done."""
        return RedirectResponse(f"/desk{path}?{urlencode({'done': said})}", 303, HEADERS)

    def note_read(self, what: str, *, subject: str | None = None, **more: str | int) -> None:
        """Write into the transparency log that this visitor reads about subjects; who was erased is not named.

        **Privacy:** comes before the page; if the log cannot take it, nothing is shown.
        """
        with self.services.database.write() as session:
            record: dict[str, Any] = {"what": what} | more
            known = subject if subject is not None and self.services.signed.known(session, subject) else None
            self.services.log.append(session, LogKind.PRIVILEGED_READ, record, actor=self.visitor.actor, subject=known)


def desk_of(
    request: Request, services: ServicesDep, visitor: Annotated[Visitor, Depends(signed_in)], done: str = ""
) -> Desk:
    """The desk as this visitor has it."""
    said = done if done in DONE else ""
    return Desk(services, visitor, words_for(request), request.url.path, said)


DeskDep = Annotated[Desk, Depends(desk_of)]

DONE: Final[Mapping[str, str]] = {
    "signed-in": "You are signed in.",
    "cap-proposed": "The change is proposed. Raising a cap takes effect when a second officer approves it.",
    "cap-lowered": "The cap is lowered. It holds from now on.",
    "cap-approved": "The change is approved and in force.",
    "cap-rejected": "The change is rejected.",
    "stopped": "Stopped. The next decision and the next round already heed it.",
    "released": "The stop is lifted.",
    "plan-approved": "Approved. What it makes showable is in the next catalogue already.",
    "plan-rejected": "Rejected. It is in no catalogue from now on, and its owner can read why.",
    "plan-paused": "Paused. It is in no catalogue from now on.",
    "plan-resumed": "Resumed. What it makes showable is in the next catalogue already.",
    "change-approved": "The change is agreed and in force.",
    "change-rejected": "The change is rejected.",
    "experiment-stopped": "The experiment is over. The policy in force before it holds for everybody.",
    "placement-removed": "The placement is offered no more.",
    "request-approved": "The request is approved and being carried out.",
    "request-completed": "The request is completed; the person can fetch the answer.",
    "request-denied": "The request is denied; the person can read why.",
}


def words_for(request: Request) -> Words:
    """The words of the language that the reader chose, else of the one their browser asks for."""
    locale = chosen(request.cookies.get(LANGUAGE_COOKIE, ""), request.headers.get("accept-language", ""))
    return words(locale, ROOM, "reports")


def render(template: str, say: Words, *, http_status: int = 200, **values: object) -> HTMLResponse:
    """A template as an answer."""
    other: dict[Locale, str] = {locale: name for locale, name in LANGUAGES.items() if locale != say.locale}
    values = {"said": "", "path": "/desk/"} | values
    html = environment().get_template(template).render(_=say, say=say, other_languages=other, done=DONE, **values)
    return HTMLResponse(html, http_status, HEADERS)


@functools.cache
def environment() -> Environment:
    """Jinja with escaping on, and every name it does not know an error."""
    made = Environment(
        loader=_Templates(), autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined
    )
    made.filters |= {
        "number": number,
        "moment": moment,
        "day": day,
        "epsilon": epsilon,
        "short": short,
        "summary": summary,
    }
    return made


_TELLING: Final = (
    *("event", "what", "request", "status", "purpose", "state", "scope", "target", "unit", "bound", "epsilon_max"),
    *("version", "name", "role", "holder", "run_id", "devices", "reason", "note"),
)
"""What a line about a log entry tells of its record, in this order."""


def moment(seconds: float | None) -> str:
    """A moment, to the minute, UTC."""
    return "–" if seconds is None else dt.datetime.fromtimestamp(seconds, dt.UTC).strftime("%Y-%m-%d %H:%M UTC")


def day(days: int) -> str:
    """A day since the epoch as a date."""
    return dt.datetime.fromtimestamp(days * 86_400, dt.UTC).strftime("%Y-%m-%d")


def epsilon(value: float) -> Markup:
    """ε with three digits; only ever beside what it is relative to (``macros.claim``)."""
    return Markup("ε&nbsp;=&nbsp;{}").format("∞" if value == float("inf") else f"{value:.3g}")


def summary(entry: StoredEntry) -> str:
    """What a log entry says, in one line."""
    if entry.opening is None:
        return ""
    record: dict[str, Any] = json.loads(entry.opening.record)
    names = [name for name in _TELLING if record.get(name) not in {None, ""}] or sorted(record)[:4]
    return " · ".join(f"{name}: {short(str(record[name]), 30)}" for name in names)


def short(text: str, size: int = 12) -> str:
    """The beginning of something long."""
    return text if len(text) <= size + 1 else f"{text[:size]}…"


class _Templates(BaseLoader):
    def get_source(self, environment: Environment, template: str) -> tuple[str, str | None, Any]:  # noqa: ARG002
        try:
            source = (files("server.dashboard") / "templates" / template).read_text("utf-8")
        except OSError:
            raise TemplateNotFound(template) from None
        return source, template, lambda: True
