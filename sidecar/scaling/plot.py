"""Drawings as SVG, without a library: a service's day, and what violations cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape

import numpy as np

from .traces import Minutes

WIDTH, HEIGHT = 960, 420
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 20, 44, 44
_COLOURS = ("#c0392b", "#1f6f8b", "#7d8a2e", "#7b4b94")
_STYLE = (
    "<style>.paper{fill:#fff}text{fill:#333}.grid{stroke:#e4e4e4}"
    "@media(prefers-color-scheme:dark){.paper{fill:#16181c}text{fill:#d6d9dd}.grid{stroke:#33373d}}</style>"
)
# More points than pixels draw nothing more.
_MOST_POINTS = 1600


@dataclass(frozen=True)
class Curve:
    """Points of violations (a share) and cost, in any order."""

    name: str
    points: list[tuple[float, float]]


@dataclass(frozen=True)
class Scale:
    """From a quantity to a place on the paper."""

    low: float
    high: float
    first: float
    last: float

    def place(self, value: float) -> float:
        """In pixels."""
        share = (value - self.low) / max(self.high - self.low, 1e-12)
        return self.first + share * (self.last - self.first)

    def ticks(self) -> list[float]:
        """Some four to eight round numbers of the range."""
        span = max(self.high - self.low, 1e-12)
        step = 10.0 ** np.floor(np.log10(span / 4.0))
        step *= next(it for it in (1.0, 2.0, 5.0, 10.0) if span / (step * it) <= 8.0)
        first = np.ceil(self.low / step - 1e-9)
        return [float(step * (first + number)) for number in range(int(span / step + 1e-9) + 1)]


def day(
    title: str,
    start: float,
    demand: Minutes,
    serving: Minutes,
    low: Minutes | None = None,
    high: Minutes | None = None,
) -> str:
    """Demand, the capacity that serves, and the forecast's band, all in replicas, of every minute from `start` on."""
    most = max(float(demand.max()), float(serving.max()), float(np.nanmax(high)) if high is not None else 0.0)
    across = Scale(0.0, float(len(demand) - 1), _LEFT, WIDTH - _RIGHT)
    up = Scale(0.0, 1.05 * most, HEIGHT - _BOTTOM, _TOP)
    parts = [*_frame(title, "replicas", up)]
    step = max(1, len(demand) // 8)
    for minute in range(0, len(demand), step):
        at = datetime.fromtimestamp(start + 60.0 * minute, UTC)
        text = at.strftime("%H:%M" if len(demand) <= 2 * 1440 else "%d %b %H:%M")
        parts.append(_text(across.place(minute), HEIGHT - _BOTTOM + 18, text, "middle"))
    if low is not None and high is not None:
        upper, lower = _points(high, across, up), _points(low, across, up)
        if upper and lower:
            corners = " ".join((*upper, *reversed(lower)))
            parts.append(f'<polygon points="{corners}" fill="#1f6f8b" fill-opacity="0.15"/>')
    parts.append(_line(_points(demand, across, up), _COLOURS[0], 1.2))
    parts.append(_line(_points(serving, across, up, hold=True), _COLOURS[1], 1.6))
    parts += _legend(("demand", "capacity that serves"))
    return page(parts)


def frontiers(title: str, curves: Sequence[Curve], least: float) -> str:
    """Violations across, cost over the least possible one upwards: lower left is better."""
    points = [(100.0 * share, cost / least) for curve in curves for share, cost in curve.points]
    # What is far dearer or worse than anybody would run stays off the paper.
    widest = min(max(share for share, _ in points), 10.0)
    highest = min(max(cost for _, cost in points), 4.0)
    across = Scale(0.0, max(widest, 1.5), _LEFT, WIDTH - _RIGHT)
    up = Scale(min(1.0, min(cost for _, cost in points)) - 0.02, highest, HEIGHT - _BOTTOM, _TOP)
    parts = [*_frame(title, "cost over the clairvoyant's", up)]
    parts += [_text(across.place(it), HEIGHT - _BOTTOM + 18, f"{it:g} %", "middle") for it in across.ticks()]
    parts.append(_text(WIDTH - _RIGHT, HEIGHT - 8, "minutes with demand above capacity", "end"))
    for curve, colour in zip(curves, _COLOURS, strict=False):
        seen = sorted(
            (100.0 * share, cost / least)
            for share, cost in curve.points
            if 100.0 * share <= across.high and cost / least <= up.high
        )
        places = [f"{across.place(share):.1f},{up.place(cost):.1f}" for share, cost in seen]
        parts.append(_line(places, colour, 1.4))
        for place in places:
            x, y = place.split(",")
            parts.append(f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>')
    allowed = across.place(1.0)
    parts.append(
        f'<line x1="{allowed:.1f}" x2="{allowed:.1f}" y1="{_TOP}" y2="{HEIGHT - _BOTTOM}" stroke="#888" '
        'stroke-dasharray="4 4"/>'
    )
    parts += _legend([curve.name for curve in curves])
    return page(parts)


def _points(values: Minutes, across: Scale, up: Scale, hold: bool = False) -> list[str]:
    """Places of a series; of many in one pixel the largest, so that no peak is lost."""
    wide = max(1, -(-len(values) // _MOST_POINTS))
    found, last = [], None
    for first in range(0, len(values), wide):
        chunk = values[first : first + wide]
        if np.isnan(chunk).all():
            continue
        y = f"{up.place(float(np.nanmax(chunk))):.1f}"
        x = f"{across.place(first):.1f}"
        if hold and last is not None and last != y:
            found.append(f"{x},{last}")
        found.append(f"{x},{y}")
        last = y
    return found


def _frame(title: str, unit: str, up: Scale) -> list[str]:
    parts = [
        f'<text x="{_LEFT}" y="22" font-size="15" font-weight="600">{escape(title)}</text>',
        _text(_LEFT - 8, _TOP - 8, unit, "start"),
    ]
    for tick in up.ticks():
        y = up.place(tick)
        if _TOP <= y <= HEIGHT - _BOTTOM:
            parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
            parts.append(_text(_LEFT - 8, y + 4, f"{tick:g}", "end"))
    return parts


def _legend(names: Sequence[str]) -> list[str]:
    parts = []
    for number, (name, colour) in enumerate(zip(names, _COLOURS, strict=False)):
        x = WIDTH - _RIGHT - 220 * (len(names) - number)
        parts.append(f'<line x1="{x}" x2="{x + 22}" y1="18" y2="18" stroke="{colour}" stroke-width="3"/>')
        parts.append(_text(x + 28, 22, name, "start"))
    return parts


def _line(points: Sequence[str], colour: str, width: float) -> str:
    return f'<polyline points="{" ".join(points)}" fill="none" stroke="{colour}" stroke-width="{width}"/>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def page(parts: Sequence[str], width: int = WIDTH, height: int = HEIGHT) -> str:
    """A whole drawing, light or dark as the reader's screen is; grid lines have the class `grid`."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        f'font-size="12">\n{_STYLE}\n<rect class="paper" width="{width}" height="{height}"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )
