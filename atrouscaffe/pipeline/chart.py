"""Line charts as SVG: text that any browser shows, and no plotting library needed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["Panel", "Series", "draw"]

WIDTH, PANEL_HEIGHT = 900, 300
LEFT, RIGHT, TOP, BOTTOM = 70, 170, 36, 40
COLOURS = ("#1f5fa8", "#c2571a", "#2f7d4f", "#8a4a9e", "#a3323c", "#5c6770")
MOST_POINTS, FEW_POINTS = 1500, 40


@dataclass(frozen=True)
class Series:
    """One line: x ascending, y of the same length; a faint one is drawn thin and pale."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    faint: bool = False


@dataclass(frozen=True)
class Panel:
    """One chart under the others; all share the x axis.

    Attributes
    ----------
    title : str
    series : sequence of Series
    logarithmic : bool
        Draw by the logarithm where the values are positive and span more than two decades.
    within : tuple of float
        Values that the axis shows at least, such as (0, 1) for shares.
    """

    title: str
    series: Sequence[Series]
    logarithmic: bool = False
    within: Sequence[float] = ()


def _thin(x: Sequence[float], y: Sequence[float]) -> list[tuple[float, float]]:
    """Return finite points, as means over equal runs where there are too many."""
    points = [(a, b) for a, b in zip(x, y) if math.isfinite(b)]
    run = -(-len(points) // MOST_POINTS)
    if run <= 1:
        return points
    parts = [points[i:i + run] for i in range(0, len(points), run)]
    return [(sum(a for a, _ in part) / len(part), sum(b for _, b in part) / len(part)) for part in parts]


def _ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Return round numbers between `low` and `high`."""
    step = 10 ** math.floor(math.log10((high - low) / count))
    step *= next((m for m in (1, 2, 5, 10) if (high - low) / (step * m) <= count), 10)
    first = math.ceil(low / step - 1e-9)
    return [i * step for i in range(first, math.floor(high / step + 1e-9) + 1)]


class _Axis:
    """Maps values to pixels, by their logarithm if that serves."""

    def __init__(self, values: Sequence[float], begin: float, end: float, may_be_log: bool = False) -> None:
        low, high = min(values), max(values)
        self.log = may_be_log and low > 0 and high / low > 100
        if self.log:
            low, high = math.log10(low), math.log10(high)
        if high - low < 1e-12 * max(1.0, abs(high)):
            low, high = low - 0.5, high + 0.5
        self.low, self.high, self.begin, self.end = low, high, begin, end

    def at(self, value: float) -> float:
        value = math.log10(value) if self.log else value
        return self.begin + (self.end - self.begin) * (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[tuple[float, str]]:
        if not self.log:
            return [(value, f"{value:,.6g}") for value in _ticks(self.low, self.high)]
        decades = [10.0 ** i for i in range(math.ceil(self.low), math.floor(self.high) + 1)]
        return [(value, f"{value:g}") for value in decades]


def _text(x: float, y: float, text: str, anchor: str = "start", extra: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{extra}>{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}"/>'


def _panel(panel: Panel, offset: float, xs: _Axis) -> list[str]:
    """Return the elements of one panel whose upper edge is at `offset`."""
    lines = [(series, _thin(series.x, series.y)) for series in panel.series]
    lines = [(series, points) for series, points in lines if points]
    top, bottom = offset + TOP, offset + PANEL_HEIGHT - BOTTOM
    out = [_text(LEFT, offset + 22, panel.title, extra=' font-weight="bold"')]
    if not lines:
        return [*out, _text((LEFT + WIDTH - RIGHT) / 2, (top + bottom) / 2, "nothing recorded yet", "middle")]
    ys = _Axis([*panel.within, *(y for _, points in lines for _, y in points)], bottom, top, panel.logarithmic)
    for value, label in ys.ticks():
        out += [_line(LEFT, ys.at(value), WIDTH - RIGHT, ys.at(value), "#e3e6e8"),
                _text(LEFT - 8, ys.at(value) + 4, label, "end")]
    for value, label in xs.ticks():
        out += [_line(xs.at(value), bottom, xs.at(value), bottom + 5, "#70787d"),
                _text(xs.at(value), bottom + 19, label, "middle")]
    out.append(_line(LEFT, bottom, WIDTH - RIGHT, bottom, "#70787d"))
    labels = []
    for i, (series, points) in enumerate(lines):
        colour = COLOURS[i % len(COLOURS)]
        path = " ".join(f"{xs.at(x):.1f},{ys.at(y):.1f}" for x, y in points)
        width, opacity = (1, 0.35) if series.faint else (2, 1)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width}" '
                   f'stroke-opacity="{opacity}" stroke-linejoin="round"/>')
        if len(points) <= FEW_POINTS:
            out += [f'<circle cx="{xs.at(x):.1f}" cy="{ys.at(y):.1f}" r="3" fill="{colour}"/>' for x, y in points]
        labels.append((ys.at(points[-1][1]), f"{series.name} {points[-1][1]:.4g}", colour))
    return out + _labels(labels, top, bottom)


def _labels(labels: Sequence[tuple[float, str, str]], top: float, bottom: float) -> list[str]:
    """Return names at the ends of the lines, moved apart where they would overlap."""
    out, last = [], top - 16
    for y, text, colour in sorted(labels):
        last = max(min(y, bottom), last + 16)
        out.append(_text(WIDTH - RIGHT + 8, last + 4, text[:26], extra=f' fill="{colour}"'))
    return out


def draw(title: str, panels: Sequence[Panel], x_name: str = "iteration") -> str:
    """Return an SVG document with the panels one below the other.

    Parameters
    ----------
    title : str
    panels : sequence of Panel
    x_name : str
    """
    height = 30 + PANEL_HEIGHT * len(panels) + 16
    values = [x for panel in panels for series in panel.series for x in series.x] or [0, 1]
    xs = _Axis(values, LEFT, WIDTH - RIGHT)
    body = [_text(LEFT, 22, title, extra=' font-size="16" font-weight="bold"')]
    for i, panel in enumerate(panels):
        body += _panel(panel, 30 + i * PANEL_HEIGHT, xs)
    body.append(_text((LEFT + WIDTH - RIGHT) / 2, height - 8, x_name, "middle"))
    head = (f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
            f'viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12" fill="#24292d">')
    return "\n".join([head, f'<rect width="{WIDTH}" height="{height}" fill="white"/>', *body, "</svg>", ""])
