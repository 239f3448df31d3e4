"""Closed vocabularies. Owns every enumeration that crosses a room; words mean what docs/architecture.md says."""

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


class EventKind(StrEnum):
    """Kinds of raw behaviour a device records."""

    VIEW = "view"
    CLICK = "click"
    FAVOURITE = "favourite"
    CART = "cart"
    PURCHASE = "purchase"
    SEARCH = "search"
    COMMENT = "comment"
    IMPRESSION = "impression"


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
    RefusalReason.LATE: "There was no answer in the time that the caller gave, so nothing personal is used.",
    RefusalReason.UNAVAILABLE: "The state needed for a decision could not be read, which means no.",
}


class SignalKind(StrEnum):
    """Privacy signals that a request may carry."""

    GPC = "gpc"
    TCF = "tcf"
    GPP = "gpp"
    US_PRIVACY = "us_privacy"


class SignalReason(StrEnum):
    """Why a privacy signal opposes a purpose. The first group is what was said, the second what cannot be read."""

    OPT_OUT = "opt-out"
    SALE_OPT_OUT = "sale-opt-out"
    SHARING_OPT_OUT = "sharing-opt-out"
    TARGETED_ADVERTISING_OPT_OUT = "targeted-advertising-opt-out"
    NO_NOTICE = "no-notice"
    INCONSISTENT = "inconsistent"
    KNOWN_CHILD = "known-child"
    SERVICE_PROVIDER = "service-provider-mode"
    NO_CONSENT = "no-consent"
    NO_VENDOR_CONSENT = "no-vendor-consent"
    NO_DISCLOSED_VENDORS = "no-disclosed-vendors"
    NO_GPC_SUBSECTION = "no-gpc-subsection"
    VENDOR_NOT_DISCLOSED = "vendor-not-disclosed"
    VENDOR_NOT_CONFIGURED = "vendor-not-configured"
    PUBLISHER_RESTRICTION = "publisher-restriction"
    OUTDATED = "outdated"
    TOO_LONG = "too-long"
    BAD_ALPHABET = "bad-alphabet"
    TRUNCATED = "truncated"
    TRAILING = "trailing-bits"
    BAD_VALUE = "bad-value"
    BAD_DATES = "bad-dates"
    UNSUPPORTED_VERSION = "unsupported-version"
    POLICY_VERSION = "policy-version"
    GLOBAL_SCOPE = "global-scope"
    LEGITIMATE_INTEREST = "legitimate-interest"
    UNKNOWN_SEGMENT = "unknown-segment"
    UNKNOWN_SECTION = "unknown-section"


class DecisionMode(StrEnum):
    """How a placement was chosen."""

    CONTEXTUAL = "contextual"
    ON_DEVICE = "on_device"
    PRIVATE_PICK = "private_pick"


class PrivacyUnit(StrEnum):
    """What one ledger line protects."""

    RECORD = "record"
    USER = "user"


class NeighbouringRelation(StrEnum):
    """Which data sets must look alike."""

    ADD_REMOVE = "add_or_remove_one"
    REPLACE = "replace_one"


class TrustModel(StrEnum):
    """Who must be trusted for the stated ε to hold."""

    LOCAL = "local: no trust in the server"
    DISTRIBUTED = "distributed: secure aggregation and a quorum of honest devices"
    CENTRAL = "central: the aggregation server"


class Mechanism(StrEnum):
    """Named noise adders that the accountant knows."""

    GAUSSIAN = "gaussian"
    POISSON_SUBSAMPLED_GAUSSIAN = "poisson_subsampled_gaussian"
    SKELLAM = "skellam"
    TOP_M = "top_m_randomised_response"
    NONE = "none"


class Profile(StrEnum):
    """Privacy profile of a training. NON_PRIVATE exists for simulations and says so everywhere it appears.

    LAYERED is both: record-level noise on the device, then user-level noise through secure aggregation. Its two
    guarantees are two lines of the ledger, never added up.
    """

    RECORD_LOCAL = "record_local"
    USER_DISTRIBUTED = "user_distributed"
    LAYERED = "layered"
    NON_PRIVATE = "non_private"


class Masking(StrEnum):
    """How an update is hidden from the server beside its noise."""

    NONE = "none"
    SECURE_AGGREGATION = "secure_aggregation"


class ReleaseKind(StrEnum):
    """What a device releases: each is a line of its own in the ledger."""

    TRAINING_UPDATE = "training_update"
    CLIP_QUANTILE = "clip_quantile"
    CALIBRATION = "calibration"
    EVALUATION = "evaluation"
    FEATURE_HISTOGRAM = "feature_histogram"
    PRIVATE_PICK = "private_pick"
    PLACEMENT_COUNTS = "placement_counts"

    @property
    def purpose(self) -> Purpose:
        """The consent purpose that permits it."""
        if self is ReleaseKind.PRIVATE_PICK:
            return Purpose.PLACE_PERSONALISED
        counted = self in {ReleaseKind.FEATURE_HISTOGRAM, ReleaseKind.PLACEMENT_COUNTS}
        return Purpose.MEASURE_AGGREGATE if counted else Purpose.TRAIN_CONTRIBUTE


class Task(StrEnum):
    """What a round is for."""

    TRAIN = "train"
    CALIBRATE = "calibrate"
    EVALUATE = "evaluate"
    HISTOGRAM = "histogram"
    MEASURE = "measure"

    @property
    def purpose(self) -> Purpose:
        """The consent purpose that a round of this task needs."""
        counts = self in {Task.HISTOGRAM, Task.MEASURE}
        return Purpose.MEASURE_AGGREGATE if counts else Purpose.TRAIN_CONTRIBUTE


