"""Fills an installation for a look at the privacy officer's desk. Owns who is made up; computes no figure.

People, their decisions and the moments are drawn from a seed. Everything else is real: consent goes through the consent
service, each charge through the privacy ledger with the budget document's own mechanisms, models through the registry
with the disclosure that follows from what was charged, and each of them into the transparency log.
"""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from common.crypto.signing import SigningKey
from common.errors import ReticentError
from common.model.feature_spec import CategoricalField, FeatureSpec, NumericField
from common.model.network import initial_arrays
from common.privacy.accountant import line_of
from common.privacy.parameters import MechanismUse
from common.taxonomy import (
    AgeBand,
    ConsentMethod,
    ControlScope,
    FeatureBlock,
    ModelFamily,
    PrivacyUnit,
    Purpose,
    RequestKind,
    Role,
    Task,
)
from common.wire.messages import ConsentChange, ConsentWithdrawal, ModelSpec, SubjectEnrolment
from common.wire.subject import SubjectRequest
from policies.budget import PlannedRelease
from policies.notices import LOCALES, Locale
from policies.releases import segments_of
from server.access.principal import Principal
from server.api.services import Services, initialise
from server.campaigns.templates import ItemFacts, build_catalogue, read_templates
from server.registry.service import register
from server.rounds.disclosure import Made, build, cohort_disclosure
from server.settings import Settings

DAY_S: Final = 86_400
DAYS: Final = 40
APP: Final = "demo-grocer"
OFFICERS: Final = ("ada.officer", "lin.officer")
_PLACES: Final = (("CN", 34), ("DE", 18), ("FR", 14), ("US-CA", 16), ("GB", 9), ("JP", 9))
_LIKES: Final = {
    Purpose.TRAIN_LOCAL: 0.82,
    Purpose.TRAIN_CONTRIBUTE: 0.61,
    Purpose.PLACE_PERSONALISED: 0.7,
    Purpose.MEASURE_AGGREGATE: 0.66,
}
_SPEC: Final = FeatureSpec(
    name="desk demonstration",
    version=1,
    categorical=(
        CategoricalField(name="category", block=FeatureBlock.CONTEXT, buckets=32),
        CategoricalField(name="page", block=FeatureBlock.CONTEXT, buckets=16),
        CategoricalField(name="bought_before", block=FeatureBlock.PERSONAL, buckets=8),
    ),
    numeric=(NumericField(name="days_since", block=FeatureBlock.PERSONAL),),
)
_MODEL: Final = ModelSpec(family=ModelFamily.LOGISTIC, spec_digest=_SPEC.digest, base_rate=0.1)


@dataclass
class TurnedClock:
    """Time as the demonstration has it; once ``now`` is past ``real``, time itself."""

    now: float
    real: Callable[[], float]

    def __call__(self) -> float:
        """Seconds since the epoch."""
        return min(self.now, self.real())


@dataclass(frozen=True)
class Person:
    """Somebody made up."""

    handle: str
    key: SigningKey
    agreed: frozenset[Purpose]


_Crowds = tuple[Sequence[Person], Sequence[Person]]


