"""What a decision was made under, in numbers. Owns nothing else, so that who only compares them loads nothing else."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Versions:
    """What a decision was made under; equal versions mean that it would be made so again.

    Attributes:
        catalogue, model: newest version numbers; None where there is none.
        stopped: campaigns that officers have stopped.
        placement: of the placement policy; 0 is the installation's own file.
        experiment: digest of the one that runs.
    """

    catalogue: int | None = None
    model: int | None = None
    stopped: frozenset[str] = frozenset()
    placement: int = 0
    experiment: str | None = None
