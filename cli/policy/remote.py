"""Speaks to a running service for ``reticent policy``. Owns requests and how refusals are told; keys are people's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import httpx

from common.errors import InputError, MalformedInput, ServiceUnreachable

TIMEOUT_S: Final = 30.0
KEY_VARIABLE: Final = "RETICENT_API_KEY"


class Office:
    """What a person with a key may ask of the service about policies and experiments."""

    def __init__(self, service: str, key: str, transport: httpx.BaseTransport | None = None) -> None:
        """Ask ``service`` under ``key``; the key comes from the environment, never from a command line.

        Raises:
            InputError: there is no key.
        """
        if not key:
            raise InputError(f"put your API key into {KEY_VARIABLE}; it must be a person's own")
        headers = {"authorization": f"Bearer {key}"}
        self._client = httpx.Client(
            base_url=service, headers=headers, timeout=TIMEOUT_S, trust_env=False, transport=transport
        )

    def propose(self, change: Mapping[str, Any], *, reason: str, evidence: Mapping[str, Any] | None) -> dict[str, Any]:
        """Propose a change."""
        return self._ask("POST", "/v1/changes", {"change": change, "reason": reason, "evidence": evidence})

    def decide(self, number: int, word: str) -> dict[str, Any]:
        """Approve or reject somebody else's proposal."""
        return self._ask("POST", f"/v1/changes/{number}/{word}", None)

    def changes(self) -> list[dict[str, Any]]:
        """The newest proposals."""
        return list(self._ask("GET", "/v1/changes", None)["changes"])

    def change(self, number: int) -> dict[str, Any]:
        """One proposal."""
        return self._ask("GET", f"/v1/changes/{number}", None)

    def rollback(self, version: int | None, *, reason: str) -> dict[str, Any]:
        """Put an earlier placement policy in force again."""
        return self._ask("POST", "/v1/policy/rollback", {"version": version, "reason": reason})

    def stop(self, experiment_id: str, *, reason: str) -> dict[str, Any]:
        """End an experiment."""
        return self._ask("POST", f"/v1/experiments/{experiment_id}/stop", {"reason": reason})

    def report(self, experiment_id: str) -> dict[str, Any]:
        """What an experiment has shown."""
        return self._ask("GET", f"/v1/experiments/{experiment_id}/report", None)

    def campaign(self, campaign_id: str) -> dict[str, Any]:
        """The report of a campaign."""
        return self._ask("GET", f"/v1/reports/campaigns/{campaign_id}", None)

    def policy_in_force(self) -> str:
        """The signed placement policy in force."""
        return self._send("GET", "/v1/policy/current", None).text

    def _ask(self, method: str, path: str, body: Mapping[str, Any] | None) -> dict[str, Any]:
        return dict(self._send(method, path, body).json())

    def _send(self, method: str, path: str, body: Mapping[str, Any] | None) -> httpx.Response:
        """One request.

        Raises:
            ServiceUnreachable: no answer came.
            MalformedInput: the service refused; the text has its problem's name and words.
        """
        try:
            answer = self._client.request(method, path, json=body)
        except httpx.HTTPError:
            raise ServiceUnreachable("the service does not answer") from None
        if answer.is_error:
            raise MalformedInput(_refusal(answer))
        return answer


def _refusal(answer: httpx.Response) -> str:
    try:
        problem = answer.json()
        return f"the service refused: {problem['title']}: {problem['detail']}"
    except (ValueError, KeyError, TypeError):
        return f"the service refused ({answer.status_code})"
