"""Contextual scores Ŷ. Owns the registry's current model in memory, and its use on context alone.

Personal columns are absent here as they are in the model's contextual view; the service has nothing to fill them with.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from common.errors import ReticentError, SpecMismatch, StorageUnavailable
from common.model.feature_spec import FeatureSpec
from common.model.situation import Situation, context_arrays
from common.wire.messages import Creative
from server.registry.service import Registry

if TYPE_CHECKING:
    from torch import nn

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ContextModel:
    """A verified model, ready to score."""

    version: int
    spec: FeatureSpec
    network: nn.Module

    def scores(
        self, creatives: Sequence[Creative], *, context: Mapping[str, str], numbers: Mapping[str, float], now: float
    ) -> list[float]:
        """Predicted probabilities, one per creative. The creative's own facts prevail over the caller's."""
        from common.model.network import probabilities

        situations = [Situation(now, c.item_id, c.attributes, context, {**numbers, **c.numbers}) for c in creatives]
        return [float(score) for score in probabilities(self.network, *context_arrays(self.spec, situations))]


class ContextualScorer:
    """The current model, verified and loaded once per version.

    Args of the constructor:
        registry: where models come from.
        spec_digest: digest of the specification that this installation is pinned to, if it is.
    """

    def __init__(self, registry: Registry, spec_digest: str | None = None) -> None:
        self._registry, self._spec_digest = registry, spec_digest
        self._lock = threading.Lock()
        self._loaded: tuple[int, ContextModel | None] | None = None

    def warm(self) -> None:
        """Load what the first decision would otherwise wait for: the numerical library, and a model if there is one."""
        import common.model.network  # noqa: F401 - for its effect

        with contextlib.suppress(StorageUnavailable):
            self.current()

    def current(self) -> ContextModel | None:
        """The model in force; None if there is none or it does not verify, which is logged by name."""
        return self.newest()[1]

    def newest(self) -> tuple[int | None, ContextModel | None]:
        """The newest version number, if there is one, and its model; None for the model as in ``current``."""
        version = self._registry.current_version()
        if version is None:
            return None, None
        with self._lock:
            if self._loaded is None or self._loaded[0] != version:
                self._loaded = (version, self._load(version))
            return version, self._loaded[1]

    def _load(self, version: int) -> ContextModel | None:
        from common.model.network import load_network

        try:
            manifest, arrays, spec = self._registry.verified(version)
            if self._spec_digest not in {None, spec.digest}:
                raise SpecMismatch(f"model version {version} was made for another feature specification")
            return ContextModel(version, spec, load_network(arrays, manifest.model, spec))
        except ReticentError as error:
            _LOG.error("model version %d is not used: %s: %s", version, error.name, error)
            return None
