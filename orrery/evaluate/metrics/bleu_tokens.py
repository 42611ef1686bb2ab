"""How BLEU cuts a text into words. A BLEU score means nothing without the name of its tokenisation.

    13a     the NIST script mteval-v13a: punctuation of ASCII apart, "." and "," kept within numbers
    intl    mteval-v14: every Unicode punctuation mark and symbol apart, except between digits
    zh      each Chinese character alone, the rest as 13a
    char    each character alone: for Japanese, Thai and others without spaces
    none    at white space

Post 2018, arXiv:1804.08771. Japanese by dictionary (MeCab) and the sentencepiece vocabularies of FLORES are not here.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from typing import Literal

from orrery.kit.errors import OrreryError, suggest

Tokenisation = Literal["13a", "intl", "zh", "char", "none"]

_ENTITIES = (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))
_WESTERN = [
    (re.compile(r"([!-&(-+:-@\[-`{-~/])"), r" \1 "),  # ASCII punctuation but ' , - .
    (re.compile(r"([^0-9])([.,])"), r"\1 \2 "),
    (re.compile(r"([.,])([^0-9])"), r" \1 \2"),
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),
]
# Blocks taken for Chinese by the reference script. It compares with five-digit code points written with four, so
# ideographs of the extension planes are missing and U+2001 to U+2A6D (dashes, curly quotes, arrows) are in: scores
# equal to published ones need the same.
_CHINESE = re.compile(
    "([\u2001-\u2a6d\u2e80-\u303f\u3100-\u312f\u31a0-\u31bf\u31c0-\u31ef\u3200-\u4db5\u4e00-\u9fbb"
    "\uf900-\ufa2d\ufa30-\ufa6a\ufa70-\ufad9\ufe10-\ufe1f\ufe30-\ufe4f\uff00-\uffef])"
)


def bleu_tokens(text: str, tokenisation: Tokenisation = "13a", *, lowercase: bool = False) -> list[str]:
    """The words of a text.

    Raises:
        OrreryError: an unknown tokenisation.
    """
    line = (text.lower() if lowercase else text).rstrip()
    if tokenisation not in _CUTTERS:
        raise OrreryError(
            f"there is no tokenisation '{tokenisation}'; use one of {', '.join(_CUTTERS)}.{suggest(tokenisation, _CUTTERS)}"
        )
    return _CUTTERS[tokenisation](line).split()


def _western(line: str) -> str:
    for pattern, spaced in _WESTERN:
        line = pattern.sub(spaced, line)
    return line


def _13a(line: str) -> str:
    line = line.replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    for entity, character in _ENTITIES:
        line = line.replace(entity, character)
    return _western(f" {line} ")


def _zh(line: str) -> str:
    return _western(_CHINESE.sub(r" \1 ", line.strip()))


def _intl(line: str) -> str:
    line = _spaced(line, r"[^N](P)", after=True)
    line = _spaced(line, r"(P)[^N]", after=False)
    return "".join(f" {c} " if unicodedata.category(c)[0] == "S" else c for c in line)


def _spaced(line: str, pattern: str, *, after: bool) -> str:
    """Space around every character in the group of `pattern`, a pattern over the letters of Unicode categories.

    A mark that follows something other than a number gets its spaces after that, one that precedes something other
    than a number before it: the two characters are consumed together, from the left.
    """
    kinds = "".join(unicodedata.category(c)[0] for c in line)
    pieces, done = [], 0
    for found in re.finditer(pattern, kinds):
        i = found.start(1)
        pieces += [line[done:i], " ", line[i], " "]
        done = i + 1
    return "".join([*pieces, line[done:]])


_CUTTERS: dict[str, Callable[[str], str]] = {
    "13a": _13a, "intl": _intl, "zh": _zh, "char": " ".join, "none": str,
}  # fmt: skip
