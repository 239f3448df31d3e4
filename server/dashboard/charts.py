"""Pictures of figures as inline SVG. Owns their geometry and their text alternatives; computes no figure.

Every picture has a title and a description that says in words what it shows; colours come from the style sheet, so
nothing here needs a script, an inline style or an asset of somebody else. Pure: no clock, no file.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup, escape

WIDTH: Final = 720
HALF: Final = 440
_LEFT: Final = 8
_ROW: Final = 34
_TICKS: Final = 4


@dataclass(frozen=True, slots=True)
class Mark:
    """A named line across a picture: a cap, a claim."""

    label: str
    value: float
    kind: str = "cap"


@dataclass(frozen=True, slots=True)
class Part:
    """A share of a stacked bar. ``kind`` is a class of the style sheet."""

    label: str
    value: float
    kind: str


def meter(title: str, description: str, *, value: float, most: float, marks: Sequence[Mark] = ()) -> Markup:
    """How much of a capacity is used: one bar, with marks above it."""
    top = max([most, value, *(mark.value for mark in marks)]) * 1.04 or 1.0
    width = WIDTH - 2 * _LEFT

    def x(at: float) -> float:
        return _LEFT + width * min(at, top) / top

    level = "bad" if value > most else "warn" if value > 0.85 * most else "good"
    body = [
        _rect(_LEFT, 30, x(most) - _LEFT, 20, "track", rounded=True),
        _rect(_LEFT, 30, max(x(value) - _LEFT, 0), 20, f"fill-{level}", rounded=True),
    ]
    for mark in marks:
        at = x(mark.value)
        anchor = "end" if at > WIDTH * 0.6 else "start"
        body.append(_line(at, 22, at, 56, f"mark-{mark.kind}"))
        body.append(_text(at + (-4 if anchor == "end" else 4), 17, f"{mark.label} {number(mark.value)}", anchor=anchor))
    body.append(_text(x(value), 70, number(value), anchor="start" if x(value) < 60 else "end", kind="strong"))
    return _svg(title, description, 76, body)


def steps(
    title: str,
    description: str,
    values: Sequence[float],
    *,
    marks: Sequence[Mark] = (),
    projected: Sequence[float] = (),
    horizontal: str = "",
    width: float = WIDTH,
) -> Markup:
    """What a growing figure was after each event, then how it would go on (dashed)."""
    everything = [*values, *projected, *(mark.value for mark in marks)]
    top = max(everything, default=1.0) * 1.12 or 1.0
    count = max(len(values) + len(projected), 1)
    box = _Box(left=44, top=14, width=width - 60, height=178)

    def point(index: int, value: float) -> tuple[float, float]:
        return box.left + box.width * index / count, box.top + box.height * (1 - min(value, top) / top)

    body = _grid(box, top)
    done = [(0.0, 0.0)] + [(index + 1.0, value) for index, value in enumerate(values)]
    area = _stairs([point(int(i), v) for i, v in done])
    if values:
        floor = box.top + box.height
        body.append(f'<path class="area" d="{area} V{floor:.1f} H{box.left:.1f} Z"/><path class="curve" d="{area}"/>')
        last = point(len(values), values[-1])
        body.append(f'<circle class="dot" cx="{last[0]:.1f}" cy="{last[1]:.1f}" r="4"/>')
    if projected:
        start = (len(values), values[-1] if values else 0.0)
        onwards = [start, *((len(values) + i + 1, value) for i, value in enumerate(projected))]
        body.append(f'<path class="projected" d="{_stairs([point(i, v) for i, v in onwards])}"/>')
    for mark in marks:
        y = point(0, mark.value)[1]
        body.append(_line(box.left, y, box.left + box.width, y, f"mark-{mark.kind}"))
        body.append(_text(box.left + 6, y - 5, f"{mark.label} {number(mark.value)}"))
    body.append(_text(box.left + box.width, 214, horizontal, anchor="end", kind="muted"))
    return _svg(title, description, 220, body, width=width)


def columns(
    title: str,
    description: str,
    rows: Sequence[tuple[str, float]],
    *,
    horizontal: str = "",
    width: float = WIDTH,
    height: float = 140,
) -> Markup:
    """One column per label."""
    top = max((value for _, value in rows), default=1.0) * 1.15 or 1.0
    box = _Box(left=44, top=14, width=width - 60, height=height)
    body = _grid(box, top)
    pitch = box.width / max(len(rows), 1)
    every = max(1, math.ceil(sum(map(_cells, (label for label, _ in rows))) * 7.5 / box.width))
    for index, (label, value) in enumerate(rows):
        high = box.height * value / top
        left, wide = box.left + index * pitch + pitch * 0.14, pitch * 0.72
        body.append(_rect(left, box.top + box.height - high, wide, high, "column"))
        if value and len(rows) <= 16:
            body.append(_text(left + wide / 2, box.top + box.height - high - 4, number(value), anchor="middle"))
        if index % every == 0:
            body.append(_text(left + wide / 2, box.top + box.height + 16, label, anchor="middle", kind="muted"))
    low = box.top + box.height
    body.append(_text(box.left + box.width, low + 38, horizontal, anchor="end", kind="muted"))
    return _svg(title, description, low + (46 if horizontal else 26), body, width=width)


def shares(title: str, description: str, rows: Sequence[tuple[str, Sequence[Part]]]) -> Markup:
    """One bar of 100 % per row, cut into its parts."""
    left, width = 210, WIDTH - 218
    body = []
    for index, (label, parts) in enumerate(rows):
        y, at = 8 + index * _ROW, float(left)
        total = sum(part.value for part in parts)
        body.append(_text(left - 12, y + 16, label, anchor="end"))
        if not total:
            body.append(_rect(left, y, width, 22, "track"))
            continue
        for part in parts:
            wide = width * part.value / total
            body.append(_rect(at, y, max(wide - 1.5, 0), 22, f"share-{part.kind}"))
            if wide > 46:
                body.append(
                    _text(at + wide / 2, y + 15.5, f"{part.value / total:.0%}", anchor="middle", kind=f"on-{part.kind}")
                )
            at += wide
    return _svg(title, description, 12 + len(rows) * _ROW, body)


def bars(title: str, description: str, rows: Sequence[tuple[str, float]], *, width: float = HALF) -> Markup:
    """One horizontal bar per label, with its figure behind it."""
    top, left, pitch = max((value for _, value in rows), default=1.0) or 1.0, 150, 26
    body = []
    for index, (label, value) in enumerate(rows):
        y, wide = 4 + index * pitch, (width - left - 56) * value / top
        body.append(_text(left - 10, y + 13, label, anchor="end"))
        body.append(_rect(left, y, max(wide, 1.0), 17, "column", rounded=True))
        body.append(_text(left + max(wide, 1.0) + 7, y + 13, number(value), kind="muted"))
    return _svg(title, description, 8 + len(rows) * pitch, body, width=width)


@dataclass(frozen=True, slots=True)
class Span:
    """From a lower bound to a claim, on one line."""

    label: str
    low: float | None
    high: float


def spans(title: str, description: str, rows: Sequence[Span], *, low: str, high: str) -> Markup:
    """Claims beside what a try to break them could show at least."""
    left, width, pitch = 150, WIDTH - 190, 58
    top = max((row.high for row in rows if math.isfinite(row.high)), default=1.0) * 1.1 or 1.0
    body = []
    for index, row in enumerate(rows):
        y, end = 24 + index * pitch, left + width * min(row.high, top) / top
        body.append(_text(left - 14, y + 4, row.label, anchor="end"))
        body.append(_line(left, y, left + width, y, "grid"))
        if row.low is not None:
            start = left + width * min(row.low, top) / top
            body.append(_line(start, y, end, y, "span"))
            body.append(f'<circle class="audited" cx="{start:.1f}" cy="{y}" r="5"/>')
            body.append(_text(start, y + 18, f"{low} {number(row.low)}", anchor="middle", kind="muted"))
        body.append(f'<circle class="claimed" cx="{end:.1f}" cy="{y}" r="6"/>')
        body.append(_text(end + 10, y - 9, f"{high} {number(row.high)}", anchor="end", kind="strong"))
    return _svg(title, description, 4 + len(rows) * pitch, body)


def number(value: float) -> str:
    """A figure as it is shown: three significant digits, counts in full."""
    if not math.isfinite(value):
        return "∞"
    if float(value).is_integer() and abs(value) < 1e9:
        return f"{int(value):,}"
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"


@dataclass(frozen=True, slots=True)
class _Box:
    left: float
    top: float
    width: float
    height: float


def _grid(box: _Box, top: float) -> list[str]:
    """Horizontal lines at round figures."""
    rough = top / _TICKS
    unit = 10 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= rough)
    body, at = [], 0.0
    while at <= top:
        y = box.top + box.height * (1 - at / top)
        body.append(_line(box.left, y, box.left + box.width, y, "grid"))
        body.append(_text(box.left - 8, y + 4, number(at), anchor="end", kind="muted"))
        at += step
    return body


def _stairs(points: Sequence[tuple[float, float]]) -> str:
    first, *rest = points
    return f"M{first[0]:.1f} {first[1]:.1f}" + "".join(f" H{x:.1f} V{y:.1f}" for x, y in rest)


def _rect(x: float, y: float, width: float, height: float, kind: str, *, rounded: bool = False) -> str:
    corner = ' rx="4"' if rounded else ""
    return f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"{corner}/>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, text: str, *, anchor: str = "start", kind: str = "label") -> str:
    return f'<text class="{kind}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>' if text else ""


def _cells(text: str) -> int:
    """How wide a text is: wide characters count twice, and every label keeps its distance."""
    return 2 + sum(2 if ord(character) > 0x2E7F else 1 for character in text)


def _svg(title: str, description: str, height: float, body: Sequence[str], *, width: float = WIDTH) -> Markup:
    name = "c" + hashlib.sha256(f"{title}\0{description}".encode()).hexdigest()[:10]
    return Markup(  # noqa: S704 - every text in it has been escaped above
        f'<svg class="chart" viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-labelledby="{name}t {name}d">'
        f'<title id="{name}t">{escape(title)}</title><desc id="{name}d">{escape(description)}</desc>'
        f"{''.join(body)}</svg>"
    )
