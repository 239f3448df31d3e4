"""Public privacy parameters. Owns the one place where a noise standard deviation comes from.

There is no free ``sensitivity`` anywhere: noise_stddev is always ``noise_multiplier * clipping_norm``.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

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


class MechanismUse(BaseModel):
    """``count`` uses of one mechanism: the description from which an accountant computes, and all it needs."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    mechanism: Mechanism
    noise_multiplier: float = Field(ge=0, allow_inf_nan=False)
    sampling_rate: float = Field(gt=0, le=1)
    count: int = Field(ge=1)
    unit: PrivacyUnit
    relation: NeighbouringRelation
    trust: TrustModel


class PrivacyStatement(BaseModel):
    """An ε that may be shown: never without δ, unit, neighbouring relation, trust model and composition."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")
    epsilon: float
    delta: float = Field(gt=0, lt=1)
    unit: PrivacyUnit
    relation: NeighbouringRelation
    trust: TrustModel
    composition: str
    accountant: str
    randomness: str

    def sentence(self) -> str:
        """The whole statement in one line."""
        epsilon = f"{self.epsilon:.3g}" if self.epsilon != float("inf") else "∞ (no privacy)"
        return (
            f"ε = {epsilon} at δ = {self.delta:g}; unit: one {self.unit.value}; relation: {self.relation.value}; "
            f"trust: {self.trust.value}; composition: {self.composition}; accountant: {self.accountant}; "
            f"noise from: {self.randomness}"
        )
