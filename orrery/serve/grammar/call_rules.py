"""The EBNF rules of an answer with tool calls, made from a format's syntax and the tools' schemas.

The lexer takes the longest text that any rule allows, so free text would swallow a mark; a rule marked lazy ends at the first place it
can, and wins.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from orrery.serve.grammar.source import json_rule
from orrery.serve.grammar.syntax import ID, CallSyntax, Reasoning, Tagged
from orrery.text.chat import ChatFormat
from orrery.text.template_ids import pattern

_BLANK = r"/[ \n]{0,4}/"
_RAW_UNLESS = {"enum", "const", "pattern", "format", "minLength", "maxLength"}


def is_raw(schema: Any) -> bool:
    """Whether a tagged argument is any text, written as it is."""
    return isinstance(schema, Mapping) and schema.get("type") == "string" and not _RAW_UNLESS & schema.keys()


class CallRules:
    """Rules of one EBNF source, as they come to be needed."""

    def __init__(self, chat: ChatFormat) -> None:
        self._special = chat.tokenizer.special
        self._stops = {*chat.stop_ids}
        self._names = pattern([*self._special])
        self._lines = ["TEXT: /(.|\\n)+/"]

    def behind_reasoning(self, term: str, marks: Reasoning, *, in_reasoning: bool) -> str:
        """The source of an answer that is one term, as its last line."""
        answer = self._rule("answer", f"{self._literal(marks.answer)} {_BLANK} {term}".strip())
        return self.answer(answer, None, marks, in_reasoning=in_reasoning)

    def answer(self, calls: str, free: str | None, marks: Reasoning | None, *, in_reasoning: bool) -> str:
        """The source: reasoning if any, then what is wanted."""
        body = calls if free is None else f"({free} | {calls})"
        if marks is not None and in_reasoning:
            body = f"{self._until(marks.closing)} {body}" + ("" if free is None else " | TEXT?")
        elif marks is not None:
            opening = self._literal(marks.opening, lazy=True)  # or else free text would swallow it
            body = f"({opening} {self._until(marks.closing)})? {body}"
        return "\n".join([f"start: {body}", *self._lines])

    def free(self, syntax: CallSyntax, marks: Reasoning | None) -> str:
        """Any text and special tokens, but not those that open a call or reasoning."""
        opening = {self._special.get(mark, -1) for mark in (syntax.mark, marks.opening if marks else "")}
        others = sorted({*self._special.values()} - self._stops - opening)
        return f"(TEXT | <[{','.join(map(str, others))}]>)*" if others else "TEXT?"

    def opening(self, syntax: CallSyntax, free: str | None) -> str:
        """The way to the first call's name: behind free text where the format's mark may open calls anywhere, else at the start."""
        if free is None:
            return f"{_BLANK} {self._literal(syntax.head)}"
        if not syntax.mark:
            return self._rule("head[lazy]", f"{_BLANK} {_quoted(syntax.head)}")
        return f"{free} {self._until(syntax.mark)} {self._literal(syntax.head[len(syntax.mark) :])}"

    def calls(self, syntax: CallSyntax, functions: Mapping[str, dict[str, Any]], *, several: bool) -> str:
        """From the first call's name to the end."""
        one = self._rule(
            "call", " | ".join(self._call(syntax, name, schema) for name, schema in functions.items())
        )
        more = f"({self._literal(syntax.between)} {one})*" if several and syntax.between else ""
        return f"{one} {more} {self._literal(syntax.tail)}"

    def _call(self, syntax: CallSyntax, name: str, schema: dict[str, Any]) -> str:
        lead = f"{self._literal(name + syntax.middle)}"
        if syntax.tagged is None:
            return f"{lead} {json_rule(schema)}"
        return f"{lead} {self._tagged(syntax.tagged, schema)}"

    def _tagged(self, tags: Tagged, schema: dict[str, Any]) -> str:
        shared = {key: schema[key] for key in ("$defs", "definitions") if key in schema}
        required = {*schema.get("required", ())}
        pairs = []
        for key, value in schema.get("properties", {}).items():
            pair = f"{self._literal(tags.opening + key + tags.inner)} {self._value(tags, value, shared)}"
            pairs.append(pair if key in required else f"({pair})?")
        return " ".join(pairs)

    def _value(self, tags: Tagged, schema: Any, shared: dict[str, Any]) -> str:
        if is_raw(schema):
            return self._until(tags.stop)
        options = schema.get("enum") if isinstance(schema, Mapping) else None
        if options and all(isinstance(option, str) for option in options) and schema.get("type") == "string":
            return f"({' | '.join(map(self._literal, options))}) {self._literal(tags.stop)}"
        whole = {**schema, **shared} if isinstance(schema, Mapping) else {}
        return f"{json_rule(whole)} {self._literal(tags.stop)}"

    def _until(self, text: str) -> str:
        """Any text up to and with this one, whose beginning may be a special token."""
        found = self._names.match(text)
        first = found[0] if found else self._names.split(text)[0]
        spelled = self._rule("until[lazy]", f"/(.|\\n)*/ {_quoted(first)}")
        if found:
            spelled = f"(TEXT? {self._literal(first)} | {spelled})"
        return f"{spelled} {self._literal(text[len(first) :])}"

    def _literal(self, text: str, *, lazy: bool = False) -> str:
        """A text as terms: special tokens by their ids, ids of calls as what they may be. lazy: it is met before any longer text."""
        terms, at = [], 0
        for match in self._names.finditer(text):
            terms += [self._spelled(text[at : match.start()], lazy), f"<[{self._special[match[0]]}]>"]
            at = match.end()
        return " ".join(term for term in [*terms, self._spelled(text[at:], lazy)] if term)

    def _spelled(self, text: str, lazy: bool) -> str:
        parts = [_quoted(part) for part in text.split(ID)] if text else []
        if lazy and parts:
            return self._rule("literal[lazy]", parts[0])
        return " /[a-zA-Z0-9]{9}/ ".join(parts)

    def _rule(self, name: str, body: str) -> str:
        base, _, lazy = name.partition("[")
        called = f"{base}_{len(self._lines)}"
        self._lines.append(f"{called}{'[' + lazy if lazy else ''}: {body}")
        return called


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
