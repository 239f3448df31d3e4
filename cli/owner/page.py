"""The owner's page as HTML. Owns how an ``Overview`` is shown: figures into words, tables and pictures.

The page is one self-contained document: its style is inside it, named by digest in its content policy, and there is no
script. Everything that comes from outside (names, titles) is escaped.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from cli.owner import charts
from cli.owner.texts import LANGUAGES, LOCALES, Locale, Words
from client import explanation
from client.overview import LineView, Overview
from client.store.placed import PlacedAd
from common.privacy.parameters import MechanismUse
from common.taxonomy import NeighbouringRelation, Purpose, RefusalReason, RequestKind
from common.wire.journal import SENT, JournalRow
from policies.consent import Permit
from policies.placement.eligibility import folded

DAY_S: Final = 86_400
DAYS_SHOWN: Final = 30
ROWS_SHOWN: Final = 12
ADS_SHOWN: Final = 3
CLASSES: Final = ("update", "protocol", "own")
ASKABLE: Final = (
    RequestKind.ACCESS,
    RequestKind.PORTABILITY,
    RequestKind.RESTRICTION,
    RequestKind.OBJECTION,
    RequestKind.ERASURE,
)


@dataclass(frozen=True, slots=True)
class Live:
    """What a served page has beside a printed one.

    Attributes:
        proof: the session's token against forged requests, for every form.
        connected: whether a service is configured: without one, only local things can be done.
        said: what came of the last action, in the reader's language; empty for none.
    """

    proof: str
    connected: bool
    said: str = ""


def render(view: Overview, locale: Locale, live: Live | None = None) -> str:
    """The whole document.

    Args:
        view: what to show.
        locale: in which language.
        live: forms of a served page; None for a printed copy.
    """
    words = Words(locale)
    shown = Shown(view, words)
    template = _environment().get_template("page.html")
    text = template.render(
        t=words, v=view, s=shown, live=live, style=Markup(style()), policy=content_policy(), locales=LOCALES,
        languages=LANGUAGES, charts=charts, askable=ASKABLE, rows_shown=ROWS_SHOWN, ads_shown=ADS_SHOWN,
    )  # fmt: skip
    return text.lstrip()


def style() -> str:
    """The page's style."""
    return (files("cli.owner") / "templates" / "page.css").read_text(encoding="utf-8")


