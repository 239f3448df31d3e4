"""The disclosure card: one page per model, real figures apart from extrapolated ones, signed with the model."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path

import jsonschema
import pytest

from common.errors import NotFound
from common.privacy.accountant import line_of
from common.privacy.parameters import RecordDpParameters, UserDpParameters
from common.taxonomy import ModelFamily, Profile, ReleaseKind
from common.wire.disclosure import Disclosure
from common.wire.messages import ModelManifest, ModelSpec
from server.registry.card import Card, card_html, card_json, card_of, card_schema, card_text
from server.rounds.disclosure import Made, build, cohort_disclosure

SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "schemas" / "disclosure-card.schema.json"
USER = UserDpParameters(clipping_norm=0.5, noise_multiplier=4.0)
RECORD = RecordDpParameters(
    clipping_norm=3.0, noise_multiplier=6.0, sampling_rate=1, local_steps=1, expected_batch_size=64, learning_rate=1
)


def made_layered() -> list[Made]:
    update, bits = USER.release(1000), USER.release(1)
    return [
        Made(kind=ReleaseKind.TRAINING_UPDATE, use=update, count=20, dimension=1000, clipping_norm=0.5, adaptive=True),
        Made(kind=ReleaseKind.CLIP_QUANTILE, use=bits, count=20, dimension=1, clipping_norm=0.5),
        Made(
            kind=ReleaseKind.TRAINING_UPDATE,
            use=RECORD.release(Profile.RECORD_LOCAL),
            count=20,
            dimension=1000,
            clipping_norm=3.0,
        ),
    ]


def disclosure(made: list[Made], profile: Profile = Profile.LAYERED) -> Disclosure:
    deltas = {line_of([entry.use]): 1e-5 for entry in made}
    cohort = cohort_disclosure([412, 430, 409], [380, 401, 377])
    return build(profile, made, deltas=deltas, randomness="ChaCha20 keyed by the operating system", cohort=cohort)


@pytest.fixture(scope="module")
def card() -> Card:
    manifest = ModelManifest(
        version=3,
        run_id="run-1",
        model=ModelSpec(family=ModelFamily.LOGISTIC, spec_digest="0" * 64, base_rate=0.1),
        arrays_digest="1" * 64,
        metrics={"paid_auc": 0.84},
        privacy=(),
        disclosure=disclosure(made_layered()),
        created_at="2026-01-01T00:00:00+00:00",
    )
    return card_of(manifest, signed_by="key-1")


def test_lines_are_stated_apart_and_never_added(card: Card) -> None:
    totals = card.disclosure.totals
    assert {(t.unit.value, t.trust.name) for t in totals} == {("user", "DISTRIBUTED"), ("record", "LOCAL")}
    user = next(t for t in totals if t.unit.value == "user")
    alone = card.disclosure.releases[0].statement
    assert user.epsilon > alone.epsilon  # the clip bits are in the total
    assert card.disclosure.releases[0].noise_stddev == pytest.approx(4.0 * 0.5)


def test_extrapolations_are_marked_and_scale_the_noise_with_the_cohort(card: Card) -> None:
    found = card.disclosure.extrapolations
    assert [e.devices for e in found] == [10_000, 100_000, 1_000_000]
    assert found[0].noise_multiplier == pytest.approx(4.0 * 10_000 / 380)
    assert all("no such training was run" in e.statement.randomness for e in found)
    assert found[0].statement.epsilon < card.disclosure.totals[0].epsilon


def test_a_record_level_training_is_not_extrapolated() -> None:
    found = disclosure([made_layered()[2]], Profile.RECORD_LOCAL)
    assert found.extrapolations == ()
    assert all("SecAgg" not in text and "Secure aggregation" not in text for text in found.trust_assumptions)


def test_the_schema_in_docs_is_the_cards(card: Card) -> None:
    assert SCHEMA.read_text() == card_schema(), "write card_schema() of server.registry.card there again"
    jsonschema.validate(json.loads(card_json(card)), json.loads(SCHEMA.read_text()))


class Cells(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.heads: list[tuple[str, str]] = []
        self.external: list[str] = []
        self._head: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.external += [value for name in ("src", "href") if (value := found.get(name))]
        if tag == "script":
            self.external.append("script")
        self._head = found.get("class") if tag == "th" else None

    def handle_data(self, data: str) -> None:
        if self._head:
            self.heads.append((self._head, data))
            self._head = None


def test_the_page_needs_nothing_else_and_keeps_the_columns_apart(card: Card) -> None:
    page = Cells()
    page.feed(card_html(card))
    assert page.external == []
    assert [kind for kind, _ in page.heads] == ["real", "extrapolated", "extrapolated", "extrapolated"]


def test_no_epsilon_is_printed_without_what_it_is_relative_to(card: Card) -> None:
    for line in card_text(card).splitlines():
        if "ε =" in line:
            assert all(word in line for word in ("δ =", "unit:", "relation:", "trust:", "composition:"))


def test_a_model_without_a_disclosure_has_no_card(card: Card) -> None:
    manifest = ModelManifest(
        version=1,
        run_id="r",
        model=ModelSpec(family=ModelFamily.LOGISTIC, spec_digest="0" * 64, base_rate=0.1),
        arrays_digest="1" * 64,
        metrics={},
        privacy=(),
        created_at="2026-01-01",
    )
    with pytest.raises(NotFound):
        card_of(manifest, signed_by="k")
