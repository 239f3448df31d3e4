"""Public privacy parameters. Owns the one place where a noise standard deviation comes from.

There is no free ``sensitivity`` anywhere: noise_stddev is always ``noise_multiplier * clipping_norm``.
"""

from __future__ import annotations

import math

from pydantic import BaseModel, ConfigDict, Field, model_validator

from common.taxonomy import Mechanism, NeighbouringRelation, PrivacyUnit, Profile, TrustModel


class RecordDpParameters(BaseModel):
    """DP-SGD on one device with public constants only (recipe A): nothing here depends on how much a device holds.

    Attributes:
        clipping_norm: L2 bound C of one record's gradient, in model-weight units.
        noise_multiplier: z, unitless.
        sampling_rate: Poisson rate q of each local step; 1 means full batch, no sampling claim.
        local_steps: DP-SGD steps a device takes per round.
        expected_batch_size: public normaliser of the summed gradient; never the local record count.
        learning_rate: step size of the local optimiser.
        physical_batch_size: records held in memory at once; no effect on the result.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    clipping_norm: float = Field(gt=0, allow_inf_nan=False)
    noise_multiplier: float = Field(ge=0, allow_inf_nan=False)
    sampling_rate: float = Field(gt=0, le=1)
    local_steps: int = Field(ge=1, le=1000)
    expected_batch_size: float = Field(gt=0, allow_inf_nan=False)
    learning_rate: float = Field(gt=0, allow_inf_nan=False)
    physical_batch_size: int = Field(default=512, ge=1)

    @property
    def noise_stddev(self) -> float:
        """Standard deviation z·C of the noise on one step's summed gradient: the only place σ is made."""
        return self.noise_multiplier * self.clipping_norm

    def release(self, profile: Profile) -> MechanismUse:
        """What one round of this training costs, in the accountant's words."""
        if profile is Profile.NON_PRIVATE:
            mechanism = Mechanism.NONE
        elif self.sampling_rate < 1:
            mechanism = Mechanism.POISSON_SUBSAMPLED_GAUSSIAN
        else:
            mechanism = Mechanism.GAUSSIAN
        return MechanismUse(
            mechanism=mechanism,
            noise_multiplier=0.0 if profile is Profile.NON_PRIVATE else self.noise_multiplier,
            sampling_rate=self.sampling_rate,
            count=self.local_steps,
            unit=PrivacyUnit.RECORD,
            relation=NeighbouringRelation.ADD_REMOVE,
            trust=TrustModel.LOCAL,
        )


class LocalSgdParameters(BaseModel):
    """Local training without noise of its own, for profiles that protect the whole update afterwards.

    Attributes:
        local_steps: full-batch steps a device takes per round.
        expected_batch_size: public normaliser of the summed gradient; never the local record count.
        learning_rate: step size of the local optimiser.
        physical_batch_size: records held in memory at once; no effect on the result.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    local_steps: int = Field(ge=1, le=1000)
    expected_batch_size: float = Field(gt=0, allow_inf_nan=False)
    learning_rate: float = Field(gt=0, allow_inf_nan=False)
    physical_batch_size: int = Field(default=512, ge=1)


class UserDpParameters(BaseModel):
    """A user-level release through secure aggregation: clip the device's whole vector, add a Skellam share, mask.

    Attributes:
        clipping_norm: L2 bound C of one device's whole vector, in its own units.
        noise_multiplier: z: standard deviation of the noise on the sum divided by C, for the smallest set of honest
            survivors that the protocol accepts; any larger set has more noise.
        levels: grid units per C: the integer vector of one device has L2 norm at most ``levels``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    clipping_norm: float = Field(gt=0, allow_inf_nan=False)
    noise_multiplier: float = Field(ge=0, allow_inf_nan=False)
    levels: int = Field(default=1024, ge=16, le=1 << 20)

    @property
    def grid(self) -> float:
        """One grid unit in the vector's own units."""
        return self.clipping_norm / self.levels

    @property
    def noise_stddev(self) -> float:
        """Standard deviation z·C of the noise on the sum: the only place σ of a user-level release is made."""
        return self.noise_multiplier * self.clipping_norm

    @property
    def noise_variance_levels(self) -> float:
        """Variance of the same noise in squared grid units: (z·levels)²."""
        return (self.noise_multiplier * self.levels) ** 2

    def share_variance(self, contributors: int) -> float:
        """Variance, in squared grid units, of one device's share when ``contributors`` shares must meet the target.

        Args:
            contributors: fewest honest devices in an accepted sum (``CohortParameters.honest_min``), at least 1.
        """
        if contributors < 1:
            raise ValueError("at least one honest device must add noise")
        return self.noise_variance_levels / contributors

    def release(self, length: int) -> MechanismUse:
        """What one release of a vector ``[length]`` costs each device in it, in the accountant's words."""
        return MechanismUse(
            mechanism=Mechanism.SKELLAM,
            noise_multiplier=self.noise_multiplier,
            sampling_rate=1.0,
            count=1,
            unit=PrivacyUnit.USER,
            relation=NeighbouringRelation.ADD_REMOVE,
            trust=TrustModel.DISTRIBUTED,
            levels=self.levels,
            dimension=length,
        )


