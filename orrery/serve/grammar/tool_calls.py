"""The grammar of an answer that may or must call tools, in the words of the model's own chat format; and its calls read back.

    grammar = tool_grammar(chat, tools, "auto")      # GenerateRequest(grammar=...)
    read_answer(chat, completion.ids, tools)         # {"role": "assistant", "content": ..., "tool_calls": [...]}

    answer  = reasoning? (free text | free text? calls)       "auto"
    answer  = reasoning? calls                                "required", or one tool by name
    calls   = head call (between call)* tail                  each call's arguments by its tool's JSON schema

Free text turns into a call the moment the format's mark appears, as a token or spelled out; from there only a whole call fits.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from orrery.kit.errors import OrreryError
from orrery.kit.lm import Grammar
from orrery.serve.grammar.call_rules import CallRules, is_raw
from orrery.serve.grammar.constraint import Constraint
from orrery.serve.grammar.schema import NAME, GrammarLimits, check_strict, checked_schema
from orrery.serve.grammar.source import term_of
from orrery.serve.grammar.syntax import Tagged, call_syntax, reasoning_of
from orrery.text.chat import ChatFormat
from orrery.text.tool_schema import tool_schemas

MAX_TOOLS = 256


def tool_grammar(
    chat: ChatFormat,
    tools: Sequence[Any],
    tool_choice: str | Mapping[str, Any] = "auto",
    *,
    parallel: bool = True,
    in_reasoning: bool = False,
    limits: GrammarLimits | None = None,
) -> Grammar | None:
    """The grammar of an answer to a conversation with tools.

    Args:
        tools: JSON schemas of functions, or Python functions, as `ChatFormat.text` takes them.
        tool_choice: "none", "auto", "required", or {"type": "function", "function": {"name": ...}}.
        parallel: more than one call may be made, where the format can write them.
        in_reasoning: the prompt ends with the mark that opens reasoning (`syntax.in_reasoning`).

    Returns:
        None where the text is free: "none", no tools, or "auto" in a format whose calls cannot be read back.

    Raises:
        OrreryError: a malformed tool or choice, or a call is demanded of a format whose calls cannot be read back.
    """
    functions = tool_parameters(tools, limits)
    named = _chosen(tool_choice, functions)
    if tool_choice == "none" or not functions:
        return None
    syntax = call_syntax(chat)
    if syntax is None and tool_choice == "auto":
        return None
    if syntax is None:
        raise OrreryError(
            "this model's chat format has no tool calls that can be read back; leave tool_choice out"
        )
    rules = CallRules(chat)
    several = parallel and named is None and syntax.between is not None
    wanted = functions if named is None else {named: functions[named]}
    marks = reasoning_of(chat)
    free = rules.free(syntax, marks) if tool_choice == "auto" else None
    calls = f"{rules.opening(syntax, free)} {rules.calls(syntax, wanted, several=several)}"
    return Grammar(kind="lark", source=rules.answer(calls, free, marks, in_reasoning=in_reasoning))


def reasoned_grammar(
    chat: ChatFormat, grammar: Grammar, *, in_reasoning: bool = False, limits: GrammarLimits | None = None
) -> Grammar:
    """The grammar of an answer's content in a format that reasons first: reasoning is free, what follows it is held to `grammar`.

    A format without reasoning leaves the grammar as it is, and so does a lark grammar, which says itself what may stand where.

    Raises:
        OrreryError: as `Constraint.compile`, for the source.
    """
    marks, limits = reasoning_of(chat), limits or GrammarLimits()
    if marks is None or grammar.kind == "lark":
        return grammar
    tokenizer = chat.tokenizer
    # By itself first: behind free reasoning, a grammar that no text matches would be noticed only there.
    Constraint.compile(grammar, tokenizer, vocab=tokenizer.vocab_size, stop_ids=chat.stop_ids, limits=limits)
    rules = CallRules(chat)
    source = rules.behind_reasoning(term_of(grammar, limits), marks, in_reasoning=in_reasoning)
    return Grammar(kind="lark", source=source)


def read_answer(chat: ChatFormat, ids: Sequence[int], tools: Sequence[Any] = ()) -> dict[str, Any]:
    """The message that generated ids spell: `ChatFormat.parse`, with arguments as they were written where a format writes them without
    quotes and the tool's schema says that they are text ("5", "true")."""
    message = chat.parse(ids)
    syntax = call_syntax(chat) if message.get("tool_calls") else None
    if syntax is None or syntax.tagged is None:
        return message
    schemas = tool_parameters(tools)
    text = chat.tokenizer.decode(list(ids))
    if marks := reasoning_of(chat):
        text = text.rpartition(marks.closing)[2]
    at = 0
    for call in message["tool_calls"]:
        name, arguments = call["function"]["name"], call["function"]["arguments"]
        at = as_written(
            arguments, schemas.get(name, {}), text, text.find(name, at) + len(name), syntax.tagged
        )
    return message


