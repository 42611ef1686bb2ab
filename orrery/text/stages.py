"""The stages of a tokenizer that somebody else described: none may blow a text up, hang, or name what is not there.

The stages are lists of small objects (Replace, Split, Prepend ...). Each is harmless or not by itself, but their effects
multiply: ten replacements that each double a letter make a thousand of it.
"""

from __future__ import annotations

import base64
import binascii
import re
import time
from collections.abc import Iterator
from itertools import permutations
from typing import Any, NoReturn

import tokenizers

from orrery.kit.errors import OrreryError
from orrery.text.patterns import PATTERNS, nested_repeat

Spec = dict[str, Any]

MAX_GROWTH = 8
"""A normaliser may make a text at most this many times longer."""
MAX_STAGES = 512
MAX_PATTERN = 20_000
MAX_TEMPLATE = 64
MAX_EXPANSION = 512
"""Bytes that the compiled table of a SentencePiece normaliser may put in the place of one character (NFKC needs 33)."""
BUDGET_S = 0.2
"""Processor time that a pattern may take on some hundred texts of a few dozen characters; usual ones take a tenth of it."""


def check_stages(spec: Spec, ids: set[int], where: str) -> None:
    """Normaliser growth, regular expressions, and the special tokens a template names.

    Args:
        ids: every token id of the tokenizer.

    Raises:
        OrreryError: names the stage and the rule.
    """
    count = 0
    for name in ("normalizer", "pre_tokenizer", "decoder", "post_processor"):
        stage = spec.get(name)
        if stage is not None and not isinstance(stage, dict):
            _refuse(where, f"'{name}' must be an object")
        growth = 1.0
        for node in nodes(stage):
            count += 1
            if count > MAX_STAGES * 8:
                _refuse(where, f"'{name}' has more than {MAX_STAGES} stages")
            if "pattern" in node:
                _check_pattern(node["pattern"], where)
            growth *= _growth(node, where)
            if growth > MAX_GROWTH:
                _refuse(where, f"'{name}' makes a text more than {MAX_GROWTH} times longer")
            if node.get("type") == "TemplateProcessing":
                _check_template(node, ids, where)


def nodes(value: Any) -> Iterator[Spec]:
    """Every JSON object inside `value`."""
    if isinstance(value, dict):
        yield value
        for child in value.values():
            yield from nodes(child)
    elif isinstance(value, list):
        for child in value:
            yield from nodes(child)


def _growth(node: Spec, where: str) -> float:
    """How many times longer a stage can make a text."""
    kind = node.get("type")
    if kind == "Precompiled":
        _check_charsmap(node.get("precompiled_charsmap"), where)
    if kind == "Prepend" and isinstance(added := node.get("prepend"), str) and len(added) > MAX_GROWTH:
        _refuse(where, f"a normaliser inserts {len(added)} characters at once (limit {MAX_GROWTH})")
    if kind != "Replace" or not isinstance(content := node.get("content"), str):
        return 1.0
    pattern = node.get("pattern")
    text = pattern.get("String") if isinstance(pattern, dict) else None
    matched = len(text) if isinstance(text, str) else 1  # an expression may match a single character, or none
    if matched == 0:
        _refuse(where, "a normaliser replaces nothing by something, everywhere")
    limit = MAX_GROWTH * matched
    if len(content) > limit:
        _refuse(where, f"a normaliser inserts {len(content)} characters at once (limit {limit})")
    return max(1.0, len(content) / matched)


def _check_charsmap(encoded: Any, where: str) -> None:
    """The table is the size of a trie, the trie, and replacements that each end in a NUL."""
    if encoded in (None, ""):
        return
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError, TypeError):
        _refuse(where, "the normaliser's table (precompiled_charsmap) is not base64")
    size = int.from_bytes(data[:4], "little")
    if len(data) < 4 or size > len(data) - 4 or size % 4:
        _refuse(where, "the normaliser's table (precompiled_charsmap) is cut short")
    longest = max(map(len, data[4 + size :].split(b"\0")))
    if longest > MAX_EXPANSION:
        _refuse(where, f"the normaliser's table puts {longest:,} bytes in the place of one character")


