"""The glossary on a terminal: every function returns something rich can print."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.markdown import Markdown
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from orrery.glossary.chart import plot, shades
from orrery.glossary.coverage import AreaCoverage, total
from orrery.glossary.entries import Term, written
from orrery.glossary.exhibit import Exhibit
from orrery.glossary.explain import Explanation
from orrery.glossary.latex_layout import display
from orrery.glossary.latex_line import to_text
from orrery.glossary.svg import cell

COLOURS = ("blue", "red", "green", "yellow", "magenta", "cyan", "bright_red", "white")
_DISPLAY = re.compile(r"\$\$(.+?)\$\$", re.DOTALL)
_INLINE = re.compile(r"\$([^$]+?)\$")
_CODE = re.compile(r"(`[^`]*`)")


def explanation(said: Explanation) -> RenderableType:
    """The page of one term."""
    title = Text.assemble((said.term, "bold"), ("  " + said.area, "dim"))
    parts: list[RenderableType] = []
    if said.note:
        parts.append(Text(f"({said.note})", style="dim"))
    parts.append(title)
    if said.aliases:
        parts.append(Text("also: " + ", ".join(said.aliases), style="dim"))
    if not said.written:
        parts.append(Text("\nThis term is known, and its entry is not written yet."))
    else:
        parts += ["", *body(said.body)]
    facts = Table.grid(padding=(0, 2))
    facts.add_column(style="bold cyan", no_wrap=True)
    facts.add_column(overflow="fold")
    for i, place in enumerate(said.code):
        facts.add_row(
            "code" if i == 0 else "",
            Text.assemble(f"{place.file}:{place.line}", (f"  {_name(place.symbol)}", "dim")),
        )
    if said.why_no_code:
        facts.add_row("code", said.why_no_code)
    for exhibit in said.exhibits:
        facts.add_row("exhibit", f"{exhibit.name}: {exhibit.summary}  (--run shows it)")
    if said.related:
        names = [Text(r.slug, style="" if r.written else "dim") for r in said.related]
        facts.add_row("related" if said.written else "written", Text(", ").join(names))
    if said.source:
        facts.add_row("source", said.source)
    return Group(*parts, "", facts)


def _name(symbol: str) -> str:
    return symbol.partition(":")[2] or symbol


def body(markdown: str) -> list[RenderableType]:
    """Markdown with LaTeX: sentences keep their formulas on the line, `$$` formulas are drawn over several lines."""
    parts: list[RenderableType] = []
    for i, piece in enumerate(_DISPLAY.split(markdown)):
        if i % 2:
            parts.append(Padding(Text(display(piece), no_wrap=True, style="bold"), (1, 0, 1, 4)))
        elif piece.strip():
            parts.append(Markdown(plain(piece).strip()))
    return parts


def plain(markdown: str) -> str:
    """Inline formulas as Unicode, with Markdown's own signs in them escaped; code spans are left as they are."""
    pieces = _CODE.split(markdown)
    for i in range(0, len(pieces), 2):
        pieces[i] = _INLINE.sub(lambda m: re.sub(r"([\\`*_{}\[\]<>#|~])", r"\\\1", to_text(m[1])), pieces[i])
    return "".join(pieces)


def formulas(markdown: str) -> list[tuple[str, bool]]:
    """Every formula of a body as (LaTeX, whether it stands on lines of its own)."""
    out = [(m[1], True) for m in _DISPLAY.finditer(markdown)]
    for piece in _CODE.split(_DISPLAY.sub("", markdown))[::2]:
        out += [(m[1], False) for m in _INLINE.finditer(piece)]
    return out


def exhibit(result: Exhibit) -> RenderableType:
    """Title, curves, grids, table and what they show."""
    parts: list[RenderableType] = [Text(result.title, style="bold"), ""]
    if result.series:
        parts += [_curves(result), ""]
    for grid in result.grids:
        parts += [Text(grid.title), Text("\n".join(shades(grid)), no_wrap=True), ""]
    if result.rows:
        parts += [_table(result.columns, result.rows), ""]
    return Group(*parts, Text(result.reads))


def _curves(result: Exhibit) -> Text:
    text = Text(no_wrap=True)
    for i, pieces in enumerate(plot(result)):
        text.append("\n" if i else "")
        for piece, n in pieces:
            text.append(piece, None if n is None else COLOURS[n % len(COLOURS)])
    return text


def _table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for i, name in enumerate(columns):
        numbers = all(isinstance(row[i], int | float) for row in rows)
        table.add_column(Text(str(name)), justify="right" if numbers else "left")
    for row in rows:
        table.add_row(*(Text(cell(value)) for value in row))
    return table


def terms(listed: list[Term]) -> RenderableType:
    """Terms by area; those without an entry are dim."""
    there = set(written())
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for name in ("slug", "term", "area", "kind"):
        table.add_column(name)
    for term in listed:
        style = "" if term.slug in there else "dim"
        table.add_row(Text(term.slug), Text(term.term), term.area, term.kind, style=style)
    count = sum(term.slug in there for term in listed)
    return Group(table, "", f"{count} of {len(listed)} terms have an entry (the others are dim).")


def coverage(rows: list[AreaCoverage]) -> RenderableType:
    """Written of known terms per area, as a bar."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("area")
    for name in ("written", "terms", "exhibits"):
        table.add_column(name, justify="right")
    table.add_column("")
    for row in [*rows, total(rows)]:
        filled = round(20 * row.written / row.total)
        bar = Text("█" * filled + "░" * (20 - filled), style="green" if row.written else "dim")
        table.add_row(
            row.area,
            str(row.written),
            str(row.total),
            str(row.exhibits),
            bar,
            style="bold" if row.area == "all" else "",
        )
    return table
