"""What arrives on a device. Owns the numbered steps by which an invitation is verified before it can have any effect.

Models, catalogues and receipts are verified by the recipes they share with the server (``common.model.manifest``,
``client.consent``). Nothing here reads a behaviour event, so a refusal can depend on the invitation alone and may be
named to the server.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from common.crypto.signing import PublicKey
from common.errors import DigestMismatch, OutOfRange, PolicyError, SpecMismatch
from common.model import arrays
from common.model.feature_spec import FeatureSpec
from common.taxonomy import Profile
from common.wire.messages import RoundInvitation
from common.wire.signed import open_invitation
from policies.schema import PrivacyBudgetPolicy


@dataclass(frozen=True, slots=True)
class Terms:
    """What a device accepts at all.

    Attributes:
        keys: pinned keys of the server.
        spec: the feature specification its features are made by.
        budget: its own privacy budget document.
        budget_digest: SHA-256 of that document.
        simulation: True on simulated devices only: allows the non-private profile.
    """

    keys: Mapping[str, PublicKey]
    spec: FeatureSpec
    budget: PrivacyBudgetPolicy
    budget_digest: str
    simulation: bool


@dataclass(frozen=True, slots=True)
class AcceptedRound:
    """An invitation that passed every step, with the weights to start from, float64 ``[d]``."""

    invitation: RoundInvitation
    start: arrays.Vector


def accept_round(jws: str, named: Mapping[str, npt.NDArray[np.generic]], terms: Terms) -> AcceptedRound:
    """Verify an invitation and the global arrays beside it.

    Args:
        jws: the signed invitation.
        named: global arrays by name.
        terms: what this device accepts.

    Raises:
        TrustError, UnknownSigner: (1) the signature.
        MalformedInput: (2) the form.
        OutOfRange: (3) the round does not exist.
        PolicyError: (4) profile, parameters or policy document are not this device's.
        SpecMismatch: (5) other features.
        ContractError: (6) names, dtypes, shapes or values of the arrays.
        DigestMismatch: (7) not the arrays that were signed for.
    """
    invitation = open_invitation(jws, terms.keys)  # (1) (2)
    if invitation.round_number > invitation.rounds_total:  # (3)
        raise OutOfRange("the round number is past the last round")
    _check_policy(invitation, terms)  # (4)
    if invitation.model.spec_digest != terms.spec.digest:  # (5)
        raise SpecMismatch("the round is for another feature specification")
    from common.model.network import initial_arrays  # torch: only once the invitation is known to be genuine

    arrays.check(named, initial_arrays(invitation.model, terms.spec))  # (6)
    if arrays.digest(named) != invitation.arrays_digest:  # (7)
        raise DigestMismatch("the arrays are not those of the invitation")
    return AcceptedRound(invitation, arrays.flatten({name: a.astype(np.float32) for name, a in named.items()}))


def _check_policy(invitation: RoundInvitation, terms: Terms) -> None:
    """The server states privacy parameters so that both sides know them; only the device's own document decides."""
    if invitation.budget_policy_digest != terms.budget_digest:
        raise PolicyError("the round runs under another privacy budget document")
    if invitation.profile is Profile.NON_PRIVATE:
        if not terms.simulation:
            raise PolicyError("the non-private profile is for simulations only")
        return
    if invitation.profile is not terms.budget.profile or invitation.parameters != terms.budget.training:
        raise PolicyError("profile or parameters are not those of the privacy budget document")
    if invitation.rounds_total > terms.budget.rounds_max:
        raise PolicyError("more rounds than the privacy budget document declares")
