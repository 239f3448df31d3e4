"""What arrives on a device. Owns the numbered steps by which an invitation is verified before it can have any effect.

Models, catalogues and receipts are verified by the recipes they share with the server (``common.model.manifest``,
``client.consent``). Nothing here reads a behaviour event, so a refusal can depend on the invitation alone and may be
named to the server.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from common.crypto.signing import PublicKey
from common.errors import DigestMismatch, OutOfRange, PolicyError, SpecMismatch
from common.model import arrays
from common.model.feature_spec import FeatureSpec
from common.taxonomy import Profile, Task
from common.wire.messages import RoundInvitation
from common.wire.signed import open_invitation
from policies.releases import segments_of
from policies.schema import PrivacyBudgetPolicy

LIFETIME_S_MAX: Final = 7 * 86_400.0
"""An invitation is remembered until it expires, so that it is answered once: it may not be valid for ever."""
DAY_S: Final = 86_400
MEASURED_DAYS_MAX: Final = 31
_MASKED: Final = frozenset({Profile.USER_DISTRIBUTED, Profile.LAYERED})


@dataclass(frozen=True, slots=True)
class Terms:
    """What a device accepts at all, now.

    Attributes:
        keys: pinned keys of the server.
        spec: the feature specification its features are made by.
        budget: its own privacy budget document.
        budget_digest: SHA-256 of that document.
        simulation: True on simulated devices only: allows the non-private profile.
        now: seconds since the epoch.
    """

    keys: Mapping[str, PublicKey]
    spec: FeatureSpec
    budget: PrivacyBudgetPolicy
    budget_digest: str
    simulation: bool
    now: float


@dataclass(frozen=True, slots=True)
class AcceptedRound:
    """An invitation that passed every step, with the weights to start from, float64 ``[d]``."""

    invitation: RoundInvitation
    start: arrays.Vector


def is_masked(invitation: RoundInvitation) -> bool:
    """Whether the round goes through secure aggregation, in five stages, and not by one message."""
    return invitation.task is not Task.TRAIN or invitation.profile in _MASKED


def accept_invitation(jws: str, terms: Terms) -> RoundInvitation:
    """Verify an invitation; every stage of a secure aggregation comes with it and verifies it again.

    Args:
        jws: the signed invitation.
        terms: what this device accepts.

    Raises:
        TrustError, UnknownSigner: (1) the signature.
        MalformedInput: (2) the form.
        OutOfRange: (3) the round does not exist.
        PolicyError: (4) expired, or profile, parameters, task, clip or policy document are not this device's.
        SpecMismatch: (5) other features.
    """
    invitation = open_invitation(jws, terms.keys)  # (1) (2)
    if invitation.round_number > invitation.rounds_total:  # (3)
        raise OutOfRange("the round number is past the last round")
    _check_policy(invitation, terms)  # (4)
    if invitation.model.spec_digest != terms.spec.digest:  # (5)
        raise SpecMismatch("the round is for another feature specification")
    return invitation


def accept_weights(
    invitation: RoundInvitation, named: Mapping[str, npt.NDArray[np.generic]], terms: Terms
) -> arrays.Vector:
    """Verify the global arrays beside an accepted invitation; float64 ``[d]``.

    Raises:
        ContractError: (6) names, dtypes, shapes or values of the arrays.
        DigestMismatch: (7) not the arrays that were signed for.
    """
    from common.model.network import initial_arrays  # torch: only once the invitation is known to be genuine

    arrays.check(named, initial_arrays(invitation.model, terms.spec))  # (6)
    if arrays.digest(named) != invitation.arrays_digest:  # (7)
        raise DigestMismatch("the arrays are not those of the invitation")
    return arrays.flatten({name: a.astype(np.float32) for name, a in named.items()})


def accept_round(jws: str, named: Mapping[str, npt.NDArray[np.generic]], terms: Terms) -> AcceptedRound:
    """Verify the one message of a round without secure aggregation: steps (1) to (7).

    Raises:
        PolicyError: also if this round must be masked.
        InputError, TrustError, ContractError: as ``accept_invitation`` and ``accept_weights`` say.
    """
    invitation = accept_invitation(jws, terms)
    if is_masked(invitation):
        raise PolicyError("this round's updates leave a device through secure aggregation only")
    return AcceptedRound(invitation, accept_weights(invitation, named, terms))


def _check_policy(invitation: RoundInvitation, terms: Terms) -> None:
    """The server states privacy parameters so that both sides know them; only the device's own document decides."""
    if not terms.now <= invitation.expires_at <= terms.now + LIFETIME_S_MAX:
        raise PolicyError("the invitation has expired, or is valid for too long")
    if invitation.budget_policy_digest != terms.budget_digest:
        raise PolicyError("the round runs under another privacy budget document")
    if invitation.measurement is not None:
        age_days = terms.now // DAY_S - invitation.measurement.day
        if not 1 <= age_days <= MEASURED_DAYS_MAX:
            raise PolicyError("the measured day is not over yet, or is over for too long")
    if is_masked(invitation):
        # Raises PolicyError unless the document declares this release, and allows this clip.
        clip = invitation.clipping_norm if invitation.task is Task.TRAIN else None
        segments_of(terms.budget, invitation.task, 1, clipping_norm=clip)
    if invitation.profile is Profile.NON_PRIVATE:
        if not terms.simulation:
            raise PolicyError("the non-private profile is for simulations only")
        return
    if invitation.profile is not terms.budget.profile or invitation.parameters != terms.budget.training:
        raise PolicyError("profile or parameters are not those of the privacy budget document")
    if invitation.rounds_total > terms.budget.rounds_max:
        raise PolicyError("more rounds than the privacy budget document declares")