def as_written(arguments: dict[str, Any], schema: Mapping[str, Any], text: str, at: int, tags: Tagged) -> int:
    """Put the written words into `arguments` wherever the schema says text and the parser took a number or the like; gives the place
    in `text` behind the last argument."""
    properties = schema.get("properties", {})
    for key, value in arguments.items():
        lead, stop = key + tags.inner.rstrip(), tags.stop.lstrip()
        start = text.find(lead, at)
        end = text.find(stop, start)
        if start < 0 or end < 0:
            return at
        if not isinstance(value, str) and is_raw(properties.get(key)):
            after, before = tags.inner[len(tags.inner.rstrip()) :], tags.stop[: len(tags.stop) - len(stop)]
            arguments[key] = text[start + len(lead) : end].removeprefix(after).removesuffix(before)
        at = end
    return at


def tool_parameters(tools: Sequence[Any], limits: GrammarLimits | None = None) -> dict[str, dict[str, Any]]:
    """{name: the schema of its parameters} of tools as the OpenAI API writes them, checked.

    Raises:
        OrreryError: too many, a name that is no name or given twice, or a schema that is refused.
    """
    if len(tools) > MAX_TOOLS:
        raise OrreryError(f"there are {len(tools):,} tools; at most {MAX_TOOLS} are taken")
    found: dict[str, dict[str, Any]] = {}
    for at, tool in enumerate(tool_schemas(list(tools)) or []):
        function = tool.get("function", tool)
        name = function.get("name") if isinstance(function, Mapping) else None
        if not isinstance(name, str) or not NAME.fullmatch(name) or name in found:
            raise OrreryError(
                f"tool {at} has no name of its own of 1 to 64 of the characters a-z, A-Z, 0-9, _ and -; got {str(name)[:80]!r}"
            )
        given = function.get("parameters")
        schema = {"type": "object", "properties": {}} if given is None else checked_schema(given, limits)
        if schema.setdefault("type", "object") != "object":
            raise OrreryError(f"the parameters of the tool '{name}' must be a JSON schema of type object")
        if function.get("strict"):
            check_strict(schema)
        found[name] = schema
    return found


def _chosen(tool_choice: str | Mapping[str, Any], functions: Collection[str]) -> str | None:
    """The one tool that is asked for by name."""
    if isinstance(tool_choice, Mapping):
        function = tool_choice.get("function", tool_choice)
        name = function.get("name") if isinstance(function, Mapping) else None
        if not isinstance(name, str) or name not in functions:
            raise OrreryError(f"tool_choice names {str(name)[:80]!r}, which is not one of the tools")
        return name
    if tool_choice not in ("none", "auto", "required"):
        raise OrreryError(
            f"tool_choice is 'none', 'auto', 'required' or names a function, not {tool_choice[:80]!r}"
        )
    if tool_choice == "required" and not functions:
        raise OrreryError("tool_choice is 'required', but there are no tools to choose from")
    return None
