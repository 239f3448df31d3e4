"""What people agree to, ask for and are told. Owns the words of consent, refusals and data subjects' requests."""

from __future__ import annotations

from enum import StrEnum


class Purpose(StrEnum):
    """What a person can agree to, each alone. Contextual placement is not consent-based and has no purpose id here."""

    TRAIN_LOCAL = "train.local"
    TRAIN_CONTRIBUTE = "train.contribute"
    PLACE_PERSONALISED = "place.personalised"
    MEASURE_AGGREGATE = "measure.aggregate"


class ConsentState(StrEnum):
    """States of one (subject, purpose) pair; only GIVEN can permit."""

    UNKNOWN = "unknown"
    REQUESTED = "requested"
    GIVEN = "given"
    REFUSED = "refused"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"
    SUPERSEDED = "superseded"
    INVALIDATED = "invalidated"


class ConsentMethod(StrEnum):
    """How a decision about consent came about (TS 27560: the form of the person's act)."""

    ACCEPT_BUTTON = "accept_button"
    REJECT_BUTTON = "reject_button"
    TOGGLE = "toggle"
    GPC = "gpc"
    GPP = "gpp"
    API = "api"
    OFFICER = "officer"
    CLOCK = "clock"
    REQUEST = "subject_request"


class InvalidationReason(StrEnum):
    """Why a recorded grant never was, or no longer is, a valid consent."""

    NO_EVIDENCE = "no-evidence"
    DEFECTIVE_NOTICE = "defective-notice"
    NOT_FREELY_GIVEN = "not-freely-given"
    NOT_AN_ADULT = "not-an-adult"


class AgeBand(StrEnum):
    """Declared by the person or the app, never inferred. Everything but ADULT is protected."""

    ADULT = "adult"
    MINOR = "minor"
    UNKNOWN = "unknown"


class RefusalReason(StrEnum):
    """Why a gate said no. Shown to people and to app backends; never free text."""

    UNKNOWN_SUBJECT = "unknown-subject"
    MALFORMED = "malformed"
    NO_CONSENT = "consent-required"
    REFUSED = "consent-refused"
    WITHDRAWN = "consent-withdrawn"
    EXPIRED = "consent-expired"
    SUPERSEDED = "notice-superseded"
    MISSING_PREREQUISITE = "prerequisite-missing"
    MINOR = "minor-protected"
    SIGNAL_OPT_OUT = "signal-opt-out"
    KILL_SWITCH = "kill-switch"
    OBJECTED = "objected"
    RESTRICTED = "processing-restricted"
    INVALIDATED = "consent-invalidated"
    BUDGET_EXHAUSTED = "budget-exhausted"
    NOT_DECLARED = "message-not-declared"
    BAD_FORM = "form-not-as-declared"
    TOO_OFTEN = "too-often"
    UNVERIFIED = "not-verified"
    PICK_OUTDATED = "pick-outdated"
    PICK_REDRAWN = "pick-redrawn"
    PICK_STOPPED = "pick-stopped"
    LATE = "late"
    UNAVAILABLE = "unavailable"

    @property
    def explanation(self) -> str:
        """One plain sentence for people."""
        return _EXPLANATIONS[self]


_EXPLANATIONS: dict[RefusalReason, str] = {
    RefusalReason.UNKNOWN_SUBJECT: "This subject is not known, so nothing personal may be used.",
    RefusalReason.MALFORMED: "The request could not be understood, so nothing personal may be used.",
    RefusalReason.NO_CONSENT: "No consent was given for this purpose.",
    RefusalReason.REFUSED: "Consent for this purpose was refused.",
    RefusalReason.WITHDRAWN: "Consent for this purpose was withdrawn.",
    RefusalReason.EXPIRED: "Consent for this purpose has expired; ask again.",
    RefusalReason.SUPERSEDED: "The privacy notice has changed since consent was given; ask again.",
    RefusalReason.MISSING_PREREQUISITE: "A purpose that this one needs is not consented to.",
    RefusalReason.MINOR: "Only people who declared to be adults get personalised treatment.",
    RefusalReason.SIGNAL_OPT_OUT: "An opt-out signal was received.",
    RefusalReason.KILL_SWITCH: "A privacy officer has stopped this purpose.",
    RefusalReason.OBJECTED: "The person has objected to personalised treatment.",
    RefusalReason.RESTRICTED: "The person has had the processing of their data restricted.",
    RefusalReason.INVALIDATED: "The recorded consent was found not to be valid; ask again.",
    RefusalReason.BUDGET_EXHAUSTED: "The privacy budget does not allow another release.",
    RefusalReason.NOT_DECLARED: "This kind of message is not declared in the egress policy.",
    RefusalReason.BAD_FORM: "The message does not have its declared size, shape or type.",
    RefusalReason.TOO_OFTEN: "As many of these messages as the egress policy allows have left within a day.",
    RefusalReason.UNVERIFIED: "A signature or digest did not verify.",
    RefusalReason.PICK_OUTDATED: "The private pick is not from the public list that is in force.",
    RefusalReason.PICK_REDRAWN: "Another private pick was given for this list before; only the first one counts.",
    RefusalReason.PICK_STOPPED: "The person has ended the use of private picks that were given.",
    RefusalReason.LATE: "There was no answer in the time that the caller gave, so nothing personal is used.",
    RefusalReason.UNAVAILABLE: "The state needed for a decision could not be read, which means no.",
}


class RequestKind(StrEnum):
    """What a data subject may ask for (GDPR Art. 15-18, 20, 21; PIPL Art. 44-47)."""

    ACCESS = "access"
    PORTABILITY = "portability"
    ERASURE = "erasure"
    RECTIFICATION = "rectification"
    RESTRICTION = "restriction"
    OBJECTION = "objection"


class RequestStatus(StrEnum):
    """Where a data subject's request stands (OpenDSR's words, and a refusal with its reason)."""

    PENDING = "pending"
    IN_PROGRESS = "in_progress"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    DENIED = "denied"


class DenialReason(StrEnum):
    """Why a data subject's request was denied; closed, because free text about a person would leak."""

    NOT_VERIFIED = "identity-not-verified"
    UNFOUNDED = "manifestly-unfounded"
    LEGAL_DUTY = "legal-duty-to-keep"
    NOT_HELD = "nothing-is-held"
