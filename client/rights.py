"""The rights of a data subject, exercised from the device. Owns their order: ask, verify, keep, act.

An erasure is complete in two places: the service destroys what it holds and signs for it, then this device destroys its
own key and records. What was spent of the budget stays known here (the ledger's tombstone) and there, so that enrolling
again refills nothing. The acknowledgement says which (ε, δ) bound what remains in released models.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

from client.agent import Agent
from client.requests import AskedRequest
from common.errors import ConsentRefused, MalformedInput, TrustError
from common.taxonomy import AgeBand, RefusalReason, RequestKind, RequestStatus
from common.wire.documents import open_document
from common.wire.requests import RequestAcknowledgement
from common.wire.subject import SubjectCancellation, SubjectRead, SubjectRequest


class _Acknowledged(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")
    acknowledgement: str


class Rights:
    """One device's requests."""

    def __init__(self, agent: Agent) -> None:
        """Ask through ``agent``."""
        self._agent = agent

    def ask(
        self,
        kind: RequestKind,
        *,
        age_band: AgeBand | None = None,
        lift: bool = False,
        locale: Literal["en", "zh-CN"] = "en",
    ) -> AskedRequest:
        """Make a request; its signed acknowledgement is verified and kept. After an erasure this device is empty.

        Args:
            kind: what is asked for.
            age_band: the corrected declaration, for a rectification.
            lift: end a restriction or an objection.
            locale: language of the answer.

        Raises:
            ConsentRefused: this device has not enrolled, so there is nobody to ask for.
            EgressRefused, MalformedInput, ServiceUnreachable: it was not received.
            TrustError: what came back is no acknowledgement of this request; here nothing is erased then.
        """
        agent = self._agent
        if agent.handle is None:
            raise ConsentRefused(RefusalReason.UNKNOWN_SUBJECT)
        message = SubjectRequest(handle=agent.handle, request=kind, age_band=age_band, lift=lift, locale=locale)
        asked = self._keep(agent.ask(message, _Acknowledged).acknowledgement, kind=kind)
        if kind is RequestKind.ERASURE and asked.status is not RequestStatus.DENIED:
            agent.node.erase(agent.device)
        return asked

    def status(self, request_id: str) -> AskedRequest:
        """How a request stands now; a device that is erased asks by the request's id alone."""
        held = self._agent.node.requests.one(self._agent.device, request_id)
        what: Literal["request", "acknowledgement"] = "request" if self._agent.handle else "acknowledgement"
        answer = self._agent.ask(SubjectRead(what=what, request_id=request_id), _Acknowledged)
        return self._keep(answer.acknowledgement, kind=held.request, request_id=request_id)

    def cancel(self, request_id: str) -> AskedRequest:
        """Take back a request that is still pending."""
        held = self._agent.node.requests.one(self._agent.device, request_id)
        answer = self._agent.ask(SubjectCancellation(request_id=request_id), _Acknowledged)
        return self._keep(answer.acknowledgement, kind=held.request, request_id=request_id)

    def package(self, request_id: str) -> bytes:
        """The archive of a completed access or portability request.

        Raises:
            MalformedInput: the service refused, or did not send an archive.
        """
        self._agent.node.requests.one(self._agent.device, request_id)
        data = self._agent.send(SubjectRead(what="package", request_id=request_id))
        if not data.startswith(b"PK"):
            raise MalformedInput("the service did not answer as it should")
        return data

    def _keep(self, jws: str, *, kind: RequestKind, request_id: str | None = None) -> AskedRequest:
        said = self._agent.trusting(lambda keys: open_document(jws, RequestAcknowledgement, keys))
        if said.request is not kind or request_id not in (None, said.request_id):
            raise TrustError("the service acknowledged another request than this one")
        asked = AskedRequest(
            device=self._agent.device,
            request_id=said.request_id,
            request=said.request,
            status=said.status,
            law=said.law,
            received_at=said.received_at,
            due_at=said.due_at,
            completed_at=said.completed_at,
            explanation="" if said.remains is None else said.remains.explanation,
            acknowledgement=jws,
        )
        self._agent.node.requests.keep(asked)
        return asked
