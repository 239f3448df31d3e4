"""What a measurement counts. Owns the plan of a day: campaigns in force, declared groups, arms of the experiment.

All of it is public. Labels come from signed catalogues and documents, never from what devices hold.
"""

from __future__ import annotations

from collections.abc import Mapping

from common.crypto.signing import PublicKey
from common.errors import NotFound
from common.measurement.counting import UNDECLARED
from common.taxonomy import Dimension
from common.wire.documents import open_document
from common.wire.experiments import ExperimentDocument
from common.wire.measurement import LABELS_MAX, Cut, MeasurementPlan
from policies.schema import PlacementCounts
from server.experiments import repository as experiments
from server.measurement.known import KnownCatalogues
from server.measurement.service import Span
from server.storage import Database, Transaction


def plan_of(
    day: int, database: Database, rules: PlacementCounts, keys: Mapping[str, PublicKey]
) -> tuple[MeasurementPlan, dict[str, int]]:
    """The plan of a day, and the lowest bid of each of its campaigns.

    Args:
        day: since 1970-01-01.
        database: where catalogues and experiments are.
        rules: names the groups.
        keys: by which both are signed.

    Raises:
        NotFound: no campaign was in force that day.
        TrustError: a signature does not verify.
    """
    since, until = Span(day, day).seconds
    with database.read() as session:
        bids = KnownCatalogues(database, keys).bids(session, since, until)
        experiment, arms = _arms(session, keys, since, until)
    campaigns = sorted(bids)[:LABELS_MAX]
    if not campaigns:
        raise NotFound("no campaign was in force that day, so there is nothing to measure")
    cuts = [Cut(dimension=Dimension.CAMPAIGN, labels=tuple(campaigns))]
    if rules.groups:
        cuts.append(Cut(dimension=Dimension.GROUP, labels=(*rules.groups, UNDECLARED)))
    if arms:
        cuts.append(Cut(dimension=Dimension.ARM, labels=arms))
    plan = MeasurementPlan(day=day, cuts=tuple(cuts), experiment=experiment)
    return plan, {name: bids[name] for name in campaigns}


def _arms(
    session: Transaction, keys: Mapping[str, PublicKey], since: int, until: int
) -> tuple[str | None, tuple[str, ...]]:
    """Digest and arms of the experiment that ran that day."""
    ran = experiments.ran_between(session, since, until)
    if ran is None:
        return None, ()
    return ran.digest, tuple(arm.name for arm in open_document(ran.jws, ExperimentDocument, keys).arms)
