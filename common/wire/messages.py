"""Every message that crosses the device's border. Two unions: Outbound (leaves a device), Inbound (arrives on it).

All are frozen, strict and refuse unknown fields. Arrays travel beside the message (``common.model.arrays``); the
message holds their digest. Nothing here can name a behaviour event: that is the point.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from common.privacy.parameters import MechanismUse, PrivacyStatement, RecordDpParameters
from common.taxonomy import AgeBand, ConsentMethod, FollowUp, Masking, ModelFamily, Profile, Purpose, Task
from common.wire.base import Digest, Handle, Message, ShortText
from common.wire.consent import ConsentReceipt as ConsentReceipt  # noqa: PLC0414 - what crosses the border is named here
from common.wire.consent import ConsentStanding as ConsentStanding  # noqa: PLC0414 - what crosses the border is named here
from common.wire.disclosure import Disclosure
from common.wire.measurement import MeasurementPlan
from common.wire.pick import CandidateList, PickStop, PrivatePick, SlotGroupName
from common.wire.pick_cap import PickCap
from common.wire.placement import Catalogue as Catalogue  # noqa: PLC0414 - what crosses the border is named here
from common.wire.placement import Creative as Creative  # noqa: PLC0414
from common.wire.placement import PlacementPermit as PlacementPermit  # noqa: PLC0414
from common.wire.placement import SlotRequest as SlotRequest  # noqa: PLC0414
from common.wire.secagg import SecAggInbound, SecAggOutbound
from common.wire.subject import SubjectOutbound

# ── Outbound ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class TrainingContribution(Message):
    """The header of a masked update, or of a node's integer sum of several devices' masked updates.

    Holds no example count, loss, metric, timing or budget: each would leak.
    """

    kind: Literal["training_contribution"] = "training_contribution"
    run_id: ShortText
    round_number: int = Field(ge=1)
    spec_digest: Digest
    base_digest: Digest
    length: int = Field(ge=1)
    contributions: int = Field(ge=0)
    release: MechanismUse
    masking: Masking


class SubjectEnrolment(Message):
    """Asks the service for a random handle; carries a public key and declared, coarse facts only."""

    kind: Literal["subject_enrolment"] = "subject_enrolment"
    public_key: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{43}$")]
    app_id: ShortText
    age_band: AgeBand
    jurisdiction: Annotated[str, Field(pattern=r"^[A-Z]{2}(-[A-Z0-9]{1,3})?$")]


class ConsentChange(Message):
    """Grants or refuses purposes under one notice."""

    kind: Literal["consent_change"] = "consent_change"
    handle: Handle
    notice_digest: Digest
    decisions: dict[Purpose, Literal["given", "refused"]]
    locale: Literal["en", "zh-CN"]
    surface: ShortText
    method: ConsentMethod = ConsentMethod.API


class ConsentWithdrawal(Message):
    """Withdraws purposes, or all of them."""

    kind: Literal["consent_withdrawal"] = "consent_withdrawal"
    handle: Handle
    purposes: tuple[Purpose, ...] | Literal["all"]
    method: ConsentMethod = ConsentMethod.API


class FollowUpReport(Message):
    """Confirms an impression, click or conversion of a contextual placement by its single-use token."""

    kind: Literal["follow_up_report"] = "follow_up_report"
    token: Annotated[str, Field(min_length=16, max_length=1024)]
    follow_up: FollowUp


class DocumentRequest(Message):
    """Fetches a public document, the same bytes for everybody.

    Attributes:
        slot_group: of which list of candidates; a device fetches those of all slot groups.
    """

    kind: Literal["document_request"] = "document_request"
    document: Literal[
        "catalogue",
        "model",
        "model_arrays",
        "placement_policy",
        "notice",
        "keys",
        "candidates",
        "pick_cap",
        "experiment",
    ]
    slot_group: SlotGroupName | None = None


Outbound = Annotated[
    TrainingContribution
    | SecAggOutbound
    | SubjectEnrolment
    | ConsentChange
    | ConsentWithdrawal
    | FollowUpReport
    | SubjectOutbound
    | PrivatePick
    | PickStop
    | DocumentRequest,
    Field(discriminator="kind"),
]

# ── Inbound ──────────────────────────────────────────────────────────────────────────────────────────────────────────


class ModelSpec(Message):
    """Which network, with every public constant that shapes it.

    Attributes:
        contextual_weight: share of the loss given to the contextual view of each record; one record, one gradient.
        base_rate: public click/conversion rate from which the output bias starts.
        wide_scale: public factor on the wide table's output; below 1 it leaves more of a clipped gradient to the
            dense features, which many records share and noise therefore hurts less.
    """

    family: ModelFamily
    spec_digest: Digest
    base_rate: float = Field(gt=0, lt=1)
    contextual_weight: float = Field(default=0.3, ge=0, lt=1)
    wide_scale: float = Field(default=1.0, gt=0, le=10)
    hidden_width: int = Field(default=64, ge=1, le=4096)
    embedding_dim: int = Field(default=4, ge=1, le=256)
    seed: int = Field(default=0, ge=0)


class RoundInvitation(Message):
    """Invites a node's devices to one round; travels signed, with the global arrays beside it.

    Attributes:
        session: 32 random bytes in hex, unique per attempt: an answered session is never answered again.
        task: what is released at the end.
        clipping_norm: C of the update in a secure aggregation; the policy's own unless the policy lets it adapt.
        measurement: what a measurement counts; every other task has none.
    """

    kind: Literal["round_invitation"] = "round_invitation"
    run_id: ShortText
    session: Digest
    task: Task
    round_number: int = Field(ge=1)
    rounds_total: int = Field(ge=1)
    deadline_s: float = Field(gt=0)
    expires_at: int
    model: ModelSpec
    arrays_digest: Digest
    profile: Profile
    parameters: RecordDpParameters
    clipping_norm: float = Field(gt=0, allow_inf_nan=False)
    budget_policy_digest: Digest
    measurement: MeasurementPlan | None = None

    @model_validator(mode="after")
    def _counts_what_it_names(self) -> RoundInvitation:
        if (self.task is Task.MEASURE) != (self.measurement is not None):
            raise ValueError("a measurement says what it counts, and nothing else does")
        return self


class PolicyDocument(Message):
    """A policy document as it is in force at the service: its very text, so that its digest can be compared."""

    kind: Literal["policy_document"] = "policy_document"
    name: Literal["placement"] = "placement"
    digest: Digest
    text: Annotated[str, Field(max_length=262_144)]


class ModelManifest(Message):
    """What the registry signs for one model version."""

    kind: Literal["model_manifest"] = "model_manifest"
    version: int = Field(ge=1)
    run_id: ShortText
    model: ModelSpec
    arrays_digest: Digest
    metrics: dict[str, float]
    privacy: tuple[PrivacyStatement, ...]
    disclosure: Disclosure | None = None
    created_at: ShortText


Inbound = Annotated[
    RoundInvitation
    | SecAggInbound
    | Catalogue
    | PolicyDocument
    | PlacementPermit
    | ModelManifest
    | ConsentReceipt
    | ConsentStanding
    | CandidateList
    | PickCap,
    Field(discriminator="kind"),
]
