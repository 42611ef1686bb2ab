"""response_format as a grammar."""

from __future__ import annotations

from typing import Any

from orrery.kit.lm import Grammar
from orrery.serve.grammar.schema import response_grammar
from orrery.serve.http.limits import check_schema
from orrery.serve.http.schema.common import (
    ChoiceFormat,
    JsonSchemaFormat,
    LarkFormat,
    RegexFormat,
)
from orrery.serve.http.settings import ServerSettings


def grammar_of(given: Any, settings: ServerSettings) -> Grammar | None:
    """What the text must match; None where it is free.

    Raises:
        ApiError: 400, larger than this server allows.
        OrreryError: a schema that cannot be held to.
    """
    match given:
        case None:
            return None
        case RegexFormat():
            return Grammar(kind="regex", source=check_schema(given.pattern, settings, "pattern"))
        case ChoiceFormat():
            return Grammar(kind="choice", source=check_schema(given.choices, settings, "choices"))
        case LarkFormat():
            return Grammar(kind="lark", source=check_schema(given.grammar, settings, "grammar"))
        case JsonSchemaFormat():
            check_schema(given.json_schema.schema_, settings, "schema")
    return response_grammar(given.model_dump(by_alias=True, exclude_none=True))
