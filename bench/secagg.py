"""Cost of secure aggregation by stage: a device, the server, and bytes, against cohort size and dimension.

    python -m bench.secagg [--json PATH] [--quick]

Whole sessions with real devices, keys, shares and sums; three tenths of the devices drop out, half of them before they
mask, half before they reveal. CPU seconds of one process on one thread, so that neighbours on the machine do not count.
A device's roster is verified once per node, hence given apart: that is what a phone pays on top, and what a node of
many virtual devices pays once. Sessions of 4,096 devices beyond 2^10 coordinates have a sample of them mask for real;
their server figures from stage mask on are left out. Bytes are real encoded messages of all stages and the payload.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from common.crypto.signing import SigningKey
from common.privacy.parameters import CohortParameters, MechanismUse
from common.secagg import device, shamir
from common.secagg.certificate import issue_certificate
from common.secagg.graph import plan
from common.secagg.server import Aggregator
from common.secagg.terms import SessionTerms
from common.taxonomy import Mechanism, NeighbouringRelation, PrivacyUnit, Task, TrustModel
from common.wire import codec
from common.wire.secagg import MaskedUpdateHeader
from policies.loader import load

NOW = 1_800_000_000.0
BITS = 24
LEVELS = 1000
SAMPLE = 64
STAGES = ("advertise", "share", "mask", "confirm", "reveal")
AUTHORITY = SigningKey(b"\x01" * 32)


@dataclass
class Row:
    """One cohort size and dimension. Milliseconds per device, seconds for the server, bytes per device."""

    devices: int
    length: int
    bits: int
    neighbours: int
    threshold: int
    survivors: int
    whole_session: bool
    device_ms: dict[str, float] = field(default_factory=dict)
    node_ms: dict[str, float] = field(default_factory=dict)
    server_s: dict[str, float] = field(default_factory=dict)
    upload_bytes: dict[str, float] = field(default_factory=dict)

    @property
    def device_total_ms(self) -> float:
        """All stages of one device, verification of roster and confirmations apart."""
        return sum(self.device_ms.values())

    @property
    def upload_total(self) -> float:
        """All a device sends in a session."""
        return sum(self.upload_bytes.values())

    def expansion(self, bits: int) -> float:
        """Upload divided by the bare integer vector at so many bits a coordinate."""
        return self.upload_total / (self.length * bits / 8)


class Clock:
    """CPU time by name."""

    def __init__(self) -> None:
        self.spent: dict[str, list[float]] = {}

    def __call__(self, name: str, call: Callable[[], Any]) -> Any:  # noqa: ANN401 - whatever the call returns
        """Time one call."""
        start = time.process_time()
        result = call()
        self.spent.setdefault(name, []).append(time.process_time() - start)
        return result

    def median_ms(self, name: str) -> float:
        """Milliseconds of a typical call."""
        return 1000 * statistics.median(self.spent[name])


class Play:
    """One session, measured stage by stage."""

    def __init__(self, size: int, length: int, cohort: CohortParameters, *, whole: bool) -> None:
        session = hashlib.sha256(f"{size}/{length}".encode()).hexdigest()
        self.terms = SessionTerms(session, length, BITS, cohort, (AUTHORITY.public,), NOW)
        found = plan(size, cohort)
        self.row = Row(size, length, BITS, found.degree, found.threshold, found.survivors_min, whole_session=whole)
        self.mine, self.theirs = Clock(), Clock()
        self.sizes: dict[str, list[int]] = {}
        self.server = Aggregator(self.terms)
        self.states: dict[int, Any] = {}
        self.total = np.zeros(length, np.int64)
        dropped = (size - found.survivors_min) // 2
        self.masking = range(dropped, size if whole else dropped + SAMPLE)

    def run(self) -> Row:
        """All stages that this session is to have.

        Raises:
            AssertionError: the sum is not exactly that of the survivors.
        """
        self.advertise()
        self.share()
        self.mask()
        if self.row.whole_session:
            self.confirm()
            self.reveal()
            found = self.theirs("unmask", lambda: self.server.finish(LEVELS * self.row.devices))
            np.testing.assert_array_equal(found.vector, self.total)
        else:
            del self.theirs.spent["mask"]
        self.row.device_ms = {stage: self.mine.median_ms(stage) for stage in STAGES if stage in self.mine.spent}
        self.row.server_s = {name: sum(spent) for name, spent in self.theirs.spent.items()}
        self.row.upload_bytes = {stage: statistics.mean(found) for stage, found in self.sizes.items()}
        return self.row

    def advertise(self) -> None:
        """Every device advertises; the roster is verified as a node does it."""
        begun = {}
        for number in range(self.row.devices):
            key = SigningKey(hashlib.sha256(f"device {number}".encode()).digest())
            paper = issue_certificate(AUTHORITY, key.public.raw, NOW + 1e6)
            begun[key.public.raw], advert = self.mine(
                "advertise", lambda k=key, c=paper: device.begin(self.terms, k, c, os.urandom)
            )
            self.theirs("advertise", lambda a=advert: self.server.add_advert(a))
            self.count("advertise", advert)
        message = self.theirs("advertise", self.server.close_adverts)
        self.roster = self.once("roster", lambda: device.verify_roster(self.terms, message))
        self.states = {self.roster.index_of(identity): state for identity, state in begun.items()}

    def share(self) -> None:
        """Every device shares."""
        for index in self.states:
            self.states[index], message = self.mine(
                "share", lambda i=index: device.share(self.states[i], self.roster, os.urandom)
            )
            self.theirs("share", lambda m=message: self.server.add_shares(m))
            self.count("share", message)
        self.deliveries = self.theirs("share", self.server.close_shares)

    def mask(self) -> None:
        """The devices that are still there mask random vectors."""
        rng = np.random.default_rng(0)
        for index in self.masking:
            vector = rng.integers(-LEVELS, LEVELS + 1, self.row.length)
            self.total += vector
            self.states[index], payload = self.mine(
                "mask", lambda i=index, v=vector: device.mask(self.states[i], self.roster, self.deliveries[i], v)
            )
            self.theirs("mask", lambda i=index, p=payload: self.server.add_masked(i, p))
            self.count("mask", _header(self.terms.session, index, self.row.length), len(payload))

    def confirm(self) -> None:
        """All that masked confirm; the confirmations are verified as a node does it."""
        survivors = self.theirs("mask", self.server.close_masked)
        for index in self.masking:
            self.states[index], message = self.mine(
                "confirm", lambda i=index: device.confirm(self.states[i], self.roster, survivors)
            )
            self.theirs("confirm", lambda m=message: self.server.add_confirmation(m))
            self.count("confirm", message)
        proof = self.theirs("confirm", self.server.close_confirmations)
        digest = message.survivors_digest
        self.verified = self.once(
            "confirmations", lambda: device.verify_confirmations(self.terms, self.roster, digest, proof)
        )

    def reveal(self) -> None:
        """As few reveal as may."""
        for index in self.masking[-self.row.survivors :]:
            _, message = self.mine("reveal", lambda i=index: device.reveal(self.states[i], self.roster, self.verified))
            self.theirs("reveal", lambda m=message: self.server.add_reveal(m))
            self.count("reveal", message)

    def once(self, what: str, call: Callable[[], Any]) -> Any:  # noqa: ANN401 - whatever the call returns
        """Time what a node does once for all its devices."""
        clock = Clock()
        result = clock(what, call)
        self.row.node_ms[what] = clock.median_ms(what)
        return result

    def count(self, stage: str, message: Any, payload: int = 0) -> None:  # noqa: ANN401 - any message
        """Add to the bytes of a stage."""
        self.sizes.setdefault(stage, []).append(len(codec.encode(message)) + payload)


def measure(size: int, length: int, cohort: CohortParameters, *, whole: bool) -> Row:
    """Play one session and measure it."""
    return Play(size, length, cohort, whole=whole).run()


def _header(session: str, index: int, length: int) -> MaskedUpdateHeader:
    use = MechanismUse(
        mechanism=Mechanism.SKELLAM,
        noise_multiplier=2.7,
        sampling_rate=1.0,
        count=1,
        unit=PrivacyUnit.USER,
        relation=NeighbouringRelation.ADD_REMOVE,
        trust=TrustModel.DISTRIBUTED,
        levels=LEVELS,
        dimension=length,
    )
    return MaskedUpdateHeader(
        session=session,
        index=index,
        run_id="a-run-of-ordinary-name",
        round_number=1,
        task=Task.TRAIN,
        spec_digest="0" * 64,
        base_digest="0" * 64,
        length=length,
        bits=BITS,
        releases=(use,),
    )


def fields(count: int, threshold: int) -> dict[str, float]:
    """Milliseconds to share 64 bytes: our field, and Python integers modulo a prime beyond 2^256."""
    prime = 2**521 - 1
    ours, other = Clock(), Clock()

    def horner() -> None:
        for _ in range(2):
            coefficients = [int.from_bytes(os.urandom(32)) for _ in range(threshold)]
            for x in range(1, count + 1):
                value = 0
                for coefficient in coefficients:
                    value = (value * x + coefficient) % prime

    for _ in range(10):
        ours("split", lambda: shamir.split(bytes(64), threshold=threshold, count=count, entropy=os.urandom))
        other("split", horner)
    return {"GF(2^16), tables": ours.median_ms("split"), "integers mod p": other.median_ms("split")}


def show(row: Row) -> str:
    """One line."""
    stages = " ".join(f"{stage} {row.device_ms.get(stage, float('nan')):.2f}" for stage in STAGES)
    server = " ".join(f"{stage} {seconds:.2f}" for stage, seconds in row.server_s.items())
    node = " ".join(f"{what} {ms:.0f}" for what, ms in row.node_ms.items())
    return (
        f"{row.devices:5} devices x {row.length:<6} k={row.neighbours:<3} t={row.threshold:<3} | "
        f"device {row.device_total_ms:6.1f} ms ({stages}) | once per node, ms: {node} | server s: {server} | "
        f"upload {row.upload_total / 1024:7.1f} KiB = {row.expansion(row.bits):.2f}x of {row.bits} bits, "
        f"{row.expansion(16):.2f}x of 16 bits" + ("" if row.whole_session else " (without confirm and reveal)")
    )


def main(argv: list[str] | None = None) -> int:
    """Measure the grid and print it."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="write the figures here")
    parser.add_argument("--quick", action="store_true", help="up to 256 devices")
    arguments = parser.parse_args(argv)
    cohort = load().policies.privacy_budget.cohort
    warm = measure(64, 2**10, cohort, whole=True)
    print(f"cohort: {cohort}; modulus 2^{BITS}; {platform.machine()}, Python {platform.python_version()}")
    grid = [(64, 2**10), (64, 2**14), (256, 2**10), (256, 2**14)]
    if not arguments.quick:
        grid += [(64, 2**17), (256, 2**17), (500, 1000), *((1024, 2**p) for p in (10, 12, 14, 17))]
        grid += [(4096, 2**p) for p in (10, 14, 17)]
    rows = []
    for size, length in sorted(grid):
        rows.append(measure(size, length, cohort, whole=size <= 1024 or length <= 2**10))
        print(show(rows[-1]), flush=True)
    compared = fields(rows[-1].neighbours, rows[-1].threshold)
    print(f"sharing 64 bytes, k={rows[-1].neighbours}, t={rows[-1].threshold}, ms: {compared}")
    target = next((r for r in rows if (r.devices, r.length) == (1024, 2**14)), warm)
    print(f"upload at {target.devices} x {target.length}: {target.expansion(BITS):.2f}x the quantised vector (<= 2)")
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        body = {"cohort": cohort.model_dump(), "rows": [asdict(row) for row in rows], "sharing_ms": compared}
        arguments.json.write_text(json.dumps(body, indent=1))
    return int(target.expansion(BITS) > 2 and target.devices == 1024)


if __name__ == "__main__":
    sys.exit(main())