class Dimension(StrEnum):
    """By what results of placements are counted."""

    CAMPAIGN = "campaign"
    GROUP = "group"
    ARM = "arm"


class Metric(StrEnum):
    """What is counted of placements, each per device and day within public bounds."""

    VIEWS = "views"
    CLICKS = "clicks"
    CONVERSIONS = "conversions"
    VALUE = "value"
    REACH = "reach"
    UNSEEN = "unseen"
    PREDICTED = "predicted"
    DEVICES = "devices"


class Stage(StrEnum):
    """Stages of one secure aggregation, in order."""

    ADVERTISE = "advertise"
    SHARE = "share"
    MASK = "mask"
    CONFIRM = "confirm"
    REVEAL = "reveal"


class ModelFamily(StrEnum):
    """Families of the click/conversion model Y = f(X)."""

    LOGISTIC = "hashed_logistic"
    WIDE_DEEP = "wide_deep"


class ServerOptimiser(StrEnum):
    """How the server applies the mean update."""

    FEDAVG = "fedavg"
    FEDADAM = "fedadam"
    MOMENTUM = "momentum"


class FeatureBlock(StrEnum):
    """Context features may be used without consent; personal ones never leave the device."""

    CONTEXT = "context"
    PERSONAL = "personal"


class Role(StrEnum):
    """Roles of API keys, default deny."""

    DEVICE = "device"
    APP_BACKEND = "app_backend"
    EXCHANGE = "exchange"
    ADVERTISER = "advertiser"
    PRIVACY_OFFICER = "privacy_officer"
    AUDITOR = "auditor"
    ADMIN = "admin"


class LogKind(StrEnum):
    """What an entry of the transparency log is about."""

    CONSENT = "consent"
    NOTICE = "notice"
    CHARGE = "privacy.charge"
    CAP = "privacy.cap"
    POLICY = "policy"
    CATALOGUE = "catalogue"
    MODEL = "model"
    KEY = "key"
    CONTROL = "control"
    SUBJECT_REQUEST = "subject.request"
    PRIVILEGED_READ = "privileged.read"
    MEASUREMENT = "measurement"
    CAMPAIGN = "campaign"
    EXPERIMENT = "experiment"
    PICK = "privacy.pick"


class Tampering(StrEnum):
    """What a verifier finds where a log is not what was signed."""

    EDIT = "edit"
    DELETION = "deletion"
    REORDERING = "reordering"
    TRUNCATION = "truncation"
    FORK = "fork"
    BACK_DATING = "back-dating"
    FORGERY = "forgery"


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


class CapState(StrEnum):
    """Where a privacy officers' bound on ε stands."""

    PROPOSED = "proposed"
    IN_FORCE = "in_force"
    REPLACED = "replaced"
    REJECTED = "rejected"
    EXPIRED = "expired"


class ControlScope(StrEnum):
    """What a kill switch stops."""

    PURPOSE = "purpose"
    CAMPAIGN = "campaign"
    JURISDICTION = "jurisdiction"


class FollowUp(StrEnum):
    """Confirmed follow-ups of a placement."""

    IMPRESSION = "impression"
    CLICK = "click"
    CONVERSION = "conversion"
    CLOSE = "close"


class Decline(StrEnum):
    """All that a node ever says when it sends no update: a closed name, no text of its own.

    What depends on the invitation is named, so that a server can mend it. What depends on devices is not told apart:
    consent, budget and failures of storage are nobody's business but the owner's.
    """

    MALFORMED = "MalformedInput"
    UNKNOWN_SIGNER = "UnknownSigner"
    UNVERIFIED = "TrustError"
    SPEC = "SpecMismatch"
    DIGEST = "DigestMismatch"
    SHAPE = "ShapeMismatch"
    DTYPE = "DtypeMismatch"
    NON_FINITE = "NonFiniteValue"
    RANGE = "OutOfRange"
    POLICY = "PolicyError"
    REPLAYED = "Replayed"
    STAGE = "OutOfStage"
    PROTOCOL = "ProtocolViolation"
    NOTHING_TO_SEND = "NothingToSend"
    FAILURE = "DeviceFailure"


class PlanKind(StrEnum):
    """What is reviewed before it can be shown."""

    CAMPAIGN = "campaign"
    CREATIVE = "creative"


class ReviewState(StrEnum):
    """Where a campaign or a creative stands; only what is approved can be shown."""

    DRAFT = "draft"
    SUBMITTED = "submitted"
    APPROVED = "approved"
    REJECTED = "rejected"
    PAUSED = "paused"
    ARCHIVED = "archived"


class PlanMove(StrEnum):
    """What moves a campaign or a creative from one state to another; the last two are a reviewer's."""

    EDIT = "edit"
    SUBMIT = "submit"
    PAUSE = "pause"
    RESUME = "resume"
    ARCHIVE = "archive"
    APPROVE = "approve"
    REJECT = "reject"


class RejectionReason(StrEnum):
    """Why a reviewer refused a campaign or a creative, or took it down."""

    UNLAWFUL = "unlawful-content"
    MISLEADING = "misleading"
    SPECIAL_CATEGORY = "special-category"
    DENIED_CATEGORY = "denied-category"
    LANDING_PAGE = "landing-page"
    INCOMPLETE = "incomplete"
    QUALITY = "quality"


class ChangeKind(StrEnum):
    """What a proposal would change."""

    PLACEMENT_POLICY = "placement_policy"
    EXPERIMENT = "experiment"
    CREATIVE = "creative"
    BUDGET = "budget"


class ChangeState(StrEnum):
    """Where a proposal stands."""

    PROPOSED = "proposed"
    APPROVED = "approved"
    REJECTED = "rejected"
    EXPIRED = "expired"
