"""Curves and grids of shades in the characters of a terminal."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from orrery.glossary.exhibit import Exhibit, Grid, Series

MARKS = "●×○+▲◇■∙"
SHADES = " ░▒▓█"


@dataclass(frozen=True)
class Axis:
    """A scale from data to [0, 1], linear or logarithmic, and four to five numbers to write beside it."""

    low: float
    high: float
    log: bool

    @classmethod
    def over(cls, values: Sequence[float], log: bool) -> Axis:
        shown = [v for v in values if math.isfinite(v) and (v > 0 or not log)]
        low, high = (min(shown), max(shown)) if shown else (0.0, 1.0)
        if low == high:
            low, high = (low / 2, high * 2) if log else (low - 0.5, high + 0.5)
        return cls(low, high, log)

    def at(self, value: float) -> float | None:
        """Position in [0, 1], or None for a value that cannot be drawn."""
        if not math.isfinite(value) or (self.log and value <= 0):
            return None
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def value(self, position: float) -> float:
        if self.log:
            return self.low * (self.high / self.low) ** position
        return self.low + position * (self.high - self.low)


def axes(exhibit: Exhibit) -> tuple[Axis, Axis]:
    xs = [float(v) for series in exhibit.series for v in series.x]
    ys = [float(v) for series in exhibit.series for v in series.y]
    return Axis.over(xs, exhibit.log_x), Axis.over(ys, exhibit.log_y)


def plot(exhibit: Exhibit, *, width: int = 60, height: int = 14) -> list[list[tuple[str, int | None]]]:
    """The curves as lines of (text, series index or None), so that the caller can colour each curve."""
    across, up = axes(exhibit)
    cells: list[list[int | None]] = [[None] * width for _ in range(height)]
    for n, series in enumerate(exhibit.series):
        for x, y in _dense(series, across, up, width * 2):
            cells[height - 1 - round(y * (height - 1))][round(x * (width - 1))] = n
    margin = max(len(number(up.value(i / (height - 1)))) for i in range(height)) + 1
    lines: list[list[tuple[str, int | None]]] = (
        [[(" " * margin + f"  {exhibit.y}", None)]] if exhibit.y else []
    )
    for i, cell_row in enumerate(cells):
        label = number(up.value(1 - i / (height - 1))) if i % 4 == 0 or i == height - 1 else ""
        parts: list[tuple[str, int | None]] = [
            (f"{label:>{margin}} ┤" if label else " " * margin + " │", None)
        ]
        parts += [(" " if n is None else MARKS[n % len(MARKS)], n) for n in cell_row]
        lines.append(parts)
    lines.append([(" " * margin + " └" + "─" * width, None)])
    ends = [number(across.value(p)) for p in (0.0, 0.5, 1.0)]
    gap = width - sum(len(end) for end in ends)
    ticks = ends[0] + " " * (gap // 2) + ends[1] + " " * (gap - gap // 2) + ends[2]
    lines.append([(" " * (margin + 2) + ticks, None)])
    if exhibit.x:
        lines.append([(" " * (margin + 2) + exhibit.x.center(width).rstrip(), None)])
    for n, series in enumerate(exhibit.series):
        lines.append([(" " * (margin + 2), None), (f"{MARKS[n % len(MARKS)]} {series.name}", n)])
    return lines


def _dense(series: Series, across: Axis, up: Axis, steps: int) -> list[tuple[float, float]]:
    """Points of a curve close enough together to look like a line."""
    points = [(across.at(float(x)), up.at(float(y))) for x, y in zip(series.x, series.y, strict=True)]
    dense: list[tuple[float, float]] = []
    for i, (x, y) in enumerate(points):
        if x is None or y is None:
            continue
        dense.append((x, y))
        after = points[i + 1] if i + 1 < len(points) else (None, None)
        if after[0] is not None and after[1] is not None:
            count = max(1, round(max(abs(after[0] - x), abs(after[1] - y)) * steps))
            dense += [
                (x + (after[0] - x) * k / count, y + (after[1] - y) * k / count) for k in range(1, count)
            ]
    return dense


def shades(grid: Grid) -> list[str]:
    """The grid as lines: two characters a cell, darker for more."""
    margin = max((len(label) for label in grid.rows), default=0)
    lines = []
    for i, values in enumerate(grid.values):
        label = grid.rows[i] if grid.rows else ""
        lines.append(f"{label:>{margin}} " + "".join(_shade(v) * 2 for v in values))
    if grid.columns:
        lines.append(" " * (margin + 1) + "".join(f"{label[:2]:<2}" for label in grid.columns))
    return lines


def _shade(value: float) -> str:
    return SHADES[min(len(SHADES) - 1, max(0, math.ceil(value * (len(SHADES) - 1) - 0.05)))]


def number(value: float) -> str:
    """Three figures, short: 0.00123 -> 1.23e-03, 1234 -> 1,234, 1234567 -> 1.23e+06."""
    if 1000 <= abs(value) < 1_000_000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value == 0 or 0.01 <= abs(value) < 1000 else f"{value:.2e}"
