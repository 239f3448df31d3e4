"""Quality of a model as devices released it: noisy, charged, with intervals. Reads figures; measures nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Interval:
    """A noisy figure and its 95 % interval."""

    value: float
    low: float
    high: float

    def text(self, digits: int = 3) -> str:
        """The figure and its interval."""
        return f"{self.value:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


@dataclass(frozen=True, slots=True)
class PaidQuality:
    """What paid evaluation found on held-out rows of ``devices`` devices.

    Attributes:
        calibration: mean prediction divided by the rate of positives; 1 is right.
    """

    devices: int
    auc: Interval
    log_loss: Interval
    rate: Interval
    calibration: Interval

    @property
    def base_log_loss(self) -> float:
        """Log loss of always predicting the (noisy) rate."""
        rate = min(max(self.rate.value, 1e-12), 1 - 1e-12)
        return -rate * math.log(rate) - (1 - rate) * math.log1p(-rate)

    @staticmethod
    def of(figures: Mapping[str, float]) -> PaidQuality | None:
        """From the figures of a training or of an evaluation; None if none was paid for."""
        if "paid_evaluation_auc" not in figures:
            return None

        def interval(name: str) -> Interval:
            found = [figures[f"paid_evaluation_{name}{end}"] for end in ("", "_low", "_high")]
            return Interval(*found)

        return PaidQuality(
            int(figures["paid_evaluation_devices"]),
            interval("auc"),
            interval("log_loss"),
            interval("rate"),
            interval("calibration"),
        )
