"""Flower's ServerApp: wiring only. Settings come from the environment, the training from Flower's run-config."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from pydantic import ValidationError

from common.crypto import keyfile
from common.errors import MalformedInput
from common.model.feature_spec import FeatureSpec
from common.wire.codec import describe
from policies import loader
from server.migrations import current, migrate, newest
from server.rounds.training import FinishedTraining, Observer, RoundReport, Training
from server.rounds.training_config import TrainingConfig
from server.settings import Settings
from server.storage import open_database

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Run one training over Flower's grid; ends by the name of an error if it cannot be finished."""
    train(grid, context, settings=Settings.from_env(), observer=_log_round)


def train(grid: Grid, context: Context, *, settings: Settings, observer: Observer) -> FinishedTraining:
    """What ``main`` does, for a caller that wants to watch."""
    config = TrainingConfig.from_run_config(context.run_config)
    database = open_database(settings.database_url)
    try:
        if current(database) != newest():
            migrate(database)
        return Training(
            config=config,
            spec=read_feature_spec(settings.feature_spec),
            policies=loader.load(settings.policies),
            database=database,
            signer=keyfile.load_or_create(settings.signing_key),
            observer=observer,
        ).run(grid)
    finally:
        database.close()


def read_feature_spec(path: Path | None) -> FeatureSpec:
    """The feature specification that this installation trains for.

    Raises:
        MalformedInput: none is named, or it is no specification.
    """
    if path is None:
        raise MalformedInput("set RETICENT_FEATURE_SPEC to the feature specification (JSON) that devices use")
    try:
        return FeatureSpec.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise MalformedInput(f"{path.name}: {describe(error)}") from None
    except OSError as error:
        raise MalformedInput(f"{path.name}: {error.strerror or 'cannot be read'}") from None


def _log_round(report: RoundReport) -> Mapping[str, float]:
    """One line per round in Flower's own log; counts and public figures only."""
    logging.getLogger("flwr").info(
        "round %d/%d of %s: %d contributions from %d of %d nodes; refused %s; declined %s; %s",
        report.round_number,
        report.rounds_total,
        report.run_id,
        report.record.contributions,
        report.record.nodes,
        report.record.invited,
        dict(report.record.refused),
        dict(report.record.declined),
        report.privacy.sentence(),
    )
    return {}
