"""The LaTeX of the entries, read into a small tree.

Only the subset the entries use is read: letters, Greek, scripts, fractions, roots, accents, big operators with
limits, `\\left \\right`, `\\text`, `cases`, `aligned` and matrices. Anything else raises, so a formula that would be
shown wrongly fails the glossary check instead. `latex_line` writes the tree on one line, `latex_layout` over several.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from orrery.glossary.latex_symbols import ACCENTS, ALPHABETS, BIG, FUNCTIONS, OPERATORS, SPACES, SYMBOLS
from orrery.kit.errors import OrreryError


@dataclass(frozen=True)
class Atom:
    """A piece of text. role: "ord" a symbol, "op" spaced on both sides, "fn" a name such as log, "punct", "space"."""

    text: str
    role: str = "ord"


@dataclass(frozen=True)
class Row:
    items: tuple[Node, ...]


@dataclass(frozen=True)
class Script:
    base: Node
    sub: Node | None = None
    sup: Node | None = None


@dataclass(frozen=True)
class Frac:
    top: Node
    bottom: Node


@dataclass(frozen=True)
class Root:
    body: Node


@dataclass(frozen=True)
class Accent:
    body: Node
    mark: str


@dataclass(frozen=True)
class Big:
    """∑, ∏, max ... : scripts are drawn above and below in a display formula."""

    text: str


@dataclass(frozen=True)
class Fence:
    left: str
    body: Node
    right: str


@dataclass(frozen=True)
class Table:
    rows: tuple[tuple[Node, ...], ...]
    left: str = ""
    right: str = ""


Node = Atom | Row | Script | Frac | Root | Accent | Big | Fence | Table
_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|\s+|[0-9]+(?:\.[0-9]+)?|.", re.DOTALL)


def parse(source: str) -> Row:
    """The tree of a formula.

    Raises:
        OrreryError: a command or a bracket the converter does not know.
    """
    parser = _Parser(source)
    row = parser.row(())
    if parser.peek() is not None:
        raise parser.error(f"a stray '{parser.peek()}'")
    return row


@dataclass
class _Parser:
    source: str
    tokens: list[str] = field(init=False)
    at: int = 0

    def __post_init__(self) -> None:
        self.tokens = _TOKEN.findall(self.source)

    def error(self, what: str) -> OrreryError:
        return OrreryError(
            f"{what} in the formula '{self.source.strip()}'; the converter reads a small LaTeX subset"
        )

    def skip_spaces(self) -> None:
        while self.at < len(self.tokens) and self.tokens[self.at].isspace():
            self.at += 1

    def peek(self) -> str | None:
        self.skip_spaces()
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def take(self, expected: str | None = None) -> str:
        token = self.peek()
        if token is None or expected not in (None, token):
            raise self.error(f"expected {expected or 'something more'}, found {token or 'the end'}")
        self.at += 1
        return token

    def raw_group(self) -> str:
        """The characters of {...} as they stand (for \\text, where spaces count)."""
        self.take("{")
        start, depth = self.at, 1
        while depth:
            if self.at >= len(self.tokens):
                raise self.error("a missing }")
            depth += {"{": 1, "}": -1}.get(self.tokens[self.at], 0)
            self.at += 1
        return "".join(self.tokens[start : self.at - 1])

    def row(self, until: tuple[str, ...]) -> Row:
        items: list[Node] = []
        while (token := self.peek()) is not None and token not in until and token != "}":
            items.append(self.scripted())
        return Row(tuple(items))

    def argument(self) -> Node:
        """{...} or the single token that follows."""
        if self.peek() != "{":
            return self.atom()
        self.take()
        row = self.row(())
        self.take("}")
        return row.items[0] if len(row.items) == 1 else row

    def scripted(self) -> Node:
        base, sub, sup = self.atom(), None, None
        while (token := self.peek()) in ("_", "^", "'"):
            self.take()
            if token == "_":
                sub = self.argument()
            else:
                more = Atom("′") if token == "'" else self.argument()
                sup = more if sup is None else Row((sup, more))
        return base if sub is None and sup is None else Script(base, sub, sup)

    def atom(self) -> Node:
        token = self.take()
        if token == "{":
            row = self.row(())
            self.take("}")
            return row
        if not token.startswith("\\"):
            return _plain(token, self)
        return self.command(token[1:])

    def command(self, name: str) -> Node:
        if name in SYMBOLS:
            return Atom(SYMBOLS[name])
        if name in OPERATORS:
            return Atom(OPERATORS[name], "op")
        if name in FUNCTIONS:
            return Atom(name, "fn")
        if name in BIG:
            return Big(BIG[name])
        if name in SPACES:
            return Atom(SPACES[name], "space")
        if name in ACCENTS:
            return Accent(self.argument(), ACCENTS[name])
        if name in ALPHABETS:
            letters = self.raw_group()
            return Atom("".join(ALPHABETS[name].get(c, c) for c in letters))
        if name in ("text", "mathrm", "texttt", "mathtt"):
            return Atom(self.raw_group().replace("\\_", "_"), "fn" if name == "mathrm" else "ord")
        if name == "operatorname":
            return Atom(self.raw_group(), "fn")
        if name in ("mathbf", "boldsymbol"):
            return self.argument()
        if name in ("frac", "tfrac", "dfrac"):
            return Frac(self.argument(), self.argument())
        if name == "sqrt":
            return Root(self.argument())
        if name in ("underbrace", "overbrace"):
            return self.argument()
        if name == "left":
            return self.fence()
        if name == "begin":
            return self.table(self.raw_group())
        raise self.error(f"the unknown command \\{name}")

    def fence(self) -> Fence:
        left = self.delimiter()
        body = self.row(("\\right",))
        self.take("\\right")
        return Fence(left, body, self.delimiter())

    def delimiter(self) -> str:
        token = self.take()
        bare = token.lstrip("\\")
        known = {".": "", "{": "{", "}": "}", "|": "‖" if token == "\\|" else "|"}
        return known.get(bare) if bare in known else SYMBOLS.get(bare, bare)  # type: ignore[return-value]

    def table(self, kind: str) -> Table:
        shapes = {"cases": ("{", ""), "aligned": ("", ""), "bmatrix": ("[", "]"), "pmatrix": ("(", ")")}
        if kind not in shapes:
            raise self.error(f"the unknown environment {kind}")
        rows: list[tuple[Node, ...]] = []
        cells: list[Node] = []
        while True:
            cells.append(self.row(("&", "\\\\", "\\end")))
            token = self.take()
            if token != "&":
                rows.append(tuple(cells))
                cells = []
            if token == "\\end":
                self.raw_group()
                return Table(tuple(rows), *shapes[kind])


def _plain(token: str, parser: _Parser) -> Node:
    if token in ("&", "^", "_", "$", "#", "%"):
        raise parser.error(f"a stray '{token}'")
    if token in "+-=<>":
        return Atom({"-": "−"}.get(token, token), "op")
    if token in ",;":
        return Atom(token, "punct")
    return Atom({"*": "∗", "'": "′", "~": " "}.get(token, token), "space" if token == "~" else "ord")
