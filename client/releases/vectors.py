"""Private vectors of a node's devices for one task. Owns which examples a task reads and what is computed from them.

TRAIN: the update, and where the clip adapts whether it was within the clip. CALIBRATE: four sums over the examples
trained on. EVALUATE: sums and histograms over those held out, which lie after the training window. HISTOGRAM: feature
buckets. MEASURE: results of one day's placements. Nothing here is clipped, noised or sent; an entry that failed is an
exception, so nobody else's work is lost.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from client.device import Node
from client.features.cache import Part
from client.measurement.day import group_of, happened
from client.releases.plan import Plan
from client.store.keys import DeviceId
from client.warm import Load
from common.errors import ReticentError
from common.measurement.counting import count_vector
from common.model import arrays
from common.model.evaluation import evaluation_vector
from common.model.examples import Examples
from common.model.measurement import calibration_vector, clip_bit, histogram_vector
from common.privacy.clipping import l2_norm
from common.privacy.randomness import NoiseSource
from common.privacy.updates import ModelDelta
from common.taxonomy import Profile, Task
from policies.schema import EvaluationRelease

if TYPE_CHECKING:
    from torch import nn

Vectors = tuple[ModelDelta, ...]
"""One private vector per segment of the plan."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What the devices of a node compute from, in one round.

    Attributes:
        start: received weights, float64 ``[d]``.
        load: examples of a device.
    """

    node: Node
    plan: Plan
    start: arrays.Vector
    noise: NoiseSource
    load: Load


def prepare(work: Work, devices: Sequence[DeviceId]) -> Iterator[Vectors | Exception]:
    """Load and build all that a task needs, and return what will compute the devices' vectors.

    Args:
        work: the round.
        devices: whose vectors, in this order.

    Returns:
        One entry per device, in order; an entry that failed is an exception. No behaviour is read before the first is
        asked for, and no library is loaded after: ``client.guard`` forbids it then.
    """
    match work.plan.invitation.task:
        case Task.TRAIN:
            return _training(work, devices)
        case Task.HISTOGRAM:
            return _each(work, devices, lambda examples: histogram_vector(examples, work.node.spec), "train")
        case Task.CALIBRATE:
            return _calibration(work, devices)
        case Task.EVALUATE:
            return _evaluation(work, devices)
        case Task.MEASURE:
            return _measurement(work, devices)


def _training(work: Work, devices: Sequence[DeviceId]) -> Iterator[Vectors | Exception]:
    from client.training.local import LocalTrainer  # torch: only when there is somebody to train

    invitation, policy = work.plan.invitation, work.plan.policy
    layered = invitation.profile is Profile.LAYERED
    if layered and len(devices) == 1:
        import client.training.dp_sgd  # noqa: F401 - a single device trains by it
    trainer = LocalTrainer(
        model=invitation.model,
        spec=work.node.spec,
        parameters=policy.training if layered else policy.user_training,
        profile=invitation.profile,
        rng=work.noise,
        simulation=work.node.settings.simulation,
    )
    bound = work.plan.segments[0].parameters.clipping_norm
    adaptive = len(work.plan.segments) > 1

    def vectors() -> Iterator[Vectors | Exception]:
        for delta in trainer.deltas(work.start, _loads(work, devices)):
            if isinstance(delta, Exception):
                yield delta
            else:
                yield (delta, ModelDelta(clip_bit(l2_norm(delta.vector), bound))) if adaptive else (delta,)

    return vectors()


def _loads(work: Work, devices: Sequence[DeviceId]) -> Iterator[Examples | Exception]:
    for device in devices:
        try:
            yield work.load(work.node, device, "train")
        except (ReticentError, sqlite3.Error) as error:
            yield error


def _calibration(work: Work, devices: Sequence[DeviceId]) -> Iterator[Vectors | Exception]:
    from client.scoring import score, score_contextual

    network, spec, model = _network(work), work.node.spec, work.plan.invitation.model

    def vector(examples: Examples) -> arrays.Vector:
        contextual = score_contextual(network, examples, spec) if model.contextual_weight else None
        return calibration_vector(
            score(network, examples, spec), examples.labels, base_rate=model.base_rate, contextual=contextual
        )

    return _each(work, devices, vector, "train")


def _evaluation(work: Work, devices: Sequence[DeviceId]) -> Iterator[Vectors | Exception]:
    from client.scoring import score

    network, spec, base_rate = _network(work), work.node.spec, work.plan.invitation.model.base_rate
    release = work.plan.policy.releases.evaluation
    assert isinstance(release, EvaluationRelease)  # noqa: S101 - the plan could not be made without it
    bins = release.bins

    def vector(examples: Examples) -> arrays.Vector:
        return evaluation_vector(score(network, examples, spec), examples.labels, bins, base_rate=base_rate)

    return _each(work, devices, vector, "holdout")


def _measurement(work: Work, devices: Sequence[DeviceId]) -> Iterator[Vectors | Exception]:
    plan, release = work.plan.invitation.measurement, work.plan.policy.releases.placement_counts
    assert plan is not None and release is not None  # noqa: S101, PT018 - the plan could not be made without them
    for device in devices:
        try:
            counted = count_vector(
                happened(work.node, device, plan), plan, release.bounds, group=group_of(work.node, device)
            )
            yield (ModelDelta(counted),)
        except (ReticentError, sqlite3.Error) as error:
            yield error


def _network(work: Work) -> nn.Module:
    from common.model.network import initial_arrays, load_network

    model, spec = work.plan.invitation.model, work.node.spec
    return load_network(arrays.unflatten(work.start, initial_arrays(model, spec)), model, spec)


def _each(
    work: Work, devices: Sequence[DeviceId], vector: Callable[[Examples], arrays.Vector], part: Part
) -> Iterator[Vectors | Exception]:
    for device in devices:
        try:
            yield (ModelDelta(vector(work.load(work.node, device, part))),)
        except (ReticentError, sqlite3.Error) as error:
            yield error
