"""Every seeded bug is caught, and by the test that is meant to catch it.

A double that changes what is random is caught with a margin many deviations wide (see the report of
``reticent audit``); all runs here are seeded, so the outcome does not depend on luck.
"""

from dataclasses import replace

import pytest

from cli.audit.build import Build
from cli.audit.checks import claims
from cli.audit.results import Audit, Trial
from cli.audit.run import audit, record_runs
from cli.audit.trials import clip_finding
from common.privacy.randomness import SimulationNoise
from common.taxonomy import PrivacyUnit, Profile
from policies.releases import line_of_unit
from tests.audit import doubles, sum_doubles
from tests.audit.worlds import TINY, make_order, make_policy

CURVE, VARIANCE, CLIP = Trial.CURVE, Trial.VARIANCE, Trial.CLIP
ACCOUNTING, CLAIMS, GENERATOR, LEDGER = Trial.ACCOUNTING, Trial.CLAIMS, Trial.GENERATOR, Trial.LEDGER


def failed(found: Audit) -> set[Trial]:
    return {finding.kind for finding in found.findings if not finding.passed}


def trainer(double: type) -> Build:
    return replace(doubles.HONEST, trainer=double)


def share(double: object) -> Build:
    return replace(doubles.HONEST, share=double)


RECORD = {
    "noise off": (trainer(doubles.NoiseOff), {CURVE, VARIANCE}),
    "clip off": (trainer(doubles.ClipOff), {CURVE, CLIP}),
    "sigma from a free sensitivity": (trainer(doubles.FreeSensitivity), {CURVE, VARIANCE}),
    "accountant reset each round": (doubles.FORGETFUL, {ACCOUNTING}),
    "budget filter forgets earlier rounds": (doubles.FORGETFUL_FILTER, {ACCOUNTING}),
    "ledger begins again when opened": (replace(doubles.HONEST, ledger=doubles.ledger_of_this_process()), {LEDGER}),
    "ledger that does not count releases": (replace(doubles.HONEST, ledger=doubles.uncounted_ledger), {LEDGER}),
    "half the noise": (trainer(doubles.HalfNoise), {CURVE, VARIANCE}),
    "same noise each round": (trainer(doubles.SameNoiseEachRound), {VARIANCE}),
    "noise where touched": (trainer(doubles.NoiseWhereTouched), {CURVE, VARIANCE}),
    "normalised by the private count": (trainer(doubles.PrivateNormaliser), {CLIP, VARIANCE}),
    "accepts seeded noise": (trainer(doubles.AcceptsSeeds), {GENERATOR}),
    "seeded generator in production": (replace(doubles.HONEST, production=lambda: SimulationNoise(0)), {GENERATOR}),
}
USER = {
    "noise off": (share(sum_doubles.share_with(0.0)), {CURVE, VARIANCE}),
    "clip off": (replace(doubles.HONEST, clip=sum_doubles.no_clip, share=sum_doubles.unclipped_share), {CURVE, CLIP}),
    "sigma from a free sensitivity": (share(sum_doubles.share_with(0.2)), {CURVE, VARIANCE}),
    "accountant reset each round": (doubles.FORGETFUL, {ACCOUNTING}),
    "ledger that does not count releases": (replace(doubles.HONEST, ledger=doubles.uncounted_ledger), {LEDGER}),
    "amplification by a known cohort": (share(sum_doubles.amplified_share), {CLAIMS}),
    "shares for a roster that all survives": (share(sum_doubles.share_for_everybody), {VARIANCE}),
    "every device has one key": (share(sum_doubles.share_from_one_key), {VARIANCE}),
}


def test_our_build_passes() -> None:
    found = audit(make_order(Profile.LAYERED, effort=TINY))
    assert found.passed, failed(found)
    assert found.error_probability < 0.05


@pytest.mark.parametrize("name", RECORD)
def test_record_level_liars_are_caught(name: str) -> None:
    build, expected = RECORD[name]
    assert expected <= failed(audit(make_order(build=build, effort=TINY)))


@pytest.mark.parametrize("name", USER)
def test_user_level_liars_are_caught(name: str) -> None:
    build, expected = USER[name]
    found = audit(make_order(Profile.USER_DISTRIBUTED, build=build, effort=TINY))
    assert expected <= failed(found)


def test_amplification_that_is_claimed_but_not_declared_is_caught() -> None:
    """The claims check alone, as the accountant takes seconds for such a curve; ``test_honest`` runs the audit."""
    line = line_of_unit(make_policy(), PrivacyUnit.RECORD)
    declared = [make_policy().training.release(Profile.RECORD_LOCAL)]
    lying = record_runs(make_order(build=trainer(doubles.ClaimsSampling)), together=False).release()
    assert not claims(line, [lying], declared).passed
    assert claims(line, [record_runs(make_order(), together=False).release()], declared).passed


def test_a_clip_by_layer_is_caught() -> None:
    """Two layers take √2 · C, five take √5 · C."""
    order = make_order(build=trainer(doubles.ClipByLayer))
    found = clip_finding("double", record_runs(order, together=False).clip_moves(lambda _: None))
    assert not found.passed
    assert found.statistic == pytest.approx(5**0.5, rel=0.01)
    honest = clip_finding("ours", record_runs(make_order(), together=False).clip_moves(lambda _: None))
    assert honest.passed