class CohortParameters(BaseModel):
    """Public bounds on who takes part in one secure aggregation; they size noise shares, thresholds and modulus.

    Attributes:
        devices_min: smallest roster a device agrees to be part of.
        devices_max: largest.
        dropout_fraction_max: share of the roster that may be missing from the sum.
        corrupt_fraction_max: share of the roster that may collude with the server.
        security_bits: the server learns more than the sum with probability at most 2^-security_bits.
        correctness_bits: a round within the dropout bound fails with probability at most 2^-correctness_bits.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    devices_min: int = Field(ge=3)
    devices_max: int = Field(ge=3, le=1 << 16)
    dropout_fraction_max: float = Field(ge=0, lt=0.5)
    corrupt_fraction_max: float = Field(ge=0, lt=0.5)
    security_bits: int = Field(default=40, ge=20, le=128)
    correctness_bits: int = Field(default=30, ge=10, le=64)

    def survivors_min(self, roster: int) -> int:
        """Fewest masked vectors that may be unmasked, of ``roster`` devices."""
        return math.ceil(roster * (1 - self.dropout_fraction_max) - 1e-9)

    def corrupt_max(self, roster: int) -> int:
        """Most devices of ``roster`` that are assumed to collude with the server and add no noise."""
        return math.floor(roster * self.corrupt_fraction_max + 1e-9)

    def honest_min(self, roster: int) -> int:
        """Fewest honest devices in an accepted sum: the noise target must be met by them alone."""
        return self.survivors_min(roster) - self.corrupt_max(roster)


class MechanismUse(BaseModel):
    """``count`` uses of one mechanism: the description from which an accountant computes, and all it needs.

    ``levels`` and ``dimension`` describe Skellam noise alone, and always do: the integer L2 bound of one device and
    the vector's length, from which its L1 bound follows. ``epsilon``, ``candidates`` and ``chosen`` likewise describe
    top-m randomised response: its pure ε, K and m; no noise is added there, so its multiplier is 0.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    mechanism: Mechanism
    noise_multiplier: float = Field(ge=0, allow_inf_nan=False)
    sampling_rate: float = Field(gt=0, le=1)
    count: int = Field(ge=1)
    unit: PrivacyUnit
    relation: NeighbouringRelation
    trust: TrustModel
    levels: int | None = Field(default=None, ge=1)
    dimension: int | None = Field(default=None, ge=1)
    epsilon: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    candidates: int | None = Field(default=None, ge=2)
    chosen: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _integer_noise_has_a_grid(self) -> MechanismUse:
        described = (self.levels is not None, self.dimension is not None)
        if described != ((self.mechanism is Mechanism.SKELLAM,) * 2):
            raise ValueError("levels and dimension describe Skellam noise, and only that")
        return self

    @model_validator(mode="after")
    def _a_response_has_its_own_epsilon(self) -> MechanismUse:
        described = (self.epsilon is not None, self.candidates is not None, self.chosen is not None)
        if described != ((self.mechanism is Mechanism.TOP_M,) * 3):
            raise ValueError("epsilon, candidates and chosen describe top-m randomised response, and only that")
        if self.mechanism is Mechanism.TOP_M and (
            self.noise_multiplier,
            self.sampling_rate,
            self.unit,
            self.relation,
            self.trust,
        ) != (0, 1, PrivacyUnit.USER, NeighbouringRelation.REPLACE, TrustModel.LOCAL):
            raise ValueError("a randomised response is of one user, replace-one, local, and nobody is sampled")
        return self

    @property
    def protects(self) -> bool:
        """Whether it bounds anything at all: there is noise, or the answer itself is random."""
        return self.mechanism is Mechanism.TOP_M or (self.mechanism is not Mechanism.NONE and self.noise_multiplier > 0)


NO_SAMPLING = "none: participants are charged in full, unamplified"
"""The sampling assumption of a guarantee that would hold even if everybody knew who takes part in what."""


class PrivacyStatement(BaseModel):
    """An ε that may be shown: never without δ, unit, neighbouring relation, trust model and composition.

    Attributes:
        rho: zero-concentrated DP parameter of the same composition, for comparison with published figures; None
            where the composition has none.
        sampling: what must be secret about who or what was sampled for ε to hold.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")
    epsilon: float
    delta: float = Field(ge=0, lt=1)
    unit: PrivacyUnit
    relation: NeighbouringRelation
    trust: TrustModel
    composition: str
    accountant: str
    randomness: str
    rho: float | None = None
    sampling: str = NO_SAMPLING

    def sentence(self) -> str:
        """The whole statement in one line."""
        epsilon = f"{self.epsilon:.3g}" if self.epsilon != float("inf") else "∞ (no privacy)"
        rho = "" if self.rho is None else f" (ρ = {self.rho:.3g})"
        return (
            f"ε = {epsilon} at δ = {self.delta:g}{rho}; unit: one {self.unit.value}; relation: {self.relation.value}; "
            f"trust: {self.trust.value}; composition: {self.composition}; sampling assumption: {self.sampling}; "
            f"accountant: {self.accountant}; noise from: {self.randomness}"
        )
