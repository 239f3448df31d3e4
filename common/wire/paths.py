"""Where the service takes each message of a device, and where it serves each public document."""

from __future__ import annotations

from typing import Final

PATHS: Final = {
    "subject_enrolment": "/v1/subjects",
    "consent_change": "/v1/consents",
    "consent_withdrawal": "/v1/consents/withdraw",
    "follow_up_report": "/v1/events",
    "catalogue": "/v1/catalog/current",
    "model": "/v1/models/current",
    "model_arrays": "/v1/models/current/arrays",
    "placement_policy": "/v1/policy/current",
    "notice": "/v1/notices/current",
    "keys": "/.well-known/jwks.json",
}
