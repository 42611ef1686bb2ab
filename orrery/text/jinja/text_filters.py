"""Jinja's filters of strings and numbers; each takes (rendering, value, arguments...)."""

from __future__ import annotations

import math
import re
import textwrap
from typing import Any
from urllib.parse import quote

from orrery.kit.errors import OrreryError
from orrery.text.jinja import format as formats
from orrery.text.jinja import strings
from orrery.text.jinja.marked import Text, concat, cut, like
from orrery.text.jinja.values import Undefined

_HTML = {"&": "&amp;", ">": "&gt;", "<": "&lt;", "'": "&#39;", '"': "&#34;"}


def escape(run: Any, value: Any) -> Text:
    """HTML escapes; text that is `safe` stays."""
    text = run.show(value)
    if isinstance(text, Text) and text.safe:
        return text
    run.budget.grow(6 * len(text))
    parts = [like(cut(text, slice(i, i + 1)), _HTML.get(char, char)) for i, char in enumerate(text)]
    return safe(run, concat(parts, run.mark))


def safe(run: Any, value: Any) -> Text:
    """Mark as HTML already: what is added to it with `+` will be escaped."""
    text = run.show(value)
    return Text(text, text.marks if isinstance(text, Text) else run.mark * len(text), True)


def trim(run: Any, value: Any, chars: str | None = None) -> str:
    """Without the characters (whitespace) at both ends."""
    return strings.strip(run, run.show(value), chars)


def replace(run: Any, value: Any, old: Any, new: Any, count: int | None = None) -> str:
    """Each `old` replaced by `new`, at most `count` times."""
    shown = run.show(value), run.show(old), run.show(new)
    return strings.replace(run, *shown, -1 if count is None else count)


def title(run: Any, value: Any) -> str:
    """Words with a capital first letter."""
    text = run.show(value)
    run.budget.grow(len(text))
    words = re.split(r"([-\s({\[<]+)", text)
    return like(text, "".join(word[0].upper() + word[1:].lower() for word in words if word))


def indent(run: Any, text: str, width: int | str = 4, first: bool = False, blank: bool = False) -> str:
    """Lines after the first moved in."""
    step = width if isinstance(width, str) else " " * run.small(width)
    run.budget.grow((text.count("\n") + 2) * len(step) + len(text))
    lines = strings.splitlines(run, concat([text, "\n"], run.mark))
    kept = [lines[0]]
    for line in lines[1:]:
        kept += ["\n", step, line] if line or blank else ["\n", line]
    return concat([step, *kept] if first else kept, run.mark)


def truncate(
    run: Any, text: str, length: int = 255, killwords: bool = False, end: str = "...", leeway: int = 5
) -> str:
    """The beginning, with `end` where something was left out."""
    if length < len(end):
        raise ValueError(f"truncate cannot make a text shorter than its end {end!r}")
    if len(text) <= length + leeway:
        return text
    kept = cut(text, slice(0, length - len(end)))
    return concat([kept if killwords else strings.rsplit(run, kept, " ", 1)[0], end], run.mark)


def wordwrap(
    run: Any,
    text: str,
    width: int = 79,
    break_long_words: bool = True,
    wrapstring: str = "\n",
    break_on_hyphens: bool = True,
) -> str:
    """Lines of at most `width` characters."""
    if len(text) > 20_000:  # the library's time grows with the square of a word's length
        raise OrreryError(
            "the chat template wraps the lines of a text of more than 20,000 characters; do not use it"
        )
    run.budget.grow(len(text) * (1 + len(wrapstring)))
    wrap = textwrap.TextWrapper(
        width, expand_tabs=False, replace_whitespace=False, break_long_words=break_long_words,
        break_on_hyphens=break_on_hyphens,
    )  # fmt: skip
    lines = [wrapstring.join(wrap.wrap(str(line))) for line in str.splitlines(text)]
    return like(text, wrapstring.join(lines))


def wordcount(run: Any, value: Any) -> int:
    """How many words."""
    return len(re.findall(r"\w+", run.show(value)))


def urlencode(run: Any, value: Any) -> str:
    """Escaped for a URL."""
    text = run.show(value)
    run.budget.grow(12 * len(text))
    return like(text, quote(str(text).encode(), safe="/"))


def percent(run: Any, value: Any, *args: Any, **kwargs: Any) -> str:
    """`"%s"|format(x)`."""
    if args and kwargs:
        raise TypeError("give the filter format either positions or names")
    return formats.percent(run, run.show(value), kwargs or args)


# --- numbers


def whole(run: Any, value: Any, default: Any = 0, base: int = 10) -> Any:
    """A whole number, or the default."""
    if isinstance(value, Undefined):
        raise value.fail()
    try:
        return int(str(value), base) if isinstance(value, str) else int(value)
    except (TypeError, ValueError):
        try:
            return int(float(value))
        except (TypeError, ValueError, OverflowError):
            return default


def real(run: Any, value: Any, default: Any = 0.0) -> Any:
    """A number, or the default."""
    if isinstance(value, Undefined):
        raise value.fail()
    try:
        return float(value)
    except (TypeError, ValueError):
        return default


def rounded(run: Any, value: Any, precision: int = 0, method: str = "common") -> Any:
    """Rounded to so many digits, in one of three ways."""
    precision = run.small(precision)
    if method == "common":
        return round(value, precision)
    scale = 10**precision
    return {"ceil": math.ceil, "floor": math.floor}[method](value * scale) / scale
