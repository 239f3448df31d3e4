"""Reads the policy documents. The one file that reads YAML; returns values and the digests of their bytes.

A document is small, UTF-8, safe YAML without duplicate keys, aliases or unknown fields. Whatever is not, stops the
program by name: there is no default policy to fall back to.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from common.errors import PolicyError
from common.wire.codec import describe
from policies import invariants
from policies.placement.lint import prove_placement
from policies.schema import PlacementPolicy, PolicySet

DOCUMENTS = Path(__file__).with_name("documents")
PLACEMENTS = DOCUMENTS / "placement"
"""Ready placement policies, one a file: ecommerce, finance, search, social."""
NAMES = ("privacy_budget", "purposes", "egress", "retention", "requests", "placement")
SIZE_BYTES_MAX = 256 * 1024


@dataclass(frozen=True, slots=True)
class LoadedPolicies:
    """Policy documents and, by document name, the SHA-256 of the bytes they were read from."""

    policies: PolicySet
    digests: dict[str, str]


class _StrictLoader(yaml.SafeLoader):
    """Safe YAML without aliases and without a key that appears twice."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.constructor.ConstructorError(problem="aliases are not allowed")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002 - the library's signature
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        for key in keys:
            if not isinstance(key, Hashable) or keys.count(key) > 1:
                raise yaml.constructor.ConstructorError(problem="a key appears twice", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep=deep)


def read_yaml(path: Path) -> object:
    """One YAML document as plain Python values.

    Raises:
        PolicyError: missing, too big, not UTF-8, not YAML, or with a duplicate key or an alias.
    """
    return _parse(path.name, _read(path))


def load(directory: Path | None = None, *, prove: bool = True) -> LoadedPolicies:
    """Read, validate and prove all documents of one installation.

    Args:
        directory: where the documents are; those that ship with the package by default.
        prove: check the cross-document invariants too (``policies.invariants``).

    Raises:
        PolicyError: a document is missing or invalid; the text names document, field and kind of error.
        InvariantViolated: the documents contradict each other or do not prove what they declare.
    """
    directory = DOCUMENTS if directory is None else directory
    raw = {name: _read(directory / f"{name}.yaml") for name in NAMES}
    policies = _valid(tuple(raw.items()), prove=prove)
    return LoadedPolicies(policies, {name: hashlib.sha256(data).hexdigest() for name, data in raw.items()})


def load_placement(path: Path) -> tuple[PlacementPolicy, str]:
    """One placement policy, proved, and the SHA-256 of its bytes.

    Raises:
        PolicyError: missing or invalid; the text names field and kind of error.
        InvariantViolated: it does not deny what it must, or contradicts itself.
    """
    return read_placement(_read(path), path.name)


def read_placement(data: bytes, name: str = "placement policy") -> tuple[PlacementPolicy, str]:
    """The same from a document's bytes, as they arrive on a device; ``name`` is for the errors' text.

    Raises:
        PolicyError: invalid; the text names field and kind of error.
        InvariantViolated: it does not deny what it must, or contradicts itself.
    """
    try:
        policy = PlacementPolicy.model_validate(_parse(name, data))
    except ValidationError as error:
        raise PolicyError(f"{name}: {describe(error)}") from None
    prove_placement(policy)
    return policy, hashlib.sha256(data).hexdigest()


def ready_placements() -> dict[str, Path]:
    """The ready placement policies by name."""
    return {path.stem: path for path in sorted(PLACEMENTS.glob("*.yaml"))}


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(SIZE_BYTES_MAX + 1)
    except OSError as error:
        raise PolicyError(f"{path.name}: {error.strerror or 'cannot be read'}") from None
    if len(data) > SIZE_BYTES_MAX:
        raise PolicyError(f"{path.name}: larger than {SIZE_BYTES_MAX} bytes")
    return data


@lru_cache(maxsize=4)
def _valid(raw: tuple[tuple[str, bytes], ...], *, prove: bool) -> PolicySet:
    """Documents are values: the same bytes need no second reading. What was refused is read, and refused, again."""
    values = {name: _parse(f"{name}.yaml", data) for name, data in raw}
    try:
        policies = PolicySet.model_validate(values)
    except ValidationError as error:
        raise PolicyError(describe(error)) from None
    if prove:
        invariants.prove(policies)
    return policies


def _parse(name: str, data: bytes) -> object:
    try:
        return yaml.load(data.decode(), Loader=_StrictLoader)  # noqa: S506 - a subclass of the safe loader
    except UnicodeDecodeError:
        raise PolicyError(f"{name}: not UTF-8") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not valid YAML"
        raise PolicyError(f"{name}{place}: {problem}") from None
