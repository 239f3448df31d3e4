"""A bare cursor of either database driver, as far as the durable path uses it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol


class Cursor(Protocol):
    """A cursor of either driver, as far as it is used here."""

    def execute(self, statement: str, parameters: Sequence[Any] = ..., /) -> Any:  # noqa: ANN401 - the driver's
        """Run one statement."""
        ...

    def executemany(self, statement: str, parameters: Any, /) -> Any:  # noqa: ANN401 - the driver's
        """Run one statement for every row."""
        ...

    def fetchone(self) -> Any:  # noqa: ANN401 - the driver's row
        """The next row."""
        ...

    def fetchall(self) -> list[Any]:
        """The rows left."""
        ...
