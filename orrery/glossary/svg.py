"""An exhibit as files: its drawings as SVG, and the whole as one self-contained HTML page."""

from __future__ import annotations

from html import escape
from pathlib import Path

from orrery.glossary.chart import axes, number
from orrery.glossary.exhibit import Exhibit, Grid
from orrery.kit.errors import OrreryError
from orrery.kit.files import atomic_write

COLOURS = ("#2563eb", "#dc2626", "#059669", "#d97706", "#7c3aed", "#0891b2", "#be185d", "#4b5563")
STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:46rem;margin:2rem auto;padding:0 1rem;color:#111827}"
    "table{border-collapse:collapse;margin:1rem 0}td,th{padding:.25rem .75rem;border-bottom:1px solid #e5e7eb;"
    "text-align:right}td:first-child,th:first-child{text-align:left}svg{display:block;max-width:100%;height:auto}"
)


def save(exhibit: Exhibit, path: str | Path) -> list[Path]:
    """Write `exhibit` to a .html file (drawings, table and words) or to .svg files, one a drawing; returns the paths.

    Raises:
        OrreryError: another ending, or a .svg of an exhibit that has only a table.
    """
    path = Path(path)
    if path.suffix == ".html":
        atomic_write(path, page(exhibit))
        return [path]
    if path.suffix != ".svg":
        raise OrreryError(f"'{path}' should end in .svg or .html")
    drawings = svgs(exhibit)
    if not drawings:
        raise OrreryError(
            f"'{exhibit.title}' is a table and has no drawing; save it as .html instead of '{path}'"
        )
    paths = [path, *(path.with_stem(f"{path.stem}-{n}") for n in range(2, len(drawings) + 1))]
    for place, drawing in zip(paths, drawings, strict=True):
        atomic_write(place, drawing)
    return paths


def svgs(exhibit: Exhibit) -> list[str]:
    """The drawings of an exhibit: its curves first, then its grids."""
    return ([svg_plot(exhibit)] if exhibit.series else []) + [svg_grid(grid) for grid in exhibit.grids]


def page(exhibit: Exhibit) -> str:
    """One HTML page without scripts or links to anywhere."""
    head = "".join(f"<th>{escape(str(name))}</th>" for name in exhibit.columns)
    rows = "".join(
        "<tr>" + "".join(f"<td>{escape(cell(value))}</td>" for value in row) + "</tr>" for row in exhibit.rows
    )
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>" if exhibit.rows else ""
    title, reads = escape(exhibit.title), escape(exhibit.reads)
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title}</title><style>{STYLE}</style>'
        f"</head><body><h1>{title}</h1><p>{reads}</p>{''.join(svgs(exhibit))}{table}</body></html>\n"
    )


def cell(value: object) -> str:
    """A table value as text: floats in a few figures, counts with separators."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return (
        (f"{value:.4g}" if abs(value) < 10_000 else number(value)) if isinstance(value, float) else str(value)
    )


def svg_plot(exhibit: Exhibit, *, width: int = 640, height: int = 360) -> str:
    """The curves as one self-contained SVG."""
    across, up = axes(exhibit)
    left, top, right, bottom = 64, 16, 16, 44 + 18 * len(exhibit.series)
    w, h = width - left - right, height - top - 44

    def place(x: float, y: float) -> str:
        return f"{left + x * w:.1f},{top + (1 - y) * h:.1f}"

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top + h + bottom}" '
        'font-family="system-ui, sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<rect x="{left}" y="{top}" width="{w}" height="{h}" fill="none" stroke="#9ca3af"/>',
    ]
    for i in range(5):
        p = i / 4
        x, y = left + p * w, top + (1 - p) * h
        parts.append(
            f'<text x="{x:.0f}" y="{top + h + 16}" text-anchor="middle">{number(across.value(p))}</text>'
        )
        parts.append(f'<text x="{left - 6}" y="{y + 4:.0f}" text-anchor="end">{number(up.value(p))}</text>')
        parts.append(f'<line x1="{left}" x2="{left + w}" y1="{y:.1f}" y2="{y:.1f}" stroke="#e5e7eb"/>')
    for n, series in enumerate(exhibit.series):
        colour = COLOURS[n % len(COLOURS)]
        pairs = [(across.at(float(x)), up.at(float(y))) for x, y in zip(series.x, series.y, strict=True)]
        line = " ".join(place(x, y) for x, y in pairs if x is not None and y is not None)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        y = top + h + 52 + 18 * n
        parts.append(f'<rect x="{left}" y="{y - 9}" width="18" height="4" fill="{colour}"/>')
        parts.append(f'<text x="{left + 26}" y="{y - 3}">{escape(series.name)}</text>')
    parts.append(
        f'<text x="{left + w / 2}" y="{top + h + 34}" text-anchor="middle">{escape(exhibit.x)}</text>'
    )
    parts.append(f'<text x="12" y="{top + h / 2}" text-anchor="middle" '
                 f'transform="rotate(-90 12 {top + h / 2})">{escape(exhibit.y)}</text></svg>')  # fmt: skip
    return "\n".join(parts)


def svg_grid(grid: Grid, *, cell: int = 18) -> str:
    """The grid as one self-contained SVG, darker for more."""
    left = 12 + 8 * max((len(label) for label in grid.rows), default=0)
    columns = max(len(values) for values in grid.values)
    width = left + max(cell * columns, 7 * len(grid.title)) + 8
    height = 26 + cell * len(grid.values) + 22
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" '
        'font-family="ui-monospace, monospace" font-size="11"><rect width="100%" height="100%" fill="white"/>',
        f'<text x="{left}" y="14">{escape(grid.title)}</text>',
    ]
    for i, values in enumerate(grid.values):
        y = 22 + cell * i
        if grid.rows:
            parts.append(f'<text x="{left - 6}" y="{y + 13}" text-anchor="end">{escape(grid.rows[i])}</text>')
        for j, value in enumerate(values):
            parts.append(
                f'<rect x="{left + cell * j}" y="{y}" width="{cell}" height="{cell}" fill="#1e3a8a" '
                f'fill-opacity="{min(1.0, max(0.0, value)):.3f}" stroke="#e5e7eb"/>'
            )
    for j, label in enumerate(grid.columns):
        x = left + cell * j + cell / 2
        parts.append(f'<text x="{x}" y="{height - 6}" text-anchor="middle">{escape(label[:2])}</text>')
    return "\n".join([*parts, "</svg>"])