def content_policy() -> str:
    """What a browser may do with the page: show it, and send its forms back to where it came from."""
    digest = base64.b64encode(hashlib.sha256(style().encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; form-action 'self'; base-uri 'none'"


class Shown:
    """Figures of an overview in one reader's words."""

    def __init__(self, view: Overview, words: Words) -> None:
        """Show ``view`` in ``words``."""
        self._view, self._t = view, words

    # ── plain things ─────────────────────────────────────────────────────────────────────────────────────────────────

    def moment(self, time: float) -> str:
        """A time on this device's clock."""
        return self._dated(time, "%H:%M")

    def date(self, time: float) -> str:
        """A date on this device's clock."""
        return self._dated(time, "")

    def size(self, size_bytes: int) -> str:
        """A size, rounded."""
        return f"{size_bytes} B" if size_bytes < 1000 else f"{size_bytes / 1000:.1f} kB"

    def epsilon(self, value: float) -> str:
        """An ε, or the sign that there is no bound."""
        return "∞" if not math.isfinite(value) else f"{value:.2f}" if value else "0"

    def percent(self, share: float) -> str:
        """A probability."""
        return f"{100 * share:.1f} %" if share < 0.1 else f"{100 * share:.0f} %"

    def why(self, reason: RefusalReason | str) -> str:
        """Why a gate said no."""
        return self._t.of("reason", str(getattr(reason, "value", reason)))

    def purpose(self, purpose: Purpose | str | None) -> str:
        """A purpose's title in the reader's language."""
        if purpose is None:
            return self._t("no_purpose")
        for one in self._view.purposes:
            if one.rule.id.value == purpose:
                return one.rule.title[self._t.locale]
        return str(purpose)

    # ── the parts ────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def agreed(self) -> int:
        """How many purposes are permitted now."""
        return sum(isinstance(one.answer, Permit) for one in self._view.purposes)

    @property
    def recent(self) -> Sequence[JournalRow]:
        """The journal's lines of the days that the chart shows."""
        start = self._day(self._view.now) - DAYS_SHOWN + 1
        return [row for row in self._view.journal if self._day(row.time) >= start]

    @property
    def left(self) -> int:
        """Messages that left in these days."""
        return sum(row.outcome == SENT for row in self.recent)

    @property
    def spent_share(self) -> str:
        """How much of the headline's cap is spent."""
        if not self._view.lines:
            return "–"
        first = self._view.lines[0]
        value = first.statement.epsilon
        return "100 %" if not math.isfinite(value) else f"{100 * min(1.0, value / first.line.epsilon_cap):.0f} %"

    def days(self) -> list[charts.Column]:
        """Messages that left, by day and class."""
        counts: Counter[tuple[int, str]] = Counter(
            (self._day(row.time), self._class(row)) for row in self.recent if row.outcome == SENT
        )
        last = self._day(self._view.now)
        return [
            charts.Column(self._short(day), tuple(counts[day, name] for name in CLASSES))
            for day in range(last - DAYS_SHOWN + 1, last + 1)
        ]

    def chart(self) -> Markup:
        """The journal by day."""
        days = self.days()
        peak = max(days, key=lambda day: day.total)
        said = self._t("journal_peak", count=self.left, peak=peak.total, day=peak.label)
        return charts.columns(days, CLASSES, title=self._t("journal_chart"), description=said)

    def meter(self, line: LineView) -> Markup:
        """What a line has spent of its cap."""
        title = self.protected(line)
        said = self.spent(line)
        return charts.meter(line.statement.epsilon, line.line.epsilon_cap, title=title, description=said)

    def protected(self, line: LineView) -> str:
        """What a line protects; private picks have a line of their own."""
        own = line.line.relation is NeighbouringRelation.REPLACE
        return self._t("line_picks") if own else self._t.of("line", line.line.unit.value)

    def mechanism(self, use: MechanismUse) -> str:
        """A mechanism with what it was set to."""
        if use.epsilon is not None:
            return f"{use.mechanism.value}, m = {use.chosen}, K = {use.candidates}"
        return f"{use.mechanism.value}, z = {use.noise_multiplier:.3g}"

    def spent(self, line: LineView) -> str:
        """The same in words."""
        spent, cap = self.epsilon(line.statement.epsilon), f"{line.line.epsilon_cap:g}"
        return self._t("line_spent", spent=spent, cap=cap, days=line.period_days)

    def terms(self, line: LineView) -> str:
        """Without which no ε is shown."""
        one = line.line
        relation = self._t.of("relation", one.relation.value)
        trust = self._t(f"trust_{one.trust.name.lower()}")
        return self._t("line_terms", delta=f"{one.delta:g}", relation=relation, trust=trust)

    def signal(self, family: str, attribute: str) -> str:
        """A group of own behaviour."""
        said = self._t.of("attribute", attribute)
        if said == attribute:
            said = self._t("attribute_other", name=attribute)
        behaviour = self._t.of("family", family)
        return f"{said}：{behaviour}" if self._t.locale == "zh-CN" else f"{behaviour}, {said}"

    def factor(self, effect: float) -> str:
        """By how much the odds change."""
        return self._t("ad_odds", factor=f"{math.exp(max(-7.0, min(7.0, effect))):.2g}")

    def shares(self, placed: PlacedAd) -> list[tuple[str, float]]:
        """Families that made a difference, by name, with their share of the log-odds; the base first."""
        if not placed.families:
            return []
        rest = [(explanation.family_name(one.family, self._t.locale), one.effect) for one in explanation.shares(placed)]
        return [(explanation.family_name("base", self._t.locale), placed.base), *rest]

    def topics(self) -> list[tuple[str, bool]]:
        """Topics that can be switched, and whether they are off: those of the ads shown here, and what is off."""
        off = set(self._view.choices.refused_tags)
        met = {folded(tag) for ad in self._view.placements for tag in (ad.category, *ad.tags)}
        return [(tag, tag in off) for tag in sorted(met | off)]

    def title(self, placed: PlacedAd) -> str:
        """An ad's title in the reader's language, else in any."""
        return placed.title.get(self._t.locale) or next(iter(placed.title.values()), placed.creative_id)

    def payer(self, placed: PlacedAd) -> str:
        """On whose behalf, and who paid (DSA Art. 26(1)(b) and (c))."""
        if placed.advertiser == placed.payer:
            return self._t("ad_same", advertiser=placed.advertiser)
        return self._t("ad_who", advertiser=placed.advertiser, payer=placed.payer)

    def days_left(self, time: float) -> int:
        """Whole days until a moment, at least 0."""
        return max(0, math.ceil((time - self._view.now) / DAY_S))

    def _class(self, row: JournalRow) -> str:
        if row.kind.startswith("secagg_"):
            return "protocol"
        charged = {rule.message for rule in self._view.rules if rule.charged}
        return "update" if row.kind in charged else "own"

    def _dated(self, time: float, clock: str) -> str:
        local = dt.datetime.fromtimestamp(time, dt.UTC).astimezone()
        if self._t.locale == "zh-CN":
            return f"{local.year}年{local.month}月{local.day}日 {local.strftime(clock)}".rstrip()
        return f"{local.day} {local:%b %Y}{', ' if clock else ''}{local.strftime(clock)}"

    def _day(self, time: float) -> int:
        return dt.datetime.fromtimestamp(time, dt.UTC).astimezone().date().toordinal()

    def _short(self, ordinal: int) -> str:
        date = dt.date.fromordinal(ordinal)
        return f"{date.month}月{date.day}日" if self._t.locale == "zh-CN" else f"{date.day} {date.strftime('%b')}"


def _environment() -> Environment:
    folder = files("cli.owner") / "templates"

    def load(name: str) -> str:
        return (folder / name).read_text(encoding="utf-8")

    return Environment(
        loader=FunctionLoader(load),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
