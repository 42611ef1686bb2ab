"""Every kind of grammar as one: a source in llguidance's EBNF, within limits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from orrery.kit.errors import OrreryError
from orrery.kit.json import JsonFault, parse_json
from orrery.kit.lm import Grammar
from orrery.serve.grammar.schema import GrammarLimits, checked_schema

JSON_OPTIONS = {"whitespace_pattern": r"\n?[ \t]{0,40}", "lenient": False}
"""Room to write JSON on one line or indented, but not to write blanks without end, as small models do."""
HEADER = '%llguidance {"no_forcing": true}\n'
"""Every spelling of the text is allowed, not only the one the tokenizer would choose where a text is forced: the mask is exact, and
what is sampled is the model's own distribution given the grammar."""


def lark_source(grammar: Grammar, limits: GrammarLimits) -> str:
    """The grammar in the library's EBNF.

    Raises:
        OrreryError: the source is malformed or beyond the limits.
    """
    check_source(grammar, limits)
    if grammar.kind != "lark":
        return f"{HEADER}start: {term_of(grammar, limits)}"
    if "%llguidance" in grammar.source:
        raise OrreryError("the grammar has a %llguidance line, which is not taken here; leave it out")
    return HEADER + grammar.source


def term_of(grammar: Grammar, limits: GrammarLimits) -> str:
    """A grammar of any kind but lark as a term of a rule, at the end of the source: a list of choices brings a rule of its own."""
    from llguidance import regex_to_lark

    match grammar.kind:
        case "json_schema":
            return json_rule(checked_schema(grammar.source, limits))
        case "json_object":
            return json_rule({"type": "object"})
        case "regex":
            ascii_digits = "d"  # \d is 0 to 9: what other digits there are depends on the version of Unicode
            return f"/{regex_to_lark(grammar.source, ascii_digits)}/"
        case _:
            return f"CHOICE\nCHOICE: {' | '.join(map(json.dumps, _choices(grammar.source, limits)))}"


def check_source(grammar: Grammar, limits: GrammarLimits) -> None:
    """Refuse a source that is too long, before anything reads it.

    Raises:
        OrreryError: it is, or it is no text.
    """
    if len(grammar.source) > limits.source_bytes or len(_utf8(grammar.source)) > limits.source_bytes:
        raise OrreryError(
            f"the source of the {described(grammar)} is over {limits.source_bytes:,} bytes; make it smaller"
        )


def json_rule(schema: Mapping[str, Any]) -> str:
    """A checked schema as a term of an EBNF rule."""
    return "%json " + json.dumps(dict(schema) | {"x-guidance": JSON_OPTIONS}, ensure_ascii=False)


def _choices(source: str, limits: GrammarLimits) -> list[str]:
    try:
        choices = parse_json(source.encode(), max_depth=2, max_values=limits.source_bytes)
    except JsonFault as error:
        raise OrreryError(f"the choices are not JSON: {error}") from None
    if not isinstance(choices, list) or not choices or not all(isinstance(c, str) and c for c in choices):
        raise OrreryError('choices are a JSON list of texts that are not empty, for example ["yes", "no"]')
    if len(choices) > limits.values:
        raise OrreryError(f"there are {len(choices):,} choices; at most {limits.values:,} are taken")
    return choices


def described(grammar: Grammar) -> str:
    """What a grammar is called in messages."""
    names = {"json_schema": "JSON schema", "json_object": "JSON object", "regex": "regular expression", "choice": "list of choices"}  # fmt: skip
    return names.get(grammar.kind, "grammar")


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise OrreryError("the source of the grammar holds half a character (a lone surrogate)") from None
