"""How long g takes on a device: 1,000 creatives, one core, every ready policy and every strategy at its defaults.

    python -m bench.ranking [decisions]

The scores are given: what computing Y costs is another bench's question. Caps have 200 earlier views to count. Prints
quantiles of wall and CPU time per decision; exit status 1 if a p99 of CPU time is above 10 ms.
"""

from __future__ import annotations

import random
import sys
import time
from typing import Final

from common.wire.messages import Creative, SlotRequest
from policies.loader import load, load_placement, ready_placements
from policies.placement.decide import decide
from policies.placement.document import PlacementPolicy
from policies.placement.inputs import Bid, Inputs, Shown

CREATIVES: Final = 1000
LIMIT_MS: Final = 10.0
BOTH: Final = {"en": "text", "zh-CN": "文本"}


def catalogue() -> tuple[Creative, ...]:
    """A thousand creatives of fifty advertisers in twenty categories."""
    return tuple(
        Creative(
            creative_id=f"creative-{i}",
            item_id=f"item-{i}",
            attributes={"brand": f"b{i % 90}"},
            category=f"category {i % 20}",
            advertiser=f"advertiser-{i % 50}",
            payer="p",
            title=BOTH,
            description=BOTH,
            image_url="/x.svg",
            image_alt=BOTH,
            landing_url="https://shop.example/",
            label={"en": "Ad", "zh-CN": "广告"},
        )
        for i in range(CREATIVES)
    )


DEFAULTS: Final[dict[str, dict[str, object]]] = {
    "greedy": {"kind": "greedy"},
    "beta": {"kind": "thompson", "posterior": "beta"},
    "gaussian": {"kind": "thompson", "posterior": "gaussian"},
}


def of_defaults(like: PlacementPolicy, name: str, rule: dict[str, object]) -> PlacementPolicy:
    """A policy with another one's filters and caps, and a strategy as it is when a document says nothing more."""
    return PlacementPolicy.model_validate(like.model_dump() | {"name": name, "strategy": rule})


def main(decisions: int) -> int:
    """Measure; 1 if too slow."""
    creatives, draw = catalogue(), random.Random(1)  # noqa: S311 - made scores
    ids = [c.creative_id for c in creatives]
    shown = tuple(
        Shown(c.creative_id, c.advertiser, c.advertiser, c.category, draw.uniform(0, 86_400))
        for c in draw.choices(creatives, k=200)
    )
    inputs = Inputs(
        now=86_400.0,
        shown=shown,
        pacing={f"advertiser-{i}": 0.8 for i in range(50)},
        bids={name: Bid(draw.randrange(10_000, 2_000_000)) for name in ids},
    )
    slots = [SlotRequest(slot_id="a", count=2), SlotRequest(slot_id="b")]
    policies = {"default": load().policies.placement} | {n: load_placement(p)[0] for n, p in ready_placements().items()}
    policies |= {f"any {name}": of_defaults(policies["social"], name, rule) for name, rule in DEFAULTS.items()}
    slow = False
    for name, policy in policies.items():
        walls, cpus = [], []
        for number in range(decisions + 5):
            scores = {c: draw.betavariate(1, 40) for c in ids}
            wall, cpu = time.perf_counter(), time.process_time()
            decide(
                policy,
                creatives,
                lambda left, by=scores: [by[c.creative_id] for c in left],
                slots,
                salt=f"dec_{number}",
                inputs=inputs,
            )
            if number >= 5:  # the first ones import and warm up
                walls.append((time.perf_counter() - wall) * 1e3)
                cpus.append((time.process_time() - cpu) * 1e3)
        middle, late, wall_late = (sorted(t)[int(q * len(t))] for t, q in ((cpus, 0.5), (cpus, 0.99), (walls, 0.99)))
        slow |= late > LIMIT_MS
        print(
            f"{name:<13} {policy.strategy.kind:<15} CPU p50 {middle:5.2f} ms  p99 {late:5.2f} ms"
            f"   wall p99 {wall_late:5.2f} ms"
        )
    return int(slow)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 300))
