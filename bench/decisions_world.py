"""The installation that decisions are measured on: model, catalogue, a backend's key, people who said yes or no.

    python -m bench.decisions_world FOLDER [--people 300] [--creatives 200]

Everything that a decision can meet is in force: frequency caps of the policy and of every campaign, campaigns whose
budgets are paced (some are served with a probability between 0 and 1), and an experiment with two arms. Made by the
service's own code, once; every server of a measurement then runs on it. Prints one JSON object with what a load
generator needs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from common.crypto.signing import SigningKey
from common.measurement.layout import Cell, ContributionBounds
from common.model.feature_spec import CategoricalField, FeatureSpec, NumericField
from common.model.network import initial_arrays
from common.privacy.parameters import PrivacyStatement
from common.taxonomy import (
    AgeBand,
    ConsentState,
    Dimension,
    FeatureBlock,
    Metric,
    ModelFamily,
    NeighbouringRelation,
    PlanKind,
    PrivacyUnit,
    Purpose,
    ReviewState,
    Role,
    TrustModel,
)
from common.wire.measurement import Cut, MeasurementPlan
from common.wire.messages import ConsentChange, Creative, ModelSpec, SubjectEnrolment
from common.wire.placement import ViewCap
from policies.loader import DOCUMENTS
from server.access.principal import Principal
from server.api.services import Services, initialise
from server.campaigns import plan_repository
from server.campaigns.plan_repository import Plan
from server.campaigns.templates import ItemFacts, build_catalogue, read_templates
from server.campaigns.terms import CampaignTerms
from server.experiments.changes import ArmDraft, ExperimentDraft, PolicyChange
from server.measurement.repository import StoredDay
from server.registry.service import register
from server.settings import Settings

APP: Final = "bench"
CAMPAIGNS: Final = 10
CAPS: Final = (ViewCap(views_max=3, window_hours=24),)
POLICY_CAPS: Final = "caps: [{scope: advertiser, views_max: 5, window_hours: 24}]\n"
DAY_S: Final = 86_400
SPEC: Final = FeatureSpec(
    name="bench",
    version=1,
    categorical=(
        CategoricalField(name="item", block=FeatureBlock.CONTEXT, buckets=4096),
        CategoricalField(name="category", block=FeatureBlock.CONTEXT, buckets=64),
        CategoricalField(name="page", block=FeatureBlock.CONTEXT, buckets=64),
        CategoricalField(name="hour", block=FeatureBlock.CONTEXT, buckets=64),
        CategoricalField(name="bought_before", block=FeatureBlock.PERSONAL, buckets=4),
    ),
    numeric=(NumericField(name="discount", block=FeatureBlock.CONTEXT),),
)
MODEL: Final = ModelSpec(family=ModelFamily.LOGISTIC, spec_digest=SPEC.digest, base_rate=0.1)
_STATEMENT: Final = PrivacyStatement(
    epsilon=4.0,
    delta=1e-6,
    unit=PrivacyUnit.USER,
    relation=NeighbouringRelation.ADD_REMOVE,
    trust=TrustModel.DISTRIBUTED,
    composition="bench",
    accountant="PLD",
    randomness="operating system",
)


def furnish(folder: Path, *, people: int, creatives: int) -> dict[str, Any]:
    """Make the installation; what a load generator needs to know of it."""
    services = initialise(Settings.at(folder))
    try:
        _model(services)
        services.catalogues.publish(tuple(_creatives(creatives)))
        _budgets(services)
        _experiment(services)
        key = services.access.issue(Role.APP_BACKEND, label="bench", app_id=APP).token
        handles = [_person(services, given=number % 2 == 0) for number in range(people)]
    finally:
        services.database.close()
    return {"key": key, "given": handles[::2], "refused": handles[1::2]}


def _model(services: Services) -> None:
    rng = np.random.default_rng(1)
    template = initial_arrays(MODEL, SPEC)
    register(
        services.database.sessions,
        run_id="bench",
        model=MODEL,
        spec=SPEC,
        arrays={name: rng.normal(0, 1, array.shape).astype(np.float32) for name, array in template.items()},
        metrics={"auc": 0.8, "log_loss": 0.3},
        privacy=[_STATEMENT, _STATEMENT.model_copy(update={"epsilon": float("inf")})],
        signer=services.signer,
        log=services.log,
    )


def _creatives(count: int) -> Iterator[Creative]:
    """Creatives of ``CAMPAIGNS`` campaigns, with bids."""
    items = [
        ItemFacts(
            item_id=str(1000 + number),
            category="snacks",
            attributes={"category": "snacks", "brand": f"Brand {number % 7}", "product": f"Product {number}"},
            numbers={"discount": number % 10 / 10},
        )
        for number in range(count)
    ]
    for number, creative in enumerate(build_catalogue(items, read_templates()).creatives):
        campaign = f"campaign-{number % CAMPAIGNS}"
        yield creative.model_copy(
            update={"campaign_id": campaign, "bid_micros": 100_000 + number * 1_000, "caps": CAPS}
        )


def _budgets(services: Services) -> None:
    """Campaigns in their fourth day, of which two were measured: every other one spends three times too fast."""
    today = int(services.clock()) // DAY_S
    names = [f"campaign-{number}" for number in range(CAMPAIGNS)]
    bid = 100_000
    for number, name in enumerate(names):
        terms = CampaignTerms(
            name=name,
            payer="Bench",
            landing_url="https://bench.example/",
            starts_at=(today - 3) * DAY_S,
            ends_at=(today + 7) * DAY_S,
            budget_micros=bid * (10_000 if number % 2 else 1_000_000),
            bid_micros=bid,
            caps=CAPS,
        )
        plan = Plan(name, PlanKind.CAMPAIGN, name, "bench", ReviewState.APPROVED, 1, terms, "bench", 0, 0)
        with services.database.write() as session:
            plan_repository.insert(session, plan)
    for day in (today - 3, today - 2):
        services.measurement.store(
            StoredDay(
                day=day,
                run_id=f"measure-{day}",
                devices=1_000,
                plan=MeasurementPlan(day=day, cuts=(Cut(dimension=Dimension.CAMPAIGN, labels=tuple(names)),)),
                bounds=ContributionBounds(),
                bids=dict.fromkeys(names, bid),
                statements=(),
                cells=tuple(Cell(Dimension.CAMPAIGN, name, Metric.CLICKS, 30.0, 5.0) for name in names),
            )
        )
    services.pacing.refresh()
    if not any(0 < probability < 1 for probability in services.pacing.serving().values()):
        raise RuntimeError("no campaign is paced")


def _experiment(services: Services) -> None:
    """The policy in force, with a cap, and one that looks at fewer candidates, each for half of the decisions."""
    proposer, approver = (Principal(Role.PRIVACY_OFFICER, holder=name) for name in ("ada", "wei"))
    own = (DOCUMENTS / "placement.yaml").read_text(encoding="utf-8")
    own = own.replace("version: 1", "version: 2").replace("strategy:", f"{POLICY_CAPS}strategy:")
    other = own.replace("version: 2", "version: 3").replace("name: default", "name: narrower").replace("k: 50", "k: 20")
    arms = (("own", own), ("narrower", other))
    drafts = tuple(ArmDraft(name=name, share=5_000, policy_text=text) for name, text in arms)
    for change in (PolicyChange(text=own), ExperimentDraft(experiment_id="bench", arms=drafts, length_s=30 * DAY_S)):
        made = services.proposals.propose(change, proposer, reason="bench")
        services.proposals.approve(made.id, approver)


def _person(services: Services, *, given: bool) -> str:
    handle = services.consent.enrol(
        SubjectEnrolment(
            public_key=SigningKey.generate().public.x, app_id=APP, age_band=AgeBand.ADULT, jurisdiction="CN"
        )
    )
    said = ConsentState.GIVEN if given else ConsentState.REFUSED
    services.consent.change(
        ConsentChange(
            handle=handle,
            notice_digest=services.notices.current("en").digest,
            decisions={Purpose.TRAIN_LOCAL: said, Purpose.PLACE_PERSONALISED: said},
            locale="en",
            surface="bench",
        ),
        Role.DEVICE,
    )
    return handle


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--people", type=int, default=300)
    parser.add_argument("--creatives", type=int, default=200)
    args = parser.parse_args()
    print(json.dumps(furnish(args.folder, people=args.people, creatives=args.creatives)))
