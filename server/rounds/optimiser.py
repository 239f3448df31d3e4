"""Server optimisers. Owns how the mean update moves the global model: pure functions with explicit state.

The mean update points where the devices want to go (trained minus received weights), so it is added.

Source: Reddi et al., Adaptive Federated Optimization (ICLR 2021), algorithm 2, with the bias correction of Kingma and
Ba (ICLR 2015): a training has few rounds, so moments that start at zero would distort most of them. Hsu et al.,
Measuring the Effects of Non-Identical Data Distribution (2019), FedAvgM.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from common.privacy.updates import Vector
from common.taxonomy import ServerOptimiser


class OptimiserSettings(BaseModel):
    """Public constants of the server's step.

    Attributes:
        learning_rate: multiplies the step.
        decay: share of the learning rate that a linear decay takes away over the training.
        momentum: share of the previous direction (momentum, and FedAdam's first moment).
        second_moment: decay of FedAdam's second moment.
        damping: FedAdam's τ, in model-weight units; bounds how much a quiet weight is amplified.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: ServerOptimiser = ServerOptimiser.FEDAVG
    learning_rate: float = Field(default=1.0, gt=0, allow_inf_nan=False)
    decay: float = Field(default=0.0, ge=0, le=1)
    momentum: float = Field(default=0.9, ge=0, lt=1)
    second_moment: float = Field(default=0.99, ge=0, lt=1)
    damping: float = Field(default=1e-3, gt=0, allow_inf_nan=False)


@dataclass(frozen=True, slots=True)
class OptimiserState:
    """What an optimiser remembers between rounds: float64 ``[d]`` each, zeros at the start."""

    first: Vector
    second: Vector

    @staticmethod
    def start(length: int) -> OptimiserState:
        """No memory yet."""
        return OptimiserState(np.zeros(length), np.zeros(length))


def step(
    settings: OptimiserSettings,
    weights: Vector,
    mean_update: Vector,
    state: OptimiserState,
    *,
    round_number: int,
    rounds_total: int,
) -> tuple[Vector, OptimiserState]:
    """Weights and state after one round; nothing is changed in place.

    Args:
        settings: which rule, and its constants.
        weights: global weights, float64 ``[d]``.
        mean_update: uniform mean of the devices' updates, float64 ``[d]``.
        state: memory after the previous round.
        round_number: this round, from 1.
        rounds_total: how many there will be.
    """
    rate = settings.learning_rate * (1 - settings.decay * (round_number - 1) / rounds_total)
    match settings.kind:
        case ServerOptimiser.FEDAVG:
            return weights + rate * mean_update, state
        case ServerOptimiser.MOMENTUM:
            velocity = settings.momentum * state.first + mean_update
            return weights + rate * velocity, OptimiserState(velocity, state.second)
        case ServerOptimiser.FEDADAM:
            first = settings.momentum * state.first + (1 - settings.momentum) * mean_update
            second = settings.second_moment * state.second + (1 - settings.second_moment) * mean_update**2
            corrected = second / (1 - settings.second_moment**round_number)
            move = first / (1 - settings.momentum**round_number) / (np.sqrt(corrected) + settings.damping)
            return weights + rate * move, OptimiserState(first, second)
