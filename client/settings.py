"""Settings of a device's program. Owns what may be set from outside and where it comes from; reads no file.

Environment (all optional): RETICENT_HOME (node directory), RETICENT_KEYS_DIR (device keys elsewhere),
RETICENT_POLICIES (policy documents), RETICENT_SERVICE (base URL of the service), RETICENT_SIMULATION (1 allows what
must never run on a real device), RETICENT_NOISE_SEED (repeatable noise; only with RETICENT_SIMULATION).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from common.errors import MalformedInput

_TRUE = frozenset({"1", "true", "yes"})
_FALSE = frozenset({"", "0", "false", "no"})


def default_home() -> Path:
    """Where a person's own node lives unless told otherwise."""
    return Path.home() / ".reticent" / "device"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to run a node.

    Attributes:
        keys_directory: device keys; ``keys`` inside the node when absent.
        policies_directory: policy documents; those of the package when absent.
        service_url: where the service is. With it a device asks how it stands before every round and update; where it
            cannot ask, the answer is no.
        simulation: True on simulated devices only: releases without noise and seeded noise are possible, and said.
        noise_seed: repeatable noise, for simulations; None means the operating system's randomness.
        now: the clock, seconds since the epoch.
    """

    keys_directory: Path | None = None
    policies_directory: Path | None = None
    service_url: str = ""
    simulation: bool = False
    noise_seed: int | None = None
    now: Callable[[], float] = time.time

    def __post_init__(self) -> None:
        if self.noise_seed is not None and not self.simulation:
            raise MalformedInput("a noise seed is for simulations only: set RETICENT_SIMULATION=1 or remove the seed")

    @property
    def randomness(self) -> str:
        """Where noise comes from, in the words of every privacy statement."""
        from common.privacy.randomness import SECURE_LABEL, SEEDED_LABEL

        return SECURE_LABEL if self.noise_seed is None else SEEDED_LABEL

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> Settings:
        """Settings from environment variables.

        Raises:
            MalformedInput: a value that is not what it must be.
        """
        env = os.environ if env is None else env
        keys, policies = env.get("RETICENT_KEYS_DIR"), env.get("RETICENT_POLICIES")
        return cls(
            keys_directory=Path(keys) if keys else None,
            policies_directory=Path(policies) if policies else None,
            service_url=_url(env, "RETICENT_SERVICE"),
            simulation=_flag(env, "RETICENT_SIMULATION"),
            noise_seed=_whole_number(env, "RETICENT_NOISE_SEED"),
        )


def home_from_env(env: Mapping[str, str] | None = None) -> Path:
    """The node directory: RETICENT_HOME, or the default."""
    home = (os.environ if env is None else env).get("RETICENT_HOME")
    return Path(home).expanduser() if home else default_home()


def _url(env: Mapping[str, str], name: str) -> str:
    value = env.get(name, "").strip()
    if value and not value.startswith(("http://", "https://")):
        raise MalformedInput(f"{name} is a URL that begins with https://")
    return value


def _flag(env: Mapping[str, str], name: str) -> bool:
    value = env.get(name, "").strip().lower()
    if value not in _TRUE | _FALSE:
        raise MalformedInput(f"{name} is 1 or 0")
    return value in _TRUE


def _whole_number(env: Mapping[str, str], name: str) -> int | None:
    value = env.get(name, "").strip()
    if not value:
        return None
    if not value.isdecimal():
        raise MalformedInput(f"{name} is a whole number")
    return int(value)
