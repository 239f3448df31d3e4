"""Who operates the service and what is put on record. Owns the words of roles, controls, changes and the log."""

from __future__ import annotations

from enum import StrEnum


class Role(StrEnum):
    """Roles of API keys, default deny."""

    DEVICE = "device"
    APP_BACKEND = "app_backend"
    EXCHANGE = "exchange"
    ADVERTISER = "advertiser"
    PRIVACY_OFFICER = "privacy_officer"
    AUDITOR = "auditor"
    ADMIN = "admin"


class ControlScope(StrEnum):
    """What a kill switch stops."""

    PURPOSE = "purpose"
    CAMPAIGN = "campaign"
    JURISDICTION = "jurisdiction"


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
