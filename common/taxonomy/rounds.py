"""What devices and the server do together. Owns the words of rounds, models and declined invitations."""

from __future__ import annotations

from enum import StrEnum

from common.taxonomy.people import Purpose


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
