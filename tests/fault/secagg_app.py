"""The device's own program with vectors that a test knows: everything but the training is the real thing.

What a device puts into the sum, its noise included, is written beside its node, so that a test can add it up. Importing
this changes the program in the importing process: only processes of their own may do it (``tests.fault.devices``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

import client.app
import client.stages
from client.releases.vectors import Vectors, Work
from client.settings import Settings
from client.stages import Session
from client.store.keys import DeviceId
from common.model.network import initial_arrays
from common.privacy.distributed import NoisedShare
from common.privacy.updates import ModelDelta
from common.taxonomy import ModelFamily
from common.wire.messages import ModelSpec
from policies import loader
from tests.fault.known import SENT, known_vector
from tests.flower.nodes import SPEC


def known(work: Work, devices: Sequence[DeviceId]) -> Iterator[Vectors | Exception]:
    """One known vector per segment and device, in place of training."""
    name = work.node.directory.name
    for _ in devices:
        yield tuple(ModelDelta(known_vector(name, segment.length)) for segment in work.plan.segments)


class Remembering(Session):  # type: ignore[type-arg]
    """Writes down what goes into the sum."""

    def _noised(self, vectors: Vectors, roster: object, work: Work) -> NoisedShare:
        noised = super()._noised(vectors, roster, work)  # type: ignore[arg-type]
        np.save(self.node.directory / SENT, noised.vector)
        return noised


# Once for all processes that are forked from this one: what each would import and prove when it answers.
loader.load(Settings.from_env().policies_directory)
initial_arrays(ModelSpec(family=ModelFamily.LOGISTIC, spec_digest=SPEC.digest, base_rate=0.1), SPEC)
client.stages.prepare = known
client.app.Session = Remembering  # type: ignore[misc]
app = client.app.app
