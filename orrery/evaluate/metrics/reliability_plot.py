"""A reliability diagram as an SVG picture: bars of accuracy over confidence, the gap to the diagonal in red."""

from __future__ import annotations

from collections.abc import Sequence

from orrery.evaluate.metrics.calibration import Bin

SIDE, MARGIN = 320, 44


def reliability_svg(bins: Sequence[Bin], *, title: str = "") -> str:
    """The picture of `reliability(...)`; a bar's strength of colour shows how many items it stands for."""
    most = max((b.n for b in bins), default=0)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {SIDE + 2 * MARGIN} {SIDE + 2 * MARGIN}" '
        'font-family="sans-serif" font-size="12" role="img">',
        '<rect width="100%" height="100%" fill="white"/>',
    ]
    for b in bins:
        if b.n:
            opacity = 0.25 + 0.75 * b.n / most
            parts.append(
                _box(b.low, b.high, 0, b.accuracy, "#4477aa", opacity, f"{b.n} items, {b.accuracy:.3f} right")
            )
            low, high = sorted((b.accuracy, b.confidence))
            parts.append(_box(b.low, b.high, low, high, "#cc3311", 0.45, f"said {b.confidence:.3f}"))
    parts.append(
        f'<path d="M{_x(0)} {_y(0)}H{_x(1)}M{_x(0)} {_y(0)}V{_y(1)}" stroke="black" fill="none"/>'
        f'<path d="M{_x(0)} {_y(0)}L{_x(1)} {_y(1)}" stroke="#555" stroke-dasharray="4 4"/>'
    )
    for tick in (0.0, 0.5, 1.0):
        parts.append(_text(_x(tick), _y(0) + 16, f"{tick:g}"))
        parts.append(_text(_x(0) - 16, _y(tick) + 4, f"{tick:g}"))
    parts.append(_text(_x(0.5), _y(0) + 34, "confidence"))
    parts.append(_text(_x(0) + 30, _y(1) - 8, "accuracy"))
    parts.append(_text(_x(0.5), 18, title))
    return "\n".join([*parts, "</svg>\n"])


def _x(value: float) -> float:
    return round(MARGIN + SIDE * value, 2)


def _y(value: float) -> float:
    return round(MARGIN + SIDE * (1 - value), 2)


def _box(left: float, right: float, low: float, high: float, colour: str, opacity: float, hint: str) -> str:
    width, height = round(SIDE * (right - left), 2), round(SIDE * (high - low), 2)
    return (
        f'<rect x="{_x(left)}" y="{_y(high)}" width="{width}" height="{height}" fill="{colour}" '
        f'fill-opacity="{opacity:.2f}"><title>{hint}</title></rect>'
    )


def _text(x: float, y: float, text: str) -> str:
    escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return f'<text x="{x}" y="{y}" text-anchor="middle">{escaped}</text>'
