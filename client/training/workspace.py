"""Memory that is used again. Owns nothing that lasts: what is taken holds whatever was in it.

Pages that the operating system must find anew cost more than most of what is done in them.
"""

from __future__ import annotations

import math

import torch


class Workspace:
    """Named pieces of memory of one dtype on one device, each as large as was ever wanted."""

    def __init__(self, like: torch.Tensor) -> None:
        """Args: a tensor of the dtype and on the device wanted."""
        self._like = like
        self._kept: dict[str, torch.Tensor] = {}
        self._shaped: dict[str, torch.Tensor] = {}

    def take(self, name: str, *shape: int) -> torch.Tensor:
        """A tensor whose content counts until the same name is taken again."""
        shaped = self._shaped.get(name)
        if shaped is None or shaped.shape != shape:
            size = math.prod(shape)
            kept = self._kept.get(name)
            if kept is None or kept.numel() < size:
                kept = self._kept[name] = self._like.new_empty(size)
            shaped = self._shaped[name] = kept[:size].view(shape)
        return shaped

    def lend(self, name: str, *shape: int) -> torch.Tensor:
        """A tensor that nobody else gets before ``give_back``; if that never comes, the next one is new."""
        found = self.take(name, *shape)
        del self._kept[name], self._shaped[name]
        return found

    def give_back(self, name: str, lent: torch.Tensor) -> None:
        """End a loan."""
        self._kept[name], self._shaped[name] = lent.view(-1), lent
