"""Line charts as plain SVG text: no script, no network, readable in any browser and in print."""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 520, 230
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 12, 34


@dataclass(frozen=True, kw_only=True)
class Line:
    """One series: its name, its points (x, y), and a CSS class that gives its colour."""

    name: str
    points: list[tuple[float, float]]
    css: str = "a"


def line_chart(title: str, lines: list[Line], *, x_label: str = "step", log_y: bool = False) -> str:
    """An SVG figure of one or more series on shared axes. Points that are not finite are left out."""
    lines = [
        Line(name=s.name, css=s.css, points=_thin([p for p in s.points if math.isfinite(p[1])]))
        for s in lines
    ]
    points = [p for s in lines for p in s.points if not log_y or p[1] > 0]
    if not points:
        return f"<figure><figcaption>{escape(title)}</figcaption><p>no measurements</p></figure>"
    scale = math.log10 if log_y else float
    xs, ys = [p[0] for p in points], [scale(p[1]) for p in points]
    x0, x1 = min(xs), max(xs)
    y0, y1 = _padded(min(ys), max(ys))

    def place(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (x - x0) / ((x1 - x0) or 1) * (WIDTH - LEFT - RIGHT)
        up = HEIGHT - BOTTOM - (scale(y) - y0) / ((y1 - y0) or 1) * (HEIGHT - TOP - BOTTOM)
        return across, up

    parts = [f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">']
    for tick in _ticks(y0, y1):
        value = 10**tick if log_y else tick
        _, y = place(x0, value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(
            f'<text class="tick" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{_label(value)}</text>'
        )
    for tick in _ticks(x0, x1):
        x, _ = place(tick, points[0][1])
        parts.append(
            f'<text class="tick" x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{_label(tick)}</text>'
        )
    parts.append(
        f'<text class="tick" x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 4}" text-anchor="middle">{escape(x_label)}</text>'
    )
    for series in lines:
        path = " ".join(
            f"{x:.1f},{y:.1f}" for x, y in (place(*p) for p in series.points if not log_y or p[1] > 0)
        )
        parts.append(
            f'<polyline class="series {series.css}" points="{path}"><title>{escape(series.name)}</title></polyline>'
        )
    parts.append("</svg>")
    keys = (
        "".join(f'<span class="key {s.css}">{escape(s.name)}</span>' for s in lines) if len(lines) > 1 else ""
    )
    return f"<figure><figcaption>{escape(title)} {keys}</figcaption>{''.join(parts)}</figure>"


def bar_chart(title: str, bars: list[tuple[str, float, bool]], unit: str) -> str:
    """Horizontal bars (name, value, emphasised), shortest first as given; values are printed beside the bars."""
    longest = max((value for _, value, _ in bars), default=1.0) or 1.0
    rows = "".join(
        f'<div class="bar{" strong" if strong else ""}"><span class="name">{escape(name)}</span>'
        f'<span class="track"><span class="fill" style="width:{100 * value / longest:.1f}%"></span></span>'
        f'<span class="value">{value:.3f}</span></div>'
        for name, value, strong in bars
    )
    return f'<figure class="bars"><figcaption>{escape(title)} <small>{escape(unit)}</small></figcaption>{rows}</figure>'


def smooth(points: list[tuple[float, float]], window: int) -> list[tuple[float, float]]:
    """Moving average over the last `window` points."""
    out, total, recent = [], 0.0, []
    for x, y in points:
        recent.append(y)
        total += y
        if len(recent) > window:
            total -= recent.pop(0)
        out.append((x, total / len(recent)))
    return out


def _thin(points: list[tuple[float, float]], most: int = 600) -> list[tuple[float, float]]:
    step = max(1, math.ceil(len(points) / most))
    return points[::step] + (points[-1:] if points and (len(points) - 1) % step else [])


def _padded(low: float, high: float) -> tuple[float, float]:
    pad = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
    return (low - pad if low - pad > 0 or low < 0 else 0.0 if low >= 0 else low), high + pad


def _ticks(low: float, high: float, count: int = 5) -> list[float]:
    span = (high - low) or 1.0
    raw = span / count
    size = 10 ** math.floor(math.log10(raw))
    step = next(size * m for m in (1, 2, 2.5, 5, 10) if size * m >= raw)
    first = math.ceil(low / step)
    return [round(i * step, 12) for i in range(first, math.floor(high / step + 1e-9) + 1)]


def _label(value: float) -> str:
    if value and (abs(value) < 1e-3 or abs(value) >= 1e6):
        return f"{value:.1e}"
    return f"{value:,.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.4g}"
