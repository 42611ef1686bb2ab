"""A formula on one line of Unicode, for use inside a sentence.

    to_text(r"\\hat{m}_t = \\frac{m_t}{1 - \\beta_1^t}")  ->  "m̂ₜ = mₜ/(1 − β₁ᵗ)"

Small letters where Unicode has them, else `_x` and `^(x + y)`; brackets wherever dropping the two dimensions of a
fraction or a root would change the meaning.
"""

from __future__ import annotations

import re
import unicodedata

from orrery.glossary.latex import Accent, Atom, Big, Fence, Frac, Node, Root, Row, Script, Table, parse
from orrery.glossary.latex_symbols import ACCENTS, SUBSCRIPTS, SUPERSCRIPTS


def to_text(source: str) -> str:
    """One line of Unicode that says the same as the LaTeX."""
    return line(parse(source)).strip()


def line(node: Node) -> str:
    """`node` on one line."""
    match node:
        case Atom(text=text):
            return text
        case Big(text=text):
            return text
        case Row(items=items):
            return join([(child, _factor(items, i)) for i, child in enumerate(items)])
        case Script(base=base, sub=sub, sup=sup):
            return line_base(base) + small(sub, SUBSCRIPTS, "_") + small(sup, SUPERSCRIPTS, "^")
        case Frac(top=top, bottom=bottom):
            return f"{grouped(top, '+−=<>≤≥ ')}/{grouped(bottom, None)}"
        case Root(body=body):
            return "√" + grouped(body, None)
        case Accent(body=body, mark=mark):
            return accented(line(body), mark)
        case Fence(left=left, body=body, right=right):
            return left + line(body) + right
        case Table(rows=rows, left=left, right=right):
            return (
                left
                + "; ".join("  ".join(line(cell).strip() for cell in row).strip() for row in rows)
                + right
            )


def _factor(items: tuple[Node, ...], i: int) -> str:
    """A fraction with a factor after it stands in brackets: (1/2)x is not 1/2x."""
    text, after = line(items[i]), items[i + 1] if i + 1 < len(items) else None
    ends = after is None or role_of(after) in ("op", "punct", "space") or line(after)[:1] in ")]}|‖"
    return text if ends or not isinstance(items[i], Frac) else f"({text})"


def line_base(base: Node) -> str:
    """A base that carries a script: a fraction or a sum under it needs brackets."""
    return f"({line(base)})" if isinstance(base, Frac | Root) else line(base)


def grouped(node: Node, separators: str | None) -> str:
    """`node` in brackets when it would be misread: it holds one of `separators`, or (None) more than one symbol."""
    text = line(node)
    single = isinstance(node, Atom | Script | Accent | Fence | Root) or (
        isinstance(node, Row) and len(node.items) < 2
    )
    if single and not (isinstance(node, Atom) and " " in text.strip()):
        return text
    if separators is not None and not any(c in text for c in separators):
        return text
    return f"({text})"


def small(node: Node | None, alphabet: dict[str, str], marker: str) -> str:
    """A script in raised or lowered letters where Unicode has them all, else `_x` or `^(x + y)`."""
    if node is None:
        return ""
    text = line(node).strip()
    tight = text.replace(" ", "")
    if all(c in alphabet for c in tight):
        return "".join(alphabet[c] for c in tight)
    return marker + (text if re.fullmatch(r"[<>≤≥]?\w+[′∗]?", text) else f"({text})")


def accented(text: str, mark: str) -> str:
    """A combining mark after every letter of a short name; a function call round anything longer."""
    if len(text) <= 3 and text.isalnum():
        return unicodedata.normalize("NFC", "".join(c + mark for c in text))
    names = {mark: name for name, mark in ACCENTS.items()}
    return f"{names[mark]}({text})"


def join(parts: list[tuple[Node, str]]) -> str:
    """Set a row: spaces round operators (not round a sign), after commas and names, and between words."""
    out = ""
    for i, (node, text) in enumerate(parts):
        role = role_of(node)
        before = role_of(parts[i - 1][0]) if i else "start"
        if role == "op":
            tight = before == "start" or (text in "−+" and before in ("op", "punct", "open"))
            out = out + text if tight else out.rstrip() + f" {text} "
        elif role == "punct":
            out = out.rstrip() + text + " "
        elif needs_space(out, before, node, text):
            out += " " + text
        else:
            out += text
    return out


def needs_space(out: str, before: str, node: Node, text: str) -> bool:
    """Whether a name or a word stands next to something it would run into."""
    if before == "op" or not out or out[-1] in " ([{‖|⌊⌈√" or not text or text[0] in " )]}⌉⌋,.|‖′":
        return False
    if isinstance(node, Frac) and before == "ord":
        return text[0] != "("
    if before in ("fn", "big"):
        return text[0] not in "(["
    if role_of(node) in ("fn", "big"):
        return True
    last, first = re.search(r"\w+$", out), re.match(r"\w+", text)
    return bool(last and first and (_is_word(last[0]) or _is_word(first[0])))


def _is_word(text: str) -> bool:
    return len(text) > 1 and text[:2].isalpha() and unicodedata.category(text[1]) in ("Ll", "Lu")


def role_of(node: Node) -> str:
    match node:
        case Atom(role=role, text=text):
            return "open" if role == "ord" and text in ("(", "[", "{", "|", "‖") else role
        case Big():
            return "big"
        case Script(base=base):
            return role_of(base) if role_of(base) in ("fn", "big") else "ord"
        case _:
            return "ord"
