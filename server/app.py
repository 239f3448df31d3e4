"""Flower's ServerApp: wiring only. Settings come from the environment, the training from Flower's run-config."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypedDict

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from pydantic import ValidationError

from common.crypto import keyfile
from common.crypto.signing import PublicKey, SigningKey
from common.errors import MalformedInput
from common.model.feature_spec import FeatureSpec
from common.taxonomy import Task
from common.wire.codec import describe
from policies import loader
from policies.loader import LoadedPolicies
from policies.placement.lint import refuse_special_features
from server.migrations import current, migrate, newest
from server.rounds.measuring import Measured, Measurement
from server.rounds.training import FinishedTraining, Observer, RoundReport, Training
from server.rounds.training_config import TrainingConfig
from server.settings import RoundConsentRule, Settings
from server.storage import Database, open_database

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """One training or one measurement over Flower's grid; ends by the name of an error if it cannot be finished."""
    settings = Settings.from_env()
    if TrainingConfig.from_run_config(context.run_config).task is Task.TRAIN:
        train(grid, context, settings=settings, observer=_log_round)
    else:
        _log_measured(measure(grid, context, settings=settings))


def train(grid: Grid, context: Context, *, settings: Settings, observer: Observer) -> FinishedTraining:
    """What ``main`` does for a training, for a caller that wants to watch."""
    with _equipped(context, settings) as equipment:
        return Training(**equipment, observer=observer).run(grid)


def measure(grid: Grid, context: Context, *, settings: Settings) -> Measured:
    """What ``main`` does for one paid release beside any training."""
    with _equipped(context, settings) as equipment:
        return Measurement(**equipment).run(grid)


class _Equipment(TypedDict):
    config: TrainingConfig
    spec: FeatureSpec
    policies: LoadedPolicies
    database: Database
    signer: SigningKey
    authorities: tuple[PublicKey, ...]
    round_consent: RoundConsentRule


@contextmanager
def _equipped(context: Context, settings: Settings) -> Iterator[_Equipment]:
    """All that a run needs, with the database at its newest revision."""
    config = TrainingConfig.from_run_config(context.run_config)
    database = open_database(settings.database_url)
    try:
        if current(database) != newest():
            migrate(database)
        yield {
            "config": config,
            "spec": read_feature_spec(settings.feature_spec),
            "policies": loader.load(settings.policies),
            "database": database,
            "signer": keyfile.load_or_create(settings.signing_key),
            "authorities": authorities_of(settings),
            "round_consent": settings.round_consent,
        }
    finally:
        database.close()


def authorities_of(settings: Settings) -> tuple[PublicKey, ...]:
    """Who may certify devices for secure aggregation; nobody where none is configured.

    Raises:
        MalformedInput: what is configured is no public key.
    """
    if settings.authority:
        try:
            return (PublicKey(settings.authority),)
        except ValueError:
            raise MalformedInput("RETICENT_AUTHORITY is not a public key (43 base64url characters)") from None
    if settings.authority_key.exists():
        return (keyfile.load_or_create(settings.authority_key).public,)
    return ()


def read_feature_spec(path: Path | None) -> FeatureSpec:
    """The feature specification that this installation trains for.

    Raises:
        MalformedInput: none is named, or it is no specification.
        PolicyError: a feature is named for a special category.
    """
    if path is None:
        raise MalformedInput("set RETICENT_FEATURE_SPEC to the feature specification (JSON) that devices use")
    try:
        spec = FeatureSpec.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise MalformedInput(f"{path.name}: {describe(error)}") from None
    except OSError as error:
        raise MalformedInput(f"{path.name}: {error.strerror or 'cannot be read'}") from None
    refuse_special_features(spec)
    return spec


def _log_round(report: RoundReport) -> Mapping[str, float]:
    """One line per round in Flower's own log; counts and public figures only."""
    logging.getLogger("flwr").info(
        "round %d/%d of %s: %d of %d devices from %d of %d nodes; refused %s; declined %s; %s",
        report.round_number,
        report.rounds_total,
        report.run_id,
        report.record.contributions,
        report.record.roster,
        report.record.nodes,
        report.record.invited,
        dict(report.record.refused),
        dict(report.record.declined),
        " | ".join(line.sentence() for line in report.lines),
    )
    return {}


def _log_measured(found: Measured) -> None:
    """What a measurement found."""
    log = logging.getLogger("flwr")
    log.info("%s over %d devices; %s", found.task.value, found.devices, " | ".join(x.sentence() for x in found.lines))
    for name, value in found.figures.items():
        log.info("%s %.4g", name, value)
    if found.cells:
        log.info("%d noisy counts are stored; GET /v1/reports/campaigns/{id} shows what may be shown", len(found.cells))
    for name, histogram in found.histograms.items():
        shares = " ".join(f"{share:.3g}" for share in histogram.shares)
        log.info("%s (noise %.2g on each share): %s", name, histogram.stddev, shares)
