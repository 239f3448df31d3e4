"""The pages, one module each."""

from server.dashboard.pages import (
    budgets,
    caps,
    consent,
    controls,
    door,
    exports,
    log,
    overview,
    releases,
    reports,
    requests,
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
    log.router,
    exports.router,
    reports.router,
)
