"""Cleaning a document, or dropping it for a reason that has a name and is counted.

Cleaning mends what carries no meaning: newlines become "\\n", control characters go, composed characters get one
spelling (Unicode NFC). The rules that drop are few (after Rae et al. 2021, the Gopher paper, appendix A.1): nothing left,
too short, too many of its characters in repeated lines, or so repetitive that it shrinks to almost nothing.
"""

from __future__ import annotations

import re
import unicodedata
import zlib
from dataclasses import dataclass
from typing import Literal

from orrery.kit.config import config

Reason = Literal["empty", "short", "repeated lines", "repetitive"]
SAMPLE = 1 << 12

# C0 controls but tab, newline and form feed (which old source files use to part sections), and DEL.
_CONTROL = bytes(set(range(32)) - {9, 10, 12}) + b"\x7f"
# C1 controls and the byte-order mark; their first bytes in UTF-8 are looked for before this slower search.
_CONTROL_WIDE = re.compile("[\x80-\x9f\ufeff]")


@config
class CleanConfig:
    """What is mended and what is dropped.

    Attributes:
        nfc: compose characters (Unicode NFC).
        min_chars: a document of fewer characters (without outer space) is dropped.
        max_repeated_lines: dropped when more than this part of its characters stands in lines seen before; 1 is off.
        max_compression: dropped when its first 4 KiB shrink by more than this factor (deflate); 0 is off.
    """

    nfc: bool = True
    min_chars: int = 1
    max_repeated_lines: float = 0.6
    max_compression: float = 20.0


@dataclass(frozen=True, slots=True)
class Cleaned:
    """Mended text, the same in UTF-8, the bytes it had before, and why it is dropped (None: it is kept)."""

    text: str
    data: bytes
    bytes_before: int
    reason: Reason | None


def clean(text: str, config: CleanConfig) -> Cleaned:
    """Mend a text and judge it."""
    try:
        data = text.encode()
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can spell but UTF-8 cannot
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        data = text.encode()
    bytes_before = len(data)
    text = _mend(text, data, nfc=config.nfc)
    data = text.encode()
    return Cleaned(text, data, bytes_before, _judge(text, data, config))


def _mend(text: str, data: bytes, *, nfc: bool) -> str:
    if b"\r" in data:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        data = text.encode()
    plain = data.translate(None, _CONTROL)
    if len(plain) != len(data):
        text = plain.decode()
    if b"\xc2" in plain or b"\xef\xbb\xbf" in plain:
        text = _CONTROL_WIDE.sub("", text)
    if nfc and not unicodedata.is_normalized("NFC", text):
        text = unicodedata.normalize("NFC", text)
    return text


def _judge(text: str, data: bytes, config: CleanConfig) -> Reason | None:
    size = len(text.strip())
    if size == 0:
        return "empty"
    if size < config.min_chars:
        return "short"
    if repeated_lines(text) > config.max_repeated_lines:
        return "repeated lines"
    sample = data[:SAMPLE]
    if config.max_compression and len(sample) > config.max_compression * len(zlib.compress(sample, 1)):
        return "repetitive"
    return None


def repeated_lines(text: str) -> float:
    """The part of a text's characters (newlines aside) that stands in lines which stood there before."""
    lines = text.split("\n")
    total = len(text) - len(lines) + 1
    return 1 - sum(map(len, set(lines))) / total if total else 0.0
