"""Rate limits. Owns how often one credential may ask, per role; keeps its counts in memory.

Limits protect the service from a broken or greedy client; they are no guarantee of privacy, so a restart may forget
them, and each of several workers grants its share. They are kept by credential, never by address. The method is the
generic cell rate algorithm: one number per credential says until when its quota is used up.
**Source:** draft-ietf-httpapi-ratelimit-headers-10.
"""

from __future__ import annotations

import functools
import math
import threading
import time
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from common.errors import MalformedInput
from common.taxonomy import Role

KNOWN_MAX: Final = 100_000
ENROLMENT: Final = "enrolment"


class Quota(NamedTuple):
    """So many requests in a window."""

    requests: int
    window_s: int


QUOTAS: Final[Mapping[str, Quota]] = {
    Role.DEVICE.value: Quota(600, 60),
    Role.APP_BACKEND.value: Quota(1_200_000, 60),
    Role.EXCHANGE.value: Quota(600_000, 60),
    Role.ADVERTISER.value: Quota(600, 60),
    Role.PRIVACY_OFFICER.value: Quota(1_200, 60),
    Role.AUDITOR.value: Quota(1_200, 60),
    Role.ADMIN.value: Quota(600, 60),
    ENROLMENT: Quota(60_000, 60),  # all enrolments together: a key to sign with is soon made, and each is a row
}


class Standing(NamedTuple):
    """What is left of a quota, for the answer's headers.

    Attributes:
        name: of the quota.
        remaining: requests that may still come now.
        reset_s: seconds until the whole quota is there again.
        wait_s: how long there is no use in asking; 0: this request counts.
    """

    name: str
    quota: Quota
    remaining: int
    reset_s: int
    wait_s: int = 0

    @property
    def headers(self) -> dict[str, str]:
        """``RateLimit`` and ``RateLimit-Policy``."""
        return {
            "ratelimit": f'"{self.name}";r={self.remaining};t={self.reset_s}',
            "ratelimit-policy": f'"{self.name}";q={self.quota.requests};w={self.quota.window_s}',
        }

    @property
    def lines(self) -> tuple[tuple[bytes, bytes], tuple[bytes, bytes]]:
        """The same as ASGI takes it."""
        left = b'"%b";r=%d;t=%d' % (self.name.encode(), self.remaining, self.reset_s)
        return (b"ratelimit", left), (b"ratelimit-policy", _policy_line(self.name, self.quota))


@functools.lru_cache(maxsize=100)
def _policy_line(name: str, quota: Quota) -> bytes:
    return f'"{name}";q={quota.requests};w={quota.window_s}'.encode()


class RateLimits:
    """Counts requests by credential."""

    def __init__(
        self, quotas: Mapping[str, Quota] = QUOTAS, *, workers: int = 1, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Grant each worker its share of the quotas."""
        self._quotas = {
            name: Quota(max(1, quota.requests // max(1, workers)), quota.window_s) for name, quota in quotas.items()
        }
        self._clock = clock
        self._until: dict[str, float] = {}
        self._lock, self._sweep_at = threading.Lock(), KNOWN_MAX

    def spend(self, credential: str, name: str) -> Standing:
        """Count one request.

        Args:
            credential: whose; the same before and after a rotation.
            name: of the quota: a role's value, or ``enrolment``.
        """
        quota, now = self._quotas[name], self._clock()
        step = quota.window_s / quota.requests
        with self._lock:
            until = max(self._until.get(credential, now), now) + step
            if until - now > quota.window_s + step / 2:
                wait = math.ceil(until - now - quota.window_s)
                return Standing(name, quota, 0, math.ceil(until - step - now), max(1, wait))
            self._until[credential] = until
            if len(self._until) > self._sweep_at:
                self._until = {known: end for known, end in self._until.items() if end > now}
                self._sweep_at = max(KNOWN_MAX, 2 * len(self._until))  # so that sweeping stays cheap per request
        used = until - now
        return Standing(name, quota, int((quota.window_s - used) / step + 0.5), math.ceil(used))


def read_quotas(text: str) -> Mapping[str, Quota]:
    """Quotas as an operator writes them: ``device=600/60 app_backend=100000/60``; the others stay as they are.

    Raises:
        MalformedInput: not of that form.
    """
    found = dict(QUOTAS)
    for part in text.split():
        name, _, figures = part.partition("=")
        requests, _, window = figures.partition("/")
        fitting = name in found and all(x.isascii() and x.isdecimal() and int(x[:10]) > 0 for x in (requests, window))
        if not fitting:
            raise MalformedInput("RETICENT_RATE_LIMITS takes <role>=<requests>/<seconds>, separated by spaces")
        found[name] = Quota(int(requests[:10]), int(window[:10]))
    return found