@dataclass
class DeskDemo:
    """One installation over forty days.

    Attributes:
        state: directory of the installation; must not exist.
        people: how many.
        rounds: of each of two trainings.
        real: the present, seconds since the epoch.
    """

    state: Path
    real: Callable[[], float]
    people: int = 320
    rounds: int = 8
    seed: int = 7
    crowd: list[Person] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Roll back the clock."""
        self._dice = random.Random(self.seed)  # noqa: S311 - made-up people, no mechanism
        self._clock = TurnedClock(self.real() - DAYS * DAY_S, self.real)

    def run(self) -> dict[str, str]:
        """Everything; API keys by holder.

        Raises:
            ReticentError: the directory is taken.
        """
        if self.state.exists():
            raise ReticentError(f"{self.state} is there already")
        services = initialise(Settings.at(self.state), clock=self._clock)
        try:
            return self._fill(services)
        finally:
            services.database.close()

    def _fill(self, services: Services) -> dict[str, str]:
        keys = {name: services.access.issue(Role.PRIVACY_OFFICER, label="desk", holder=name).token for name in OFFICERS}
        keys["ines.auditor"] = services.access.issue(Role.AUDITOR, label="desk", holder="ines.auditor").token
        services.catalogues.publish(build_catalogue(_items(), read_templates()).creatives)
        self._enrol(services)
        self._train(services, "autumn-1", histogram=False)
        self._decide_more(services)
        self._train(services, "autumn-2", histogram=True)
        self._ask(services)
        self._govern(services)
        services.log.checkpoint()
        return keys

    # ── people ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _enrol(self, services: Services) -> None:
        """People arrive over ten days and decide about each purpose."""
        notice = {locale: services.notices.current(locale).digest for locale in LOCALES}
        for _ in range(self.people):
            self._pass(10 * DAY_S / self.people)
            key = SigningKey.generate()
            place = self._dice.choices([p for p, _ in _PLACES], [w for _, w in _PLACES])[0]
            adult = self._dice.random() < 0.94
            enrolment = SubjectEnrolment(
                public_key=key.public.x,
                app_id=APP,
                age_band=AgeBand.ADULT if adult else AgeBand.MINOR,
                jurisdiction=place,
            )
            handle = services.consent.enrol(enrolment)
            answers = {p: self._dice.random() < share for p, share in _LIKES.items()}
            locale: Locale = "zh-CN" if place == "CN" else "en"
            change = ConsentChange(
                handle=handle,
                notice_digest=notice[locale],
                decisions={p: "given" if yes else "refused" for p, yes in answers.items()},
                locale=locale,
                surface="onboarding/privacy",
                method=ConsentMethod.TOGGLE,
            )
            services.consent.change(change, Role.APP_BACKEND)
            agreed = frozenset(p for p, yes in answers.items() if yes and adult)
            self.crowd.append(Person(handle, key, agreed))
        services.log.checkpoint()

    def _decide_more(self, services: Services) -> None:
        """Some withdraw something."""
        for person in self._dice.sample(self.crowd, self.people // 9):
            self._pass(3600)
            purposes = tuple(self._dice.sample(list(Purpose), self._dice.choice((1, 1, 2))))
            withdrawal = ConsentWithdrawal(handle=person.handle, purposes=purposes)
            services.consent.withdraw(withdrawal, Role.APP_BACKEND)

    # ── training ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _train(self, services: Services, run_id: str, *, histogram: bool) -> None:
        """Rounds over those who contribute, each charged and settled; then the model with what it has cost."""
        able = [p for p in self.crowd if {Purpose.TRAIN_LOCAL, Purpose.TRAIN_CONTRIBUTE} <= p.agreed]
        template = initial_arrays(_MODEL, _SPEC)
        length = sum(array.size for array in template.values())
        rosters, sums = [], []
        for number in range(self.rounds):
            self._pass(0.9 * DAY_S)
            roster = self._dice.sample(able, int(len(able) * self._dice.uniform(0.45, 0.95)))
            survivors = roster[: int(len(roster) * self._dice.uniform(0.8, 0.98))]
            self._session(services, f"{run_id}/{number}", Task.TRAIN, length, (roster, survivors))
            rosters.append(len(roster))
            sums.append(len(survivors))
        self._session(services, f"{run_id}/calibrate", Task.CALIBRATE, 1, (able, able))
        if histogram:
            measured = [p for p in self.crowd if Purpose.MEASURE_AGGREGATE in p.agreed]
            self._session(services, f"{run_id}/histogram", Task.HISTOGRAM, 32, (measured, measured))
        self._register(services, run_id, length, rosters, sums)
        services.log.checkpoint()

    def _session(self, services: Services, cause: str, task: Task, length: int, who: _Crowds) -> None:
        """One session: everybody on the roster is charged, the survivors are in the sum."""
        segments = segments_of(services.ledger.policy, task, length)
        planned = [PlannedRelease(segment.kind, segment.use) for segment in segments]
        identities = [person.key.public.raw for person in who[0]]
        barred = services.ledger.reserve(cause.partition("/")[0], cause, planned, identities)
        services.ledger.settle(cause, [i for p in who[1] if (i := p.key.public.raw) not in barred])

    def _register(
        self, services: Services, run_id: str, length: int, rosters: Sequence[int], sums: Sequence[int]
    ) -> None:
        policy = services.ledger.policy
        segments = [
            (s, n)
            for task, n, size in ((Task.TRAIN, self.rounds, length), (Task.CALIBRATE, 1, 1))
            for s in segments_of(policy, task, size)
        ]
        made = [
            Made(
                kind=segment.kind,
                use=segment.use,
                count=count,
                dimension=segment.length,
                clipping_norm=segment.parameters.clipping_norm,
            )
            for segment, count in segments
        ]
        deltas = {line_of([use]): line.delta for line in policy.lines for use in _uses_of(made, line.unit)}
        disclosure = build(
            policy.profile,
            made,
            deltas=deltas,
            randomness="none: a demonstration of the desk, nothing was trained",
            cohort=cohort_disclosure(rosters, sums),
            scales=(),  # people who are made up need no larger crowds
        )
        rng = np.random.default_rng(self.seed)
        arrays = {n: rng.normal(0, 0.1, a.shape).astype(np.float32) for n, a in initial_arrays(_MODEL, _SPEC).items()}
        register(
            services.database.sessions,
            run_id=run_id,
            model=_MODEL,
            spec=_SPEC,
            arrays=arrays,
            metrics={},
            privacy=list(disclosure.totals),
            signer=services.signer,
            disclosure=disclosure,
            log=services.log,
            clock=lambda: dt.datetime.fromtimestamp(self._clock(), dt.UTC),
        )

    # ── rights and governance ────────────────────────────────────────────────────────────────────────────────────────

    def _ask(self, services: Services) -> None:
        """Some exercise their rights: through their device, or through an officer who has seen proof."""
        self._clock.now = max(self._clock.now, self.real() - 14 * DAY_S)
        by_device = (RequestKind.ACCESS, RequestKind.PORTABILITY, RequestKind.OBJECTION, RequestKind.ERASURE)
        people = self._dice.sample(self.crowd, 11)
        for person, kind in zip(people, by_device * 2, strict=False):
            self._pass(2 * 3600)
            caller = Principal(Role.DEVICE, subject=person.handle)
            services.requests.submit(SubjectRequest(handle=person.handle, request=kind), caller)
        officer = Principal(Role.PRIVACY_OFFICER, holder=OFFICERS[0])
        for person, kind in zip(
            people[8:], (RequestKind.ACCESS, RequestKind.ERASURE, RequestKind.RESTRICTION), strict=True
        ):
            self._pass(1.5 * DAY_S)
            services.requests.submit(SubjectRequest(handle=person.handle, request=kind), officer)

    def _govern(self, services: Services) -> None:
        """A quota is lowered, raising it again is proposed, and a campaign is stopped."""
        self._clock.now = max(self._clock.now, self.real() - 5 * DAY_S)
        measure, first = Purpose.MEASURE_AGGREGATE.value, OFFICERS[0]
        self._pass(DAY_S)
        services.caps.propose(PrivacyUnit.USER, measure, 1.5, reason="while the new counts are reviewed", holder=first)
        self._pass(2 * DAY_S)
        services.caps.propose(PrivacyUnit.USER, measure, 2.0, reason="the review is done", holder=first)
        services.controls.kill(
            ControlScope.CAMPAIGN, "National", actor=f"privacy_officer:{first}", note="landing page under review"
        )

    def _pass(self, seconds: float) -> None:
        self._clock.now += seconds


def _uses_of(made: Sequence[Made], unit: PrivacyUnit) -> list[MechanismUse]:
    return [entry.use for entry in made if entry.use.unit is unit][:1]


def _items() -> list[ItemFacts]:
    """A small shelf."""
    shelf = ("tea", "bread", "fruit", "soap", "pasta", "juice")
    return [
        ItemFacts(
            item_id=str(100 + index),
            category=name,
            attributes={"category": name, "brand": "National" if index % 2 else "Private", "product": name.title()},
        )
        for index, name in enumerate(shelf)
    ]
