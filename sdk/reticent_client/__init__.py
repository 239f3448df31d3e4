"""Typed client of a Reticent service for app backends: placements, their follow-ups, and consent.

Holds no state about anybody: what it is told goes into one request and nowhere else.
"""

from reticent_client.answers import Accepted, Consent, Creative, Decision, Notice, Position, Receipt, Verdict, Why
from reticent_client.asked import Asked, DeviceMessage, Pick, Signals, Slot
from reticent_client.client import AsyncClient, Client
from reticent_client.errors import Problem, ReticentClientError, UnexpectedAnswer, Unreachable
from reticent_client.flow import Patience

__all__ = [
    "Accepted",
    "Asked",
    "AsyncClient",
    "Client",
    "Consent",
    "Creative",
    "Decision",
    "DeviceMessage",
    "Notice",
    "Patience",
    "Pick",
    "Position",
    "Problem",
    "Receipt",
    "ReticentClientError",
    "Signals",
    "Slot",
    "UnexpectedAnswer",
    "Unreachable",
    "Verdict",
    "Why",
]
