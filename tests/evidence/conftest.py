from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.evidence.bundles import Made


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    found = Made(tmp_path_factory.mktemp("evidence"))
    yield found
    found.world.close()
