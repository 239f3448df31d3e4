"""The pages, one module each."""

from server.dashboard.pages import (
    budgets,
    caps,
    consent,
    controls,
    door,
    experiments,
    exports,
    log,
    overview,
    picks,
    placements,
    releases,
    reports,
    requests,
    review,
    search,
)

PAGES = (
    door.router,
    overview.router,
    budgets.router,
    releases.router,
    consent.router,
    search.router,
    requests.router,
    caps.router,
    controls.router,
    review.router,
    placements.router,
    experiments.router,
    picks.router,
    log.router,
    exports.router,
    reports.router,
)
