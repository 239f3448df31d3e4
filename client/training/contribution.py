"""A device's contribution. Owns the last step before egress: a noised update on the integer grid, masked or not.

Only ``NoisedUpdate`` and ``NoisedShare`` are accepted: a type checker refuses to bring a private delta here. All of it
is post-processing of a noised value, so neither the rounding nor a refusal reveals more than the update itself.
``masked_share`` is the only constructor of ``MaskedShare``: a share's own noise does not protect it, so it has no wire
form until secure aggregation has masked it.
"""

from __future__ import annotations

import numpy as np

from common.errors import NonFiniteValue, OutOfRange
from common.privacy.distributed import MaskedShare, NoisedShare
from common.privacy.updates import GRID, GRID_LIMIT, MaskedUpdate, NoisedUpdate
from common.secagg.device import Masked, Shared, mask
from common.secagg.roster import VerifiedRoster
from common.taxonomy import Masking
from common.wire.secagg import SecAggDelivery


def contribution(update: NoisedUpdate) -> MaskedUpdate:
    """Round an update to ``GRID`` so that sums over devices are exact in any order.

    Args:
        update: float64 ``[d]``.

    Returns:
        int64 ``[d]``; no masking yet: under ``record_local`` the noise alone protects.

    Raises:
        NonFiniteValue: the update holds NaN or infinity.
        OutOfRange: a component lies beyond ``GRID_LIMIT`` grid units.
    """
    if not np.isfinite(update.vector).all():
        raise NonFiniteValue("the update holds NaN or infinity")
    steps = np.rint(update.vector / GRID)
    if steps.size and float(np.abs(steps).max()) > GRID_LIMIT:
        raise OutOfRange("a component of the update does not fit the grid")
    return MaskedUpdate(steps.astype(np.int64), update.release, Masking.NONE)


def masked_share(
    state: Shared, roster: VerifiedRoster, delivery: SecAggDelivery, noised: NoisedShare
) -> tuple[Masked, MaskedShare]:
    """Mask one device's share of a noised sum.

    Args:
        state: the device's, after stage share; never given to a second call.
        roster: verified.
        delivery: neighbours' shares for this device.
        noised: its vector, int64 ``[d]``.

    Returns:
        The device's new state, and the wire form: uint8 ``[d · bits / 8]``.

    Raises:
        RoundError, ContractError, InputError: as ``common.secagg.device.mask`` says.

    **Privacy:** the bytes alone are uniform; only their sum over the cohort can be read, which costs ``releases``.
    """
    after, payload = mask(state, roster, delivery, noised.vector)
    return after, MaskedShare(np.frombuffer(payload, np.uint8), noised.releases, roster.terms.bits)
