"""Step (4) of the egress door: which array may lie beside which message. Owns the form; sends and decides nothing else.

An array leaves only beside the header that tells its length, its width and every mechanism that protects it.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from common.errors import EgressRefused
from common.taxonomy import RefusalReason
from common.wire.base import Message
from common.wire.messages import TrainingContribution
from common.wire.secagg import MaskedMeasurement, MaskedUpdateHeader
from policies.door import C, Letter, Payload


def row_of(letter: Letter[C]) -> npt.NDArray[np.uint8] | None:
    """The share's bytes, if its header names every mechanism that protects them and their width.

    Raises:
        EgressRefused: it does not.
    """
    head, share = letter.message, letter.share
    if share is None:
        return None
    named = head.releases[: len(share.releases)] if isinstance(head, MaskedUpdateHeader | MaskedMeasurement) else ()
    if named == share.releases and getattr(head, "bits", None) == share.bits:
        return share.payload
    raise EgressRefused(RefusalReason.BAD_FORM)


def form_holds(message: Message, payload: Payload | None, devices: int) -> bool:
    """Whether a payload is there exactly when declared, of the declared shape and dtype, for the declared devices."""
    if isinstance(message, TrainingContribution) and payload is not None:
        return payload.dtype == np.int64 and payload.shape == (message.length,) and message.contributions == devices
    if isinstance(message, MaskedUpdateHeader | MaskedMeasurement) and payload is not None:
        size = message.length * message.bits // 8
        return payload.dtype == np.uint8 and payload.shape == (size,) and devices == 1
    declared = isinstance(message, TrainingContribution | MaskedUpdateHeader | MaskedMeasurement)
    return payload is None and devices == 1 and not declared
