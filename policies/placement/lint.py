"""What no placement policy, catalogue or feature specification may contain. Owns the proofs; raises, never repairs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

from common.errors import InvariantViolated, PolicyError
from common.model.feature_spec import FeatureSpec
from common.wire.messages import Creative
from policies.placement.document import EpsilonGreedyStrategy, PlacementPolicy
from policies.placement.eligibility import folded
from policies.placement.special import SpecialCategory, special_categories

DENIED_ALWAYS = (
    "tobacco",
    "prescription drugs",
    "health condition",
    "sexual life",
    "religion",
    "political",
    "trade union",
)
"""Every document must deny these, in these words: the list is read by people who look for exactly them."""
PROPENSITY_MIN = 1e-4
"""Least propensity that an exploring document may give: below it, no log can judge what it explores."""
_PRICE_WORDS = frozenset({"price", "prices", "bid", "bids", "cost", "fee", "charge", "discount", "amount", "micros"})


def prove_placement(policy: PlacementPolicy) -> None:
    """The document denies what it must, and does not contradict itself.

    Raises:
        InvariantViolated: it does not; the text names what to change.
    """
    name = f"placement {policy.name}"
    denied = frozenset(map(folded, policy.eligibility.denied_categories))
    missing = [category for category in DENIED_ALWAYS if category not in denied]
    if missing:
        raise InvariantViolated(f"{name}: denied_categories lacks {', '.join(missing)}")
    both = sorted(denied.intersection(map(folded, policy.eligibility.allowed_categories)))
    if both:
        raise InvariantViolated(f"{name}: allows and denies {', '.join(both)}")
    special = sorted(c for c in policy.eligibility.allowed_categories if special_categories(c))
    if special:
        raise InvariantViolated(f"{name}: allows what hints at special categories: {', '.join(special)}")
    facts = sorted(fact for fact in policy.eligibility.match_context if special_categories(fact))
    if facts:
        raise InvariantViolated(f"{name}: matches by special categories: {', '.join(facts)}")
    _prove_caps(policy, name)
    _prove_exploration(policy, name)


def _prove_caps(policy: PlacementPolicy, name: str) -> None:
    twice = [rule for rule, count in Counter((r.scope, r.window_hours) for r in policy.caps).items() if count > 1]
    if twice:
        scope, hours = twice[0]
        raise InvariantViolated(f"{name}: two caps for one {scope.value} in {hours:g} hours")


def _prove_exploration(policy: PlacementPolicy, name: str) -> None:
    rule = policy.strategy
    if isinstance(rule, EpsilonGreedyStrategy) and 0 < rule.exploration < PROPENSITY_MIN * rule.k:
        raise InvariantViolated(
            f"{name}: exploration {rule.exploration:g} over {rule.k} candidates gives propensities below "
            f"{PROPENSITY_MIN:g}. It holds with exploration ≥ {PROPENSITY_MIN * rule.k:g}, or a smaller k, or 0"
        )


def refuse_special_creatives(creatives: Iterable[Creative]) -> None:
    """No creative is about a special category, by its category or its attributes.

    Raises:
        PolicyError: one is; the text names it and the category.
    """
    for creative in creatives:
        _refuse(f"creative {creative.creative_id}", _creative_texts(creative))


def special_creatives(creatives: Iterable[Creative]) -> dict[str, frozenset[SpecialCategory]]:
    """The creatives that ``refuse_special_creatives`` would refuse, by id, with what they hint at."""
    found = {
        one.creative_id: frozenset[SpecialCategory]().union(*map(special_categories, _creative_texts(one)))
        for one in creatives
    }
    return {creative_id: hints for creative_id, hints in found.items() if hints}


def refuse_special_texts(what: str, texts: Iterable[str]) -> None:
    """No text hints at a special category.

    Raises:
        PolicyError: one does; the error names ``what`` and the category, never the text.
    """
    _refuse(what, texts)


def refuse_special_features(spec: FeatureSpec) -> None:
    """No feature is named for a special category.

    Raises:
        PolicyError: one is; the text names it and the category.
    """
    for name in (*(field.name for field in spec.categorical), *(field.name for field in spec.numeric)):
        _refuse(f"feature {name}", (name,))


def price_like(names: Iterable[str]) -> list[str]:
    """The names among these that speak of money."""
    return [name for name in names if _PRICE_WORDS.intersection(folded(name).split())]


def _creative_texts(creative: Creative) -> Iterator[str]:
    yield creative.category
    yield from creative.attributes
    yield from creative.attributes.values()
    yield from creative.numbers


def _refuse(what: str, texts: Iterable[str]) -> None:
    for text in texts:
        found = special_categories(text)
        if found:
            raise PolicyError(f"{what} hints at {', '.join(sorted(found))}: special categories are never used")
