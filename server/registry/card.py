"""One page per model: its disclosure card as JSON, HTML and text. Owns how a card looks; computes no figure."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Final

from jinja2 import Environment, select_autoescape
from pydantic import BaseModel, ConfigDict

from common.errors import NotFound
from common.privacy.parameters import PrivacyStatement
from common.wire.disclosure import Disclosure, ReleaseDisclosure
from common.wire.messages import ModelManifest

SCHEMA_ID: Final = "reticent-disclosure-card-1"


class Card(BaseModel):
    """What a reader is told about one model.

    Attributes:
        signed_by: key id of the registry's signature over everything else here.
        metrics: figures stored with the model; paid ones say so in their name.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="strings")
    schema_id: str = SCHEMA_ID
    model_version: int
    training: str
    created_at: str
    family: str
    feature_spec_digest: str
    arrays_digest: str
    signed_by: str
    metrics: dict[str, float]
    disclosure: Disclosure


def card_of(manifest: ModelManifest, *, signed_by: str) -> Card:
    """The card of a verified manifest.

    Raises:
        NotFound: the model was registered without a disclosure.
    """
    if manifest.disclosure is None:
        raise NotFound(f"model version {manifest.version} was registered without a disclosure card")
    return Card(
        model_version=manifest.version,
        training=manifest.run_id,
        created_at=manifest.created_at,
        family=manifest.model.family.value,
        feature_spec_digest=manifest.model.spec_digest,
        arrays_digest=manifest.arrays_digest,
        signed_by=signed_by,
        metrics=manifest.metrics,
        disclosure=manifest.disclosure,
    )


def card_json(card: Card) -> str:
    """The card as JSON, of the schema in ``docs/schemas/disclosure-card.schema.json``."""
    return card.model_dump_json(indent=2)


def card_schema() -> str:
    """JSON Schema of ``card_json``."""
    return json.dumps(Card.model_json_schema(), indent=2, sort_keys=True) + "\n"


def card_html(card: Card) -> str:
    """The card as one self-contained page: no script, no external asset."""
    environment = Environment(autoescape=select_autoescape(default=True), trim_blocks=True, lstrip_blocks=True)
    environment.filters["epsilon"] = _epsilon
    template = environment.from_string((files("server.registry") / "templates" / "card.html").read_text("utf-8"))
    return template.render(card=card, disclosure=card.disclosure, columns=_columns(card.disclosure))


def card_text(card: Card) -> str:
    """The card for a terminal."""
    d = card.disclosure
    lines = [f"Disclosure card of model {card.model_version} (profile {d.profile.value}; signed by {card.signed_by})"]
    lines += [f"  total        {statement.sentence()}" for statement in d.totals]
    lines += [f"  release      {_release_line(release)}" for release in d.releases]
    lines.append(f"  sampling     {d.sampling_assumption}")
    lines += [f"  trust        {text}" for text in d.trust_assumptions]
    lines.append(f"  noise from   {d.randomness}")
    c = d.cohort
    lines.append(
        f"  cohort       {c.rounds} rounds; devices on the roster: min {c.roster_min}, median {c.roster_median:g}; "
        f"in the sum: min {c.contributions_min}, median {c.contributions_median:g}"
    )
    lines += [
        f"  extrapolated with {e.devices:,} devices and the same noise on the mean: {e.statement.sentence()}"
        for e in d.extrapolations
    ]
    lines += [f"  NOT hidden   {text}" for text in d.not_protected]
    return "\n".join(lines)


def _release_line(release: ReleaseDisclosure) -> str:
    moved = " (adaptive)" if release.clipping_norm_adaptive else ""
    return (
        f"{release.kind.value}: {release.mechanism.value}, {release.dimension} numbers, at most "
        f"{release.participations_max} per device, C = {release.clipping_norm:.4g}{moved}, "
        f"z = {release.noise_multiplier:.4g}, σ = {release.noise_stddev:.4g}; {release.statement.sentence()}"
    )


def _columns(disclosure: Disclosure) -> list[tuple[str, list[PrivacyStatement]]]:
    """Column heads with their statements: the real cohort first, then each extrapolated size."""
    real = f"this training: {disclosure.cohort.contributions_median:g} devices"
    columns = [(real, list(disclosure.totals))]
    return columns + [(f"extrapolated: {e.devices:,} devices", [e.statement]) for e in disclosure.extrapolations]


def _epsilon(value: float) -> str:
    return "∞ (no privacy)" if value == float("inf") else f"{value:.3g}"
