"""What noise protects, and whom one must trust. Owns the words of the privacy ledger."""

from __future__ import annotations

from enum import StrEnum

from common.taxonomy.people import Purpose


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


class CapState(StrEnum):
    """Where a privacy officers' bound on ε stands."""

    PROPOSED = "proposed"
    IN_FORCE = "in_force"
    REPLACED = "replaced"
    REJECTED = "rejected"
    EXPIRED = "expired"
