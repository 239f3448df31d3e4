"""What can go wrong. Owns the exceptions of this package: one for each thing a caller can do about it."""

from __future__ import annotations

from dataclasses import dataclass


class ReticentClientError(Exception):
    """Base of all errors here. Its text never holds a key, a handle or a token."""


class Unreachable(ReticentClientError):
    """The service could not be reached, or did not answer in time, as often as it was tried."""


class UnexpectedAnswer(ReticentClientError):
    """The service answered something that this client does not understand."""


@dataclass(eq=False)
class Problem(ReticentClientError):
    """The service said no, and why (RFC 9457).

    Attributes:
        status: of HTTP.
        name: stable name of the error, such as ``NotAuthenticated``.
        type: URI of the kind of problem.
        detail: one sentence.
        reason: closed reason of a refusal, where there is one.
        retry_after_s: when it may be asked again, where the service says so.
    """

    status: int
    name: str
    type: str = ""
    detail: str = ""
    reason: str | None = None
    retry_after_s: float | None = None

    def __str__(self) -> str:
        """Name and sentence."""
        return f"{self.name} ({self.status}): {self.detail}"
