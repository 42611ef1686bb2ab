r"""Pre-tokenizer patterns: how text is cut into stretches that no token may cross.

The names are those of the models that made them known. All but `gpt2` keep a word's leading space with the word, cut
numbers into at most three digits, and let line breaks close a run of punctuation.

    gpt2     GPT-2 (Radford et al. 2019)
    gpt4     GPT-4 (`cl100k`); Llama 3 uses the same pattern under the name `llama3`
    gpt4o    GPT-4o (`o200k`): also cuts where the case of letters changes
    digits   `gpt4` with every digit on its own (Qwen 2), which keeps place value visible to a model that calculates
"""

from __future__ import annotations

import re

from orrery.kit.errors import OrreryError, suggest

GPT2 = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_PUNCTUATION_AND_SPACE = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
GPT4 = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}|{_PUNCTUATION_AND_SPACE}"
DIGITS = rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}|{_PUNCTUATION_AND_SPACE}"
_UPPER, _LOWER = r"\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}", r"\p{Ll}\p{Lm}\p{Lo}\p{M}"
GPT4O = (
    rf"[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]*[{_LOWER}]+{_CONTRACTIONS}?"
    rf"|[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}]+[{_LOWER}]*{_CONTRACTIONS}?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
PATTERNS = {"gpt2": GPT2, "gpt4": GPT4, "llama3": GPT4, "gpt4o": GPT4O, "digits": DIGITS}

# The SentencePiece kinds write a space as `▁` before they cut. A word, a number or punctuation keeps the one in front of
# it; further spaces, and line breaks, stand alone. (SentencePiece cuts its training text likewise, by script and number.)
SPACE = "▁"  # U+2581
_LETTERS = r"\p{L}\p{M}"
SPACED_WORDS = (
    rf"{SPACE}?[{_LETTERS}]+|{SPACE}?\p{{N}}+|{SPACE}?[^{SPACE}\s\p{{N}}{_LETTERS}]+"
    rf"|{SPACE}+(?={SPACE}[^{SPACE}\s])|{SPACE}+|\s+"
)
SPACED_DIGITS = SPACED_WORDS.replace(rf"{SPACE}?\p{{N}}+", r"\p{N}")


def regex_of(pattern: str) -> str:
    """The regular expression behind a name of `PATTERNS`; anything else is taken as a regular expression itself.

    Raises:
        OrreryError: a word that is no known name, or an expression that can take exponential time.
    """
    if pattern in PATTERNS:
        return PATTERNS[pattern]
    if re.fullmatch(r"[\w-]+", pattern):
        raise OrreryError(
            f"no pattern is named '{pattern}'; names: {', '.join(PATTERNS)}.{suggest(pattern, PATTERNS)}"
        )
    if nested_repeat(pattern):
        raise OrreryError(
            f"the pattern {pattern!r} repeats a group that repeats itself and may never end; unnest it"
        )
    return pattern


_TOKEN = re.compile(
    r"(?P<skip>\\[pPxu]\{[^}]*\}|\\.|\[\^?\]?(?:\\.|\[:\w+:\]|[^\]\\])*\])"  # escapes and classes
    r"|(?P<open>\((?:\?(?:[a-zA-Z-]*:|<?[=!]|>|<\w+>))?)"
    r"|(?P<close>\))"
    r"|(?P<repeat>[*+]|\{\d+,\})(?P<possessive>\+?)",
    re.DOTALL,
)


def nested_repeat(pattern: str) -> bool:
    """Whether an unbounded repeat holds another one, as in `(a+)+`: the shape behind exponential matching."""
    groups = [False]  # for each open group: does it hold an unbounded repeat that can give back?
    closed = None  # the group that ended just before this point: (end position, what it held)
    for token in _TOKEN.finditer(pattern):
        if token["open"]:
            groups.append(False)
        elif token["close"] and len(groups) > 1:
            held = groups.pop()
            groups[-1] |= held
            closed = (token.end(), held)
        elif token["repeat"]:
            if closed and closed == (token.start(), True):
                return True
            groups[-1] |= not token["possessive"]
    return False
