"""What every test shares: no phoning home, one thread per worker, a Hypothesis profile."""

import os

from hypothesis import HealthCheck, settings

# Before any library is imported: Flower reads these at import, and OpenMP decides the number of torch's threads then.
os.environ |= {
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "MPLBACKEND": "Agg",
    "COLUMNS": "200",  # tables are not wrapped, whatever terminal the tests run in
    # Tests run beside each other, one worker per core: a second thread would only fight the neighbour.
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}

# A landing must not depend on luck: the ordinary profile draws the same examples every time.
settings.register_profile(
    "reticent", deadline=None, derandomize=True, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)
# `pytest --hypothesis-profile=search` looks further, differently each time.
settings.register_profile("search", parent=settings.get_profile("reticent"), derandomize=False, max_examples=2_000)
settings.load_profile("reticent")
