"""What is shown, to be reviewed, and counted. Owns the words of behaviour, placements, campaigns and results."""

from __future__ import annotations

from enum import StrEnum


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


class DecisionMode(StrEnum):
    """How a placement was chosen."""

    CONTEXTUAL = "contextual"
    ON_DEVICE = "on_device"
    PRIVATE_PICK = "private_pick"


class FollowUp(StrEnum):
    """Confirmed follow-ups of a placement."""

    IMPRESSION = "impression"
    CLICK = "click"
    CONVERSION = "conversion"
    CLOSE = "close"


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
