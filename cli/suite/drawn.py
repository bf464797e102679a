"""Bars and lines as SVG, light or dark as the reader's screen is, without a library or a request."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from types import MappingProxyType

from hansa.cli.suite.found import shown_number
from hansa.sidecar.scaling.plot import Scale, page

_WIDTH, _ROW = 960, 26
_LEFT, _RIGHT, _TOP, _BOTTOM = 240, 90, 40, 12
_HEIGHT = 320
_COLOURS = ("#1f6f8b", "#c0392b", "#7d8a2e", "#7b4b94", "#b9770e")


def bars(
    title: str, values: Sequence[tuple[str, float]], unit: str = "", *, most: float | None = None
) -> str:
    """One bar a name, from 0; the value stands at its end.

    Parameters
    ----------
    most : what the whole width stands for; by default the largest value
    """
    whole = most or max((value for _, value in values if math.isfinite(value)), default=0.0) or 1.0
    across = Scale(0.0, whole, _LEFT, _WIDTH - _RIGHT)
    parts = [_title(title)]
    for number, (name, value) in enumerate(values):
        y = _TOP + _ROW * number
        parts.append(_text(_LEFT - 10, y + 16, _shortened(name), "end"))
        shown = min(max(value, 0.0), whole) if math.isfinite(value) else 0.0
        width = across.place(shown) - _LEFT
        parts.append(
            f'<rect x="{_LEFT}" y="{y + 3}" width="{width:.1f}" height="{_ROW - 8}" fill="{_COLOURS[0]}"/>'
        )
        parts.append(_text(_LEFT + width + 6, y + 16, f"{shown_number(value)} {unit}".strip(), "start"))
    return page(parts, _WIDTH, _TOP + _ROW * len(values) + _BOTTOM)


def lines(
    title: str,
    across: str,
    curves: Sequence[tuple[str, Sequence[tuple[float, float]]]],
    unit: str = "",
    *,
    errors: Mapping[tuple[float, float], float] = MappingProxyType({}),
) -> str:
    """One line a name through its points; what is not finite is left out.

    Parameters
    ----------
    across : what the first coordinate is
    errors : standard errors by point, drawn as a whisker of one on either side
    """
    kept = [(name, [it for it in points if all(map(math.isfinite, it))]) for name, points in curves]
    every = [it for _, points in kept for it in points]
    if not every:
        return page([_title(title), _text(_WIDTH / 2, _HEIGHT / 2, "no point", "middle")], _WIDTH, _HEIGHT)
    spread = {it: errors[it] for it in every if math.isfinite(errors.get(it, math.nan))}
    xs = [x for x, _ in every]
    ys = [y + sign * spread.get((x, y), 0.0) for x, y in every for sign in (-1, 1)]
    margin = 0.05 * (max(ys) - min(ys)) or 0.05 * abs(max(ys)) or 1.0
    x_scale = Scale(min(xs), max(xs), 70, _WIDTH - 20)
    y_scale = Scale(min(ys) - margin, max(ys) + margin, _HEIGHT - 40, 56)
    parts = [_title(title), _text(62, 48, unit, "end")]
    for tick in y_scale.ticks():
        y = y_scale.place(tick)
        parts.append(f'<line class="grid" x1="70" x2="{_WIDTH - 20}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(_text(62, y + 4, f"{tick:.4g}", "end"))
    counted = all(x == int(x) for x in xs) and max(xs) > min(xs)
    ticks = [it for it in x_scale.ticks() if not counted or abs(it - round(it)) < 1e-9]
    parts += (_text(x_scale.place(it), _HEIGHT - 20, f"{it:g}", "middle") for it in ticks)
    parts += (
        f'<line x1="{x_scale.place(x):.1f}" x2="{x_scale.place(x):.1f}" y1="{y_scale.place(y - it):.1f}" '
        f'y2="{y_scale.place(y + it):.1f}" stroke="#888" stroke-width="1.2"/>'
        for (x, y), it in spread.items()
    )
    parts.append(_text(_WIDTH - 20, _HEIGHT - 4, across, "end"))
    for number, (name, points) in enumerate(kept):
        colour = _COLOURS[number % len(_COLOURS)]
        places = [f"{x_scale.place(x):.1f},{y_scale.place(y):.1f}" for x, y in points]
        parts.append(
            f'<polyline points="{" ".join(places)}" fill="none" stroke="{colour}" stroke-width="1.8"/>'
        )
        parts += (
            f'<circle cx="{place.split(",")[0]}" cy="{place.split(",")[1]}" r="2.5" fill="{colour}"/>'
            for place in places
        )
        x = 300 + 130 * number
        parts.append(f'<line x1="{x}" x2="{x + 20}" y1="18" y2="18" stroke="{colour}" stroke-width="3"/>')
        parts.append(_text(x + 26, 22, _shortened(name, 14), "start"))
    return page(parts, _WIDTH, _HEIGHT)


def _title(text: str) -> str:
    return f'<text x="12" y="22" font-size="15" font-weight="600">{escape(text)}</text>'


def _text(x: float, y: float, text: str, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _shortened(name: str, longest: int = 34) -> str:
    return name if len(name) <= longest else name[: longest - 1] + "…"
