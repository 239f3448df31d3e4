"""``reticent audit``: from options to an audit, its tables and files. Owns what is read; judges nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cli.audit.ledgers import node_budget, node_finding
from cli.audit.plot import save_plot
from cli.audit.results import Audit, Budget, Finding, save
from cli.audit.run import FULL, QUICK, Effort, Order, audit
from cli.audit.show import audit_progress, show_audit
from client.device import Node
from client.settings import Settings
from common.errors import InputError
from common.taxonomy import PrivacyUnit, Profile
from policies import loader
from policies.loader import LoadedPolicies
from policies.releases import lines_stated


@dataclass(frozen=True)
class Options:
    """What the command line asks for; see ``reticent audit --help``."""

    profile: Profile | None = None
    runs: int | None = None
    seed: int | None = None
    home: Path | None = None
    json: Path | None = None
    plot: Path | None = None
    quick: bool = False


def run(options: Options) -> Audit:
    """Audit, show, save.

    Raises:
        InputError: the home does not exist, or a file cannot be written.
        PolicyError: the documents are invalid, or the profile states nothing.
    """
    settings = Settings.from_env()
    if options.home is None:
        loaded = loader.load(settings.policies_directory)
        order = _order(options, loaded)
    else:
        if not (options.home / "ledger.db").is_file():
            raise InputError(f"{options.home} is no node: it has no ledger")
        with Node.open(options.home, settings) as node:
            loaded = node.policies
            lines = lines_stated(loaded.policies.privacy_budget, _profile(options, loaded))
            order = _order(
                options,
                loaded,
                budgets={line.unit: node_budget(node.ledger, line) for line in lines},
                ledger={line.unit: node_finding(node.ledger, line) for line in lines},
            )
    with audit_progress() as progress:
        found = audit(order, progress)
    show_audit(found)
    if options.json is not None:
        save(found, options.json)
    if options.plot is not None:
        save_plot(found, options.plot)
    return found


def _order(
    options: Options,
    loaded: LoadedPolicies,
    *,
    budgets: dict[PrivacyUnit, Budget] | None = None,
    ledger: dict[PrivacyUnit, Finding] | None = None,
) -> Order:
    return Order(
        policy=loaded.policies.privacy_budget,
        profile=_profile(options, loaded),
        policy_digest=loaded.digests["privacy_budget"],
        seed=options.seed,
        effort=_effort(options),
        budgets=budgets,
        ledger=ledger,
    )


def _profile(options: Options, loaded: LoadedPolicies) -> Profile:
    return options.profile or loaded.policies.privacy_budget.profile


def _effort(options: Options) -> Effort:
    effort = QUICK if options.quick else FULL
    if options.runs is None:
        return effort
    return Effort(options.runs, min(options.runs, effort.user_scores), effort.deviation_runs, effort.residual_runs)
