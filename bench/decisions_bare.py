"""The yardstick of ``bench.decisions``: a FastAPI endpoint that validates the same body and decides nothing."""

from __future__ import annotations

from fastapi import FastAPI
from pydantic import BaseModel

from server.decisions.request import DecisionBody


class Echo(BaseModel):
    """What it answers."""

    decision_id: str
    slots: int
    locale: str


def bare() -> FastAPI:
    """The application."""
    app = FastAPI()

    @app.post("/v1/decisions")
    async def decide(body: DecisionBody) -> Echo:
        """Validate and answer."""
        return Echo(decision_id="dec_0", slots=len(body.slots), locale=body.locale)

    return app
