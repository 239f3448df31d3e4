"""Constructors of ``NoisedUpdate``. Owns the step from a private delta to one that a named mechanism protects.

The release is always derived from the parameters that were used: nobody can state another mechanism than the one run.
"""

from __future__ import annotations

from common.errors import PolicyError
from common.privacy.parameters import RecordDpParameters
from common.privacy.updates import ModelDelta, NoisedUpdate
from common.taxonomy import Profile


def noised_by_dp_sgd(delta: ModelDelta, parameters: RecordDpParameters, *, noised_steps: int) -> NoisedUpdate:
    """A delta that DP-SGD made: each of its steps clipped every record's gradient and added noise once.

    Args:
        delta: trained minus received weights, float64 ``[d]``.
        parameters: the public constants the training ran with.
        noised_steps: how many steps drew noise, counted where it is drawn.

    Raises:
        PolicyError: some step drew no noise, or drew it twice, so the release would be misstated.

    Privacy:
        Record-level, local trust; costs ``parameters.release(RECORD_LOCAL)``, which is attached.
    """
    if noised_steps != parameters.local_steps:
        raise PolicyError(f"{parameters.local_steps} steps were declared, but noise was drawn {noised_steps} times")
    return NoisedUpdate(delta.vector, parameters.release(Profile.RECORD_LOCAL))


def unprotected(delta: ModelDelta, parameters: RecordDpParameters) -> NoisedUpdate:
    """A delta without any protection, for simulations: its release names the mechanism NONE.

    Privacy:
        None at all. An accountant prices it at ε = ∞, so a ledger with a cap refuses it.
    """
    return NoisedUpdate(delta.vector, parameters.release(Profile.NON_PRIVATE))
