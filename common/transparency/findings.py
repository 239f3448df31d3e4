"""What a verification has found. Owns its words.

Integrity (is what is there genuine) stands apart from completeness (is everything there).
"""

from __future__ import annotations

from dataclasses import dataclass

from common.taxonomy import Tampering

LOG = "log"


@dataclass(frozen=True, slots=True)
class Finding:
    """The first place where something is not what was signed.

    Attributes:
        kind: what was done there, as far as it can be told.
        where: which part of the evidence.
        row: the first bad row, from 0.
        last: where only a stretch is known, its last row: the first bad row is one of ``row`` to ``last``.
        detail: in words, for people.
    """

    kind: Tampering
    where: str
    row: int
    detail: str
    last: int | None = None

    def sentence(self) -> str:
        """One line."""
        rows = f"row {self.row}" if self.last is None or self.last == self.row else f"rows {self.row} to {self.last}"
        return f"{self.where}, {rows}: {self.kind.value}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Gap:
    """Something that should be there and is not, or of which nobody can tell.

    Attributes:
        expected: True where its absence is as it should be (erased at a person's request).
    """

    where: str
    count: int
    detail: str
    expected: bool = False

    def sentence(self) -> str:
        """One line."""
        return f"{self.where}: {self.count} {self.detail}"