def _check_pattern(pattern: Any, where: str) -> None:
    if not isinstance(pattern, dict):
        return
    regex = pattern.get("Regex")
    if not isinstance(regex, str) or regex in PATTERNS.values():
        return
    shown = repr(regex[:80])
    if len(regex) > MAX_PATTERN:
        _refuse(where, f"the pattern {shown} has {len(regex):,} characters (limit {MAX_PATTERN:,})")
    counts = [int(digits[:9]) for digits in re.findall(r"\{(?:\d*,)?(\d+)", regex)]
    if max(counts, default=0) > 1000:
        _refuse(where, f"the pattern {shown} repeats something more than 1000 times")
    if nested_repeat(regex):
        _refuse(where, f"the pattern {shown} repeats a group that repeats itself and may never end")
    if takes_too_long(regex):
        _refuse(where, f"the pattern {shown} takes too long on short texts and may never end on others")


def takes_too_long(regex: str) -> bool:
    """Whether some text of a few dozen characters takes the pattern more than its budget; False for what is no pattern.

    Groups that are repeated may split a run of one character in exponentially many ways, `(a|aa)+$`, and a row of
    repeats in a power of its length, `a*a*a*b`. Such a pattern shows it on runs of the characters it names, and of pairs of them.
    """
    repeats = len(re.findall(r"[*+]|\{\d*,\d*\}", regex))
    if not re.search(r"\)[*+{?]", regex) and repeats < 3:
        return False
    try:
        cut = tokenizers.pre_tokenizers.Split(tokenizers.Regex(regex), "isolated")
    except Exception:  # it is no pattern: the library says so when it builds the tokenizer
        return False
    literals = list(dict.fromkeys(re.findall(r"[^\W_]|[^\w\s\\()\[\]{}*+?|^$]", regex)))[:64]
    named = list(dict.fromkeys(["a", "A", "0", " ", "\n", ".", "!", *literals]))
    grouped = re.search(r"\)[*+{]", regex)
    runs = named + ([a + b for a, b in permutations(literals[:6], 2)] if grouped else [])
    rest = "".join(named)  # a matcher looks first whether the characters it must have are there at all
    began = time.thread_time()
    for size in (
        *range(4, 40, 2),
        48,
        64,
        96,
        128,
    ):  # small steps: over the budget long before the library gives up
        for run in runs:
            for end in ("", "!", "\0" + rest):
                try:
                    cut.pre_tokenize_str((run * size)[:size] + end)
                except (KeyboardInterrupt, SystemExit, MemoryError):
                    raise
                except BaseException:  # the library gives up on a match with a panic
                    return True
                if time.thread_time() - began > BUDGET_S:
                    return True
    return False


def _check_template(node: Spec, ids: set[int], where: str) -> None:
    known = node.get("special_tokens") or {}
    if not isinstance(known, dict):
        _refuse(where, "the special tokens of its template must be an object")
    for name, entry in known.items():
        given = entry.get("ids") if isinstance(entry, dict) else None
        if not isinstance(given, list) or any(type(i) is not int or i not in ids for i in given):
            _refuse(where, f"its template gives the special token {name[:80]!r} an id that no token has")
        if len(given) > MAX_TEMPLATE:
            _refuse(where, f"its template makes {len(given):,} tokens of the special token {name[:80]!r}")
    for which in ("single", "pair"):
        items = node.get(which) or []
        if not isinstance(items, list) or len(items) > MAX_TEMPLATE:
            _refuse(where, f"its template '{which}' must be a list of at most {MAX_TEMPLATE} items")
        for item in items:
            special = item.get("SpecialToken") if isinstance(item, dict) else None
            name = special.get("id") if isinstance(special, dict) else None
            if name is not None and (not isinstance(name, str) or name not in known):
                _refuse(where, f"its template names the undefined special token {name!r}")


def _refuse(where: str, fault: str) -> NoReturn:
    raise OrreryError(f"'{where}' is damaged: {fault}")
