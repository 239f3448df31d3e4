"""Pictures of the owner's page, as inline SVG with a text beside each. Owns geometry only; colours are the style's.

No attribute named ``style`` is written: the page's content policy allows none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup, escape

WIDTH: Final = 720
HEIGHT: Final = 170
_LEFT: Final = 34
_BOTTOM: Final = 22
_TOP: Final = 8


@dataclass(frozen=True, slots=True)
class Column:
    """One day: its label, and how many of each class in the order of the classes."""

    label: str
    counts: tuple[int, ...]

    @property
    def total(self) -> int:
        """All classes together."""
        return sum(self.counts)


def columns(days: Sequence[Column], classes: Sequence[str], *, title: str, description: str) -> Markup:
    """Stacked columns, one per day.

    Args:
        days: from left to right.
        classes: a CSS class per count, from the bottom up.
        title: the picture's name.
        description: what it shows, in a sentence.
    """
    top = _ceiling(max((day.total for day in days), default=0))
    high = HEIGHT - _TOP - _BOTTOM
    step = (WIDTH - _LEFT) / max(len(days), 1)
    parts = [_grid(value, HEIGHT - _BOTTOM - high * value / top) for value in (0, top // 2, top)]
    for number, day in enumerate(days):
        foot = float(HEIGHT - _BOTTOM)
        x = _LEFT + step * number
        bars = []
        for name, count in zip(classes, day.counts, strict=True):
            tall = high * count / top
            foot -= tall
            if count:
                bars.append(
                    f'<rect class="{name}" x="{x + step * 0.16:.1f}" y="{foot:.1f}" width="{step * 0.68:.1f}" '
                    f'height="{max(tall, 1.0):.1f}" rx="1.5"/>'
                )
        parts.append(f"<g><title>{escape(day.label)}: {day.total}</title>{''.join(bars)}</g>")
        if number % 7 == (len(days) - 1) % 7:
            anchor, at = ("end", WIDTH) if number == len(days) - 1 else ("middle", x + step / 2)
            parts.append(
                f'<text class="axis" x="{at:.1f}" y="{HEIGHT - 6}" text-anchor="{anchor}">{escape(day.label)}</text>'
            )
    return _picture(WIDTH, HEIGHT, "".join(parts), title, description)


def meter(value: float, most: float, *, title: str, description: str, mark: float | None = None) -> Markup:
    """How much of ``most`` is used, with an optional mark; an infinite value fills it."""
    wide, tall = WIDTH, 26
    share = 1.0 if not math.isfinite(value) else max(0.0, min(1.0, value / most))
    level = "high" if share > 0.9 else "middle" if share > 0.6 else "low"
    used = max(share * wide, 16 if share else 0)
    parts = [
        f'<rect class="track" x="0" y="4" width="{wide}" height="16" rx="8"/>',
        f'<rect class="fill {level}" x="0" y="4" width="{used:.1f}" height="16" rx="8"/>',
    ]
    if mark is not None and 0 < mark < most:
        parts.append(f'<rect class="mark" x="{wide * mark / most:.1f}" y="0" width="2" height="24"/>')
    return _picture(wide, tall, "".join(parts), title, description)


def bar(value: float, most: float, css: str) -> Markup:
    """A thin bar without words: the figure stands beside it as text, so it is hidden from screen readers."""
    share = 0.0 if most <= 0 else max(0.0, min(1.0, value / most))
    return Markup(
        '<svg class="bar" viewBox="0 0 200 10" preserveAspectRatio="none" aria-hidden="true" focusable="false">'
        f'<rect class="track" width="200" height="10" rx="5"/>'
        f'<rect class="{css}" width="{200 * share:.1f}" height="10" rx="5"/></svg>'
    )


def balance(effect: float, most: float) -> Markup:
    """A bar to the right of the middle for what spoke for, to the left for what spoke against."""
    share = 0.0 if most <= 0 else max(-1.0, min(1.0, effect / most))
    wide = abs(share) * 98
    x = 100 if share >= 0 else 100 - wide
    return Markup(
        '<svg class="bar" viewBox="0 0 200 10" preserveAspectRatio="none" aria-hidden="true" focusable="false">'
        '<rect class="track" width="200" height="10" rx="5"/>'
        f'<rect class="{"for" if share >= 0 else "against"}" x="{x:.1f}" width="{wide:.1f}" height="10" rx="3"/>'
        '<rect class="mark" x="99.5" width="1" height="10"/></svg>'
    )


def _picture(wide: int, tall: int, inside: str, title: str, description: str) -> Markup:
    return Markup(
        f'<svg viewBox="0 0 {wide} {tall}" role="img" aria-label="{escape(title)}. {escape(description)}" '
        f'focusable="false">{inside}</svg>'
    )


def _grid(value: int, y: float) -> str:
    return (
        f'<line class="grid" x1="{_LEFT}" x2="{WIDTH}" y1="{y:.1f}" y2="{y:.1f}"/>'
        f'<text class="axis" x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value}</text>'
    )


def _ceiling(value: int) -> int:
    """The next even number of the series 2, 4, 10, 20, 40, 100 … that is not below ``value``."""
    power = 1
    while True:
        for step in (2, 4, 10):
            if value <= step * power:
                return step * power
        power *= 10
