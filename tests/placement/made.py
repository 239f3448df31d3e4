"""Creatives and policies made for tests of g: one of every strategy."""

from __future__ import annotations

from common.wire.messages import Creative
from policies.placement.document import PlacementPolicy

BOTH = {"en": "text", "zh-CN": "文本"}


def creative(name: str, advertiser: str = "a", category: str = "snacks", **attributes: str) -> Creative:
    return Creative(
        creative_id=name,
        item_id=f"item-{name}",
        attributes=attributes,
        category=category,
        advertiser=advertiser,
        payer="p",
        title=BOTH,
        description=BOTH,
        image_url="/x.svg",
        image_alt=BOTH,
        landing_url="https://shop.example/",
        label={"en": "Ad", "zh-CN": "广告"},
    )


def policy(strategy: dict[str, object], **fields: object) -> PlacementPolicy:
    whole = {"version": 1, "name": "t", "eligibility": {"denied_categories": []}, "strategy": strategy}
    return PlacementPolicy.model_validate(whole | fields)


GREEDY = policy({"kind": "greedy"})
SOFTMAX = policy({"kind": "softmax", "temperature": 0.2, "k": 5})
EPSILON = policy({"kind": "epsilon_greedy", "exploration": 0.3, "k": 5})
GAUSSIAN = policy({"kind": "thompson", "posterior": "gaussian", "stddev": 0.2, "cells": 60, "k": 5})
BETA = policy({"kind": "thompson", "posterior": "beta", "prior_strength": 10, "cells": 60, "k": 5})
EVERY = [
    GREEDY,
    policy({"kind": "threshold", "score_min": 0.3}),
    policy({"kind": "top_k", "k": 3}),
    SOFTMAX,
    EPSILON,
    GAUSSIAN,
    BETA,
]
RANDOM = [SOFTMAX, EPSILON, GAUSSIAN, BETA]
NAMES = [f"c{i}" for i in range(7)]
