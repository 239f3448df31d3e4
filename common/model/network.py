"""Networks of the model Y = f(X). Owns their families, their initial weights, and the way from arrays to probabilities.

Every parameter lies in an ``nn.Embedding`` or an ``nn.Linear``: the two layers whose per-record gradients Opacus gets
right, duplicate ids included (``nn.EmbeddingBag`` breaks its clip bound). Any leading dimensions are allowed, so the
two views of a record travel together on a middle one. Initial weights are a function of the model's public seed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from common.errors import ShapeMismatch, SpecMismatch
from common.model import arrays
from common.model.feature_spec import FeatureSpec
from common.taxonomy import ModelFamily
from common.wire.messages import ModelSpec

INITIAL_STDDEV = 0.05
SCORING_BATCH = 8192


def choose_device() -> torch.device:
    """CUDA when there is one, the CPU otherwise; callers print it."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class HashedLogistic(nn.Module):
    """Logistic regression: one weight per table row and per number, and a bias. Starts at the base rate."""

    def __init__(self, rows: int, numbers: int, *, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = scale
        self.table = nn.Embedding(max(rows, 1), 1, device="meta")
        self.numeric = nn.Linear(max(numbers, 1), 1, device="meta")

    def forward(self, categorical: torch.Tensor, numeric: torch.Tensor) -> torch.Tensor:
        """Logits ``[...]`` of ids ``[..., F]`` and numbers ``[..., D]``."""
        numbers: torch.Tensor = self.numeric(_never_empty(numeric)).squeeze(-1)
        ids: torch.Tensor = self.table(categorical).sum((-2, -1))
        return numbers + self.scale * ids


class WideDeep(nn.Module):
    """The logistic part beside one hidden layer of rectified units over embeddings and numbers.

    Shapes: embeddings of F fields are joined with D numbers into ``F * dim + D`` inputs of ``hidden`` units.
    """

    def __init__(self, rows: int, fields: int, numbers: int, *, dim: int, hidden: int, scale: float = 1.0) -> None:
        super().__init__()
        self.wide = HashedLogistic(rows, numbers, scale=scale)
        self.table = nn.Embedding(max(rows, 1), dim, device="meta")
        self.hidden = nn.Linear(fields * dim + max(numbers, 1), hidden, device="meta")
        self.head = nn.Linear(hidden, 1, bias=False, device="meta")

    def forward(self, categorical: torch.Tensor, numeric: torch.Tensor) -> torch.Tensor:
        """Logits ``[...]`` of ids ``[..., F]`` and numbers ``[..., D]``."""
        inputs = torch.cat([self.table(categorical).flatten(-2), _never_empty(numeric)], -1)
        deep: torch.Tensor = self.head(self.hidden(inputs).relu()).squeeze(-1)
        wide: torch.Tensor = self.wide(categorical, numeric)
        return wide + deep


def _never_empty(numeric: torch.Tensor) -> torch.Tensor:
    """A layer cannot have zero inputs: a specification without numbers gets one that is always absent."""
    return numeric if numeric.shape[-1] else numeric.new_zeros((*numeric.shape[:-1], 1))


def build_network(model: ModelSpec, spec: FeatureSpec) -> nn.Module:
    """The network of ``model`` over the features of ``spec``, with its initial weights, on the CPU.

    Raises:
        SpecMismatch: the model was made for another feature specification.
    """
    if model.spec_digest != spec.digest:
        raise SpecMismatch("the model was made for another feature specification")
    rows, fields, numbers = spec.table_rows, len(spec.categorical), len(spec.numeric)
    network: nn.Module
    match model.family:
        case ModelFamily.LOGISTIC:
            network = HashedLogistic(rows, numbers, scale=model.wide_scale)
        case ModelFamily.WIDE_DEEP:
            network = WideDeep(
                rows, fields, numbers, dim=model.embedding_dim, hidden=model.hidden_width, scale=model.wide_scale
            )
    network = network.to_empty(device="cpu")
    _initialise(network, model)
    return network


def _initialise(network: nn.Module, model: ModelSpec) -> None:
    """Wide weights 0, bias at the base rate, the deep part small: at first every prediction is near the base rate.

    Layers are built without memory, so torch's global generator is neither read nor moved.
    """
    generator = torch.Generator().manual_seed(model.seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        wide = network.wide if isinstance(network, WideDeep) else network
        if isinstance(wide, HashedLogistic):
            wide.numeric.bias.fill_(math.log(model.base_rate / (1 - model.base_rate)))
        if isinstance(network, WideDeep):
            network.table.weight.normal_(0, INITIAL_STDDEV, generator=generator)
            network.hidden.weight.normal_(0, 1 / math.sqrt(network.hidden.in_features), generator=generator)
            network.head.weight.normal_(0, INITIAL_STDDEV, generator=generator)


def state(network: nn.Module) -> arrays.Arrays:
    """Copies of the network's weights, by name."""
    return {name: p.detach().cpu().numpy().astype(np.float32) for name, p in network.named_parameters()}


def initial_arrays(model: ModelSpec, spec: FeatureSpec) -> arrays.Arrays:
    """The weights a training starts from; also the template that received arrays are checked against."""
    return state(build_network(model, spec))


def load_network(
    named: Mapping[str, npt.NDArray[np.generic]],
    model: ModelSpec,
    spec: FeatureSpec,
    device: torch.device | None = None,
) -> nn.Module:
    """The network with the given weights, checked, for scoring.

    Raises:
        ContractError: the arrays are not what ``model`` and ``spec`` declare (see ``arrays.check``).
    """
    network = build_network(model, spec)
    arrays.check(named, state(network))
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(torch.tensor(named[name]))
    return network.to(device or torch.device("cpu")).eval()


def with_bias_shift(named: arrays.Arrays, family: ModelFamily, shift: float) -> arrays.Arrays:
    """The same weights with ``shift`` added to the output bias: every prediction's log-odds move by it.

    Raises:
        SpecMismatch: the arrays are of another network.
    """
    name = _wide(family, "bias")
    if name not in named:
        raise SpecMismatch("the arrays are of another network: there is no output bias")
    return {**named, name: named[name] + np.float32(shift)}


def with_view_shifts(
    named: arrays.Arrays, family: ModelFamily, spec: FeatureSpec, *, personal: float, contextual: float
) -> arrays.Arrays:
    """The same weights with each view's log-odds moved by a shift of its own.

    Without a personal intercept in ``spec`` there is nothing to tell the views apart: both move by ``personal``.

    Raises:
        SpecMismatch: the arrays are of another network.
    """
    intercept = spec.personal_intercept
    if intercept is None:
        return with_bias_shift(named, family, personal)
    moved = with_bias_shift(named, family, contextual)
    (column, value), name = intercept, _wide(family, "weight")
    weight = moved[name].copy()
    weight[0, column] += np.float32((personal - contextual) / value)
    return {**moved, name: weight}


def _wide(family: ModelFamily, part: str) -> str:
    """Name of an array of the linear part over numbers."""
    return f"wide.numeric.{part}" if family is ModelFamily.WIDE_DEEP else f"numeric.{part}"


def sorted_parameters(network: nn.Module) -> list[nn.Parameter]:
    """The network's parameters in the order of ``arrays.flatten``."""
    named = dict(network.named_parameters())
    return [named[name] for name in sorted(named)]


def read_vector(network: nn.Module) -> arrays.Vector:
    """All weights as one float64 vector ``[d]``, in the order of ``arrays.flatten``."""
    flat = torch.cat([parameter.detach().reshape(-1) for parameter in sorted_parameters(network)])
    return np.asarray(flat.double().cpu().numpy(), np.float64)


def write_vector(network: nn.Module, vector: arrays.Vector) -> None:
    """Set all weights in place from a vector ``[d]``.

    Raises:
        ShapeMismatch: the vector does not have one number per weight.
    """
    parameters = sorted_parameters(network)
    sizes = [parameter.numel() for parameter in parameters]
    if vector.shape != (sum(sizes),):
        raise ShapeMismatch(f"expected a vector of {sum(sizes)} weights, got shape {vector.shape}")
    with torch.no_grad():
        for parameter, part in zip(parameters, torch.split(torch.tensor(vector), sizes), strict=True):
            parameter.copy_(part.view_as(parameter))


def probabilities(
    network: nn.Module, categorical: npt.NDArray[np.int64], numeric: npt.NDArray[np.float32]
) -> npt.NDArray[np.float64]:
    """Predicted probabilities ``[n]`` of ids ``[n, F]`` and numbers ``[n, D]``, in bounded memory."""
    where = next(network.parameters()).device
    result = np.empty(len(categorical), np.float64)
    with torch.inference_mode():
        for start in range(0, len(categorical), SCORING_BATCH):
            rows = slice(start, start + SCORING_BATCH)
            ids = torch.tensor(categorical[rows], device=where)
            logits = network(ids, torch.tensor(numeric[rows], device=where))
            result[rows] = torch.sigmoid(logits.double()).cpu().numpy()
    return result
