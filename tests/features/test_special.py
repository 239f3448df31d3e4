"""No feature of a special category is loaded anywhere: described, on a device, pinned, trained or registered."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from client.device import Node, NodeConfig
from client.population.description import DESCRIPTIONS, load_description
from client.settings import Settings
from common.errors import PolicyError
from common.model.feature_spec import CategoricalField, FeatureSpec
from common.taxonomy import FeatureBlock
from server.api.services import build_services, initialise
from server.app import read_feature_spec
from server.settings import Settings as ServerSettings
from tests.service.world import SPEC, register_model

SPECIAL = SPEC.model_copy(
    update={
        "categorical": (
            *SPEC.categorical,
            CategoricalField(name="user_religion", block=FeatureBlock.PERSONAL, buckets=4),
        )
    }
)


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "spec.json"
    path.write_text(SPECIAL.model_dump_json(), encoding="utf-8")
    return path


def test_a_training_is_not_set_up_for_it(written: Path) -> None:
    with pytest.raises(PolicyError, match="user_religion hints at belief"):
        read_feature_spec(written)
    written.write_text(SPEC.model_dump_json(), encoding="utf-8")
    assert read_feature_spec(written) == SPEC


def test_a_device_does_not_open_with_it(tmp_path: Path) -> None:
    with pytest.raises(PolicyError, match="special categories"):
        Node.create(tmp_path / "node", Settings(), NodeConfig(spec=SPECIAL))
    Node.create(tmp_path / "other", Settings(), NodeConfig(spec=SPEC)).close()


def test_a_description_does_not_become_it() -> None:
    description = load_description("seed_v1v2v3")
    described = description.model_copy(update={"attributes": ("bank_account",)})
    with pytest.raises(PolicyError, match="bank_account"):
        described.feature_spec()


@pytest.mark.parametrize("path", sorted(DESCRIPTIONS.glob("*.yaml")), ids=lambda path: path.stem)
def test_what_the_project_describes_itself_is_fine(path: Path) -> None:
    assert isinstance(load_description(path).feature_spec(), FeatureSpec)


def test_a_service_is_neither_pinned_to_it_nor_registers_a_model_of_it(tmp_path: Path, written: Path) -> None:
    settings = ServerSettings.at(tmp_path / "state")
    services = initialise(settings)
    with pytest.raises(PolicyError):
        register_model(services, spec=SPECIAL)
    assert services.registry.current_version() is None
    services.database.close()
    with pytest.raises(PolicyError):
        build_services(replace(settings, feature_spec=written))
