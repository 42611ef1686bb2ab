"""A display formula over several lines of a terminal: fractions stacked, limits above and below their sum.

print(display(r"p_i = \\frac{e^{z_i}}{\\sum_j e^{z_j}}"))

          zᵢ
         e
    pᵢ = ─────
            zⱼ
         ∑ e
         j
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from orrery.glossary.latex import Accent, Atom, Big, Fence, Frac, Node, Root, Row, Script, Table, parse
from orrery.glossary.latex_line import grouped, join, line, small
from orrery.glossary.latex_symbols import SUBSCRIPTS, SUPERSCRIPTS


@dataclass(frozen=True)
class Box:
    """Lines of equal width; `base` is the index of the line that stands on the row's baseline."""

    lines: tuple[str, ...]
    base: int = 0

    @property
    def width(self) -> int:
        return cells(self.lines[0])

    @property
    def below(self) -> int:
        return len(self.lines) - 1 - self.base


def cells(text: str) -> int:
    """Columns a terminal uses for `text` (combining marks use none)."""
    return sum(not unicodedata.combining(c) for c in text)


def display(source: str) -> str:
    """The formula as lines of text, without trailing blanks."""
    return "\n".join(text.rstrip() for text in layout(parse(source)).lines)


def layout(node: Node) -> Box:
    """The box of a tree."""
    match node:
        case Frac(top=top, bottom=bottom):
            over, under = layout(top), layout(bottom)
            width = max(over.width, under.width)
            return Box((*centred(over, width), "─" * width, *centred(under, width)), len(over.lines))
        case Script():
            return script(node)
        case Root(body=body):
            return root(layout(body), body)
        case Fence(left=left, body=body, right=right):
            return fenced(layout(body), left, right)
        case Table(rows=rows, left=left, right=right):
            return fenced(table([[layout(cell) for cell in row] for row in rows]), left, right)
        case Row(items=items):
            return row(items)
        case Accent() | Atom() | Big():
            return Box((line(node),))


def row(items: tuple[Node, ...]) -> Box:
    """Children side by side on one baseline, spaced as the one-line form spaces them."""
    boxes, spaced = [layout(item) for item in items], join([(item, _stand_in(item)) for item in items])
    if not items:
        return Box(("",))
    if all(len(box.lines) == 1 for box in boxes):
        return Box((line(Row(items)),))
    pieces, at = [], 0
    for item, box in zip(items, boxes, strict=True):
        text = _stand_in(item)
        start = spaced.index(text, at)
        pieces += [Box((spaced[at:start],)), box]
        at = start + len(text)
    return beside([*pieces, Box((spaced[at:],))])


def _stand_in(item: Node) -> str:
    """The text by which `row` finds where to put spaces; a tall box counts as one symbol that needs no brackets."""
    if len(layout(item).lines) == 1:
        return line(item)
    return item.left if isinstance(item, Fence) and item.left else "\u2588"


def beside(boxes: list[Box]) -> Box:
    above, below = max(box.base for box in boxes), max(box.below for box in boxes)
    columns = []
    for box in boxes:
        blank = (" " * box.width,)
        columns.append(blank * (above - box.base) + box.lines + blank * (below - box.below))
    return Box(tuple("".join(parts) for parts in zip(*columns, strict=True)), above)


def centred(box: Box, width: int) -> tuple[str, ...]:
    left = (width - box.width) // 2
    return tuple(" " * left + text + " " * (width - box.width - left) for text in box.lines)


def script(node: Script) -> Box:
    """Small Unicode letters where they exist; limits of a big operator above and below; else a line higher or lower."""
    if isinstance(node.base, Big):
        over, under = limit(node.sup), limit(node.sub)
        parts = [box for box in (over, Box((node.base.text,)), under) if box]
        width = max(box.width for box in parts)
        return Box(
            tuple(text for box in parts for text in centred(box, width)), len(over.lines) if over else 0
        )
    sub, sup = small(node.sub, SUBSCRIPTS, "_"), small(node.sup, SUPERSCRIPTS, "^")
    base = layout(node.base)
    low = layout(node.sub) if node.sub and sub.startswith("_(") else None
    high = layout(node.sup) if node.sup and sup.startswith("^") else None
    inline = attached(base, "" if low else sub, "" if high else sup)
    if low is None and high is None:
        return inline
    width = max(box.width for box in (low, high) if box)
    above = tuple(t.ljust(width + len(t) - cells(t)) for t in high.lines) if high else ()
    beneath = tuple(t.ljust(width + len(t) - cells(t)) for t in low.lines) if low else ()
    gap = (" " * width,)
    top, bottom = gap * (inline.base if high else 0), gap * (inline.below if low else 0)
    return beside([inline, Box(above + top + gap + bottom + beneath, len(above) + len(top))])


def limit(node: Node | None) -> Box | None:
    """What stands above or below a big operator, set without spaces."""
    return Box((line(node).replace(" ", ""),)) if node else None


def attached(base: Box, sub: str, sup: str) -> Box:
    """Small letters after a base: on its line, or at the top and the bottom of a tall one."""
    if len(base.lines) == 1:
        return Box((base.lines[0] + sub + sup,))
    width = max(cells(sub), cells(sup))
    blanks = (" " * width,) * (len(base.lines) - 2)
    return beside([base, Box((_pad(sup, width), *blanks, _pad(sub, width)), base.base)])


def root(box: Box, body: Node) -> Box:
    if len(box.lines) == 1:
        return Box(("√" + grouped(body, None),))
    bars = ("│",) * (len(box.lines) - 1)
    left = ("┌", *bars, "⎷")
    return Box(tuple(a + b for a, b in zip(left, ("─" * box.width, *box.lines), strict=True)), box.base + 1)


TALL = {
    "(": "⎛⎜⎝", ")": "⎞⎟⎠", "[": "⎡⎢⎣", "]": "⎤⎥⎦", "|": "│││", "‖": "‖‖‖", "{": "⎧⎨⎩", "}": "⎫⎬⎭",
    "⌊": "⎢⎢⎣", "⌋": "⎥⎥⎦", "⌈": "⎡⎢⎢", "⌉": "⎤⎥⎥",
}  # fmt: skip


def fenced(box: Box, left: str, right: str) -> Box:
    """Brackets as tall as what they hold."""
    sides = [Box(tall(mark, len(box.lines)), box.base) for mark in (left, right)]
    return beside([sides[0], box, sides[1]])


def tall(mark: str, height: int) -> tuple[str, ...]:
    if height == 1 or mark not in TALL:
        return (mark,) + (" " * len(mark),) * (height - 1)
    first, middle, last = TALL[mark]
    if mark in "{}" and height > 2:
        half = (height - 3) // 2
        return (first, *"⎪" * half, middle, *"⎪" * (height - 3 - half), last)
    return (first, *(middle,) * (height - 2), last)


def table(rows: list[list[Box]]) -> Box:
    """Cells in left-aligned columns, rows under one another."""
    widths = [max(r[i].width for r in rows if i < len(r)) for i in range(max(len(r) for r in rows))]
    lines: list[str] = []
    for cells_ in rows:
        padded = [
            Box(tuple(_pad(t, w) for t in c.lines), c.base) for c, w in zip(cells_, widths, strict=False)
        ]
        spread = [box for cell in padded for box in (cell, Box(("  ",)))]
        lines.extend(beside(spread[:-1]).lines)
    width = max(cells(text) for text in lines)
    return Box(tuple(_pad(text, width) for text in lines), (len(lines) - 1) // 2)


def _pad(text: str, width: int) -> str:
    return text + " " * (width - cells(text))
