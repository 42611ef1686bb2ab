"""Figures of evaluation as plain SVG text: heat maps, points with intervals, bars. No script, no network; all text is escaped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from orrery.evaluate.statistics.estimate import Estimate

COLOURS = (
    "#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#0891b2", "#be185d", "#4d7c0f", "#6b7280",
)  # fmt: skip
INK = "#111827"


@dataclass(frozen=True, kw_only=True)
class Curve:
    """Points (x, estimate or plain y) of one name."""

    name: str
    x: Sequence[float]
    y: Sequence[Estimate | float]


def heat_map(
    title: str,
    values: Sequence[Sequence[float | None]],
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    x: str = "",
    y: str = "",
) -> str:
    """Shares in [0, 1] as shades, darker for more, each with its number in percent; None (not scored) is crossed out."""
    cell_w, cell_h = 54, 30
    left, top = 30 + 7 * max(map(len, rows), default=0), 34
    width, height = left + cell_w * len(columns) + 12, top + cell_h * len(rows) + 46
    parts = [_open(width, height, title)]
    for i, row in enumerate(values):
        at = top + cell_h * i
        parts.append(_text(left - 8, at + 19, rows[i], "end"))
        for j, value in enumerate(row):
            x0 = left + cell_w * j
            if value is None:
                parts.append(
                    f'<rect x="{x0}" y="{at}" width="{cell_w}" height="{cell_h}" fill="#f3f4f6" stroke="white"/>'
                )
                parts.append(_text(x0 + cell_w / 2, at + 19, "×"))
                continue
            ink = "white" if value > 0.55 else INK
            parts.append(
                f'<rect x="{x0}" y="{at}" width="{cell_w}" height="{cell_h}" fill="{_shade(value)}" stroke="white"/>'
            )
            parts.append(_text(x0 + cell_w / 2, at + 19, f"{100 * value:.0f}", fill=ink))
    for j, name in enumerate(columns):
        parts.append(_text(left + cell_w * (j + 0.5), top + cell_h * len(rows) + 16, name))
    parts.append(_text(left + cell_w * len(columns) / 2, height - 10, x))
    middle = top + cell_h * len(rows) / 2
    parts.append(_text(14, middle, y, turn=True))
    return "\n".join([*parts, "</svg>"])


def curves(
    title: str,
    lines: Sequence[Curve],
    *,
    x: str = "",
    y: str = "",
    log_x: bool = False,
    threshold: float | None = None,
    marks: Sequence[float] = (),
) -> str:
    """Curves over [0, 1] upwards, with a bar for the interval of every point that is an Estimate.

    threshold: a level line. marks: where numbers stand below the axis.
    """
    width, height, left, top, right, bottom = 520, 300 + 18 * len(lines), 56, 34, 16, 50 + 18 * len(lines)
    scale = math.log if log_x else float
    across = [scale(v) for line in lines for v in line.x]
    low, high = (min(across), max(across)) if across else (0.0, 1.0)

    def place(at: float, value: float) -> tuple[float, float]:
        share = (scale(at) - low) / ((high - low) or 1)
        return left + share * (width - left - right), height - bottom - value * (height - top - bottom)

    parts = [_open(width, height, title)]
    for tick in (0.0, 0.25, 0.5, 0.75, 1.0):
        line_y = height - bottom - tick * (height - top - bottom)
        parts.append(
            f'<line x1="{left}" x2="{width - right}" y1="{line_y:.1f}" y2="{line_y:.1f}" stroke="#e5e7eb"/>'
        )
        parts.append(_text(left - 6, line_y + 4, f"{tick:g}", "end"))
    for tick in marks or sorted({v for line in lines for v in line.x})[:12]:
        parts.append(_text(place(tick, 0)[0], height - bottom + 16, f"{tick:,.4g}"))
    if threshold is not None:
        level = place(math.exp(low) if log_x else low, threshold)[1]
        parts.append(
            f'<line x1="{left}" x2="{width - right}" y1="{level:.1f}" y2="{level:.1f}" stroke="{INK}" stroke-dasharray="4 3"/>'
        )
    for n, line in enumerate(lines):
        colour = COLOURS[n % len(COLOURS)]
        points = [
            (at, value) for at, value in zip(line.x, line.y, strict=True) if math.isfinite(_centre(value))
        ]
        path = " ".join("{:.1f},{:.1f}".format(*place(at, _centre(value))) for at, value in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for at, value in points:
            px, py = place(at, _centre(value))
            if isinstance(value, Estimate) and math.isfinite(value.low):
                ends = [place(at, min(1.0, max(0.0, end)))[1] for end in (value.low, value.high)]
                parts.append(
                    f'<line x1="{px:.1f}" x2="{px:.1f}" y1="{ends[0]:.1f}" y2="{ends[1]:.1f}" stroke="{colour}"/>'
                )
            parts.append(f'<circle cx="{px:.1f}" cy="{py:.1f}" r="3" fill="{colour}"/>')
        parts.append(f'<rect x="{left}" y="{height - 14 - 18 * n}" width="16" height="4" fill="{colour}"/>')
        parts.append(_text(left + 22, height - 8 - 18 * n, line.name, "start"))
    parts.append(_text((left + width - right) / 2, height - bottom + 34, x))
    parts.append(_text(14, (top + height - bottom) / 2, y, turn=True))
    return "\n".join([*parts, "</svg>"])


def bars(title: str, rows: Sequence[tuple[str, Estimate]], *, percent: bool = True) -> str:
    """One bar a group with its interval; for values that are no shares the longest bar fills the width."""
    left, width, step, top = 16 + 7 * min(max((len(name) for name, _ in rows), default=0), 40), 620, 24, 34
    room = width - left - 130
    ends = [abs(v) for _, e in rows for v in (e.mean, e.high) if math.isfinite(v)]
    most = 1.0 if percent else max(ends, default=1.0) or 1.0
    parts = [_open(width, top + step * len(rows) + 10, title)]
    for i, (name, value) in enumerate(rows):
        at = top + step * i
        shown = value.mean if math.isfinite(value.mean) else 0.0
        length = room * min(1.0, max(0.0, shown / most))
        parts.append(_text(left - 8, at + 14, name if len(name) <= 40 else name[:39] + "…", "end"))
        parts.append(f'<rect x="{left}" y="{at + 2}" width="{length:.1f}" height="16" fill="#93c5fd"/>')
        if math.isfinite(value.low) and math.isfinite(value.high):
            x0, x1 = (left + room * min(1.0, max(0.0, v / most)) for v in (value.low, value.high))
            parts.append(f'<line x1="{x0:.1f}" x2="{x1:.1f}" y1="{at + 10}" y2="{at + 10}" stroke="{INK}"/>')
        parts.append(_text(left + room + 8, at + 14, f"{number(value.mean, percent)} (n={value.n})", "start"))
    return "\n".join([*parts, "</svg>"])


def number(value: float, percent: bool = True) -> str:
    """A value for people: shares in percent, what is not known as a dash."""
    if not math.isfinite(value):
        return "–"
    return f"{100 * value:.1f}%" if percent else f"{value:.4g}"


def _open(width: float, height: float, title: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" role="img" '
        f'aria-label="{escape(title)}" font-family="system-ui, sans-serif" font-size="12">'
        f'<rect width="100%" height="100%" fill="white"/>' + _text(10, 18, title, "start", weight="bold")
    )


def _text(
    x: float,
    y: float,
    text: str,
    anchor: str = "middle",
    *,
    fill: str = INK,
    weight: str = "",
    turn: bool = False,
) -> str:
    extra = f' font-weight="{weight}"' if weight else ""
    extra += f' transform="rotate(-90 {x:.1f} {y:.1f})"' if turn else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}"{extra}>{escape(text)}</text>'


def _shade(value: float) -> str:
    """White to dark blue."""
    share = min(1.0, max(0.0, value))
    mixed = (round(a + (b - a) * share) for a, b in zip((239, 246, 255), (30, 58, 138), strict=True))
    return "#" + "".join(f"{channel:02x}" for channel in mixed)


def _centre(value: Estimate | float) -> float:
    return value.mean if isinstance(value, Estimate) else value
