"""Strings that know where each of their characters comes from.

`Text` is a str with a second string of the same length, its marks: one character a character, so that slicing, joining and
repeating text and marks are the same operation. A mark says whose the character is:

    0         the template, outside any turn          1         from outside, but of no message: tools, documents, variables
    2k + 2    the template, in the turn of message k  2k + 3    from message k

Odd marks are words of others and are never read as control tokens; even ones are the template's own. FLAG is added to what a
{% generation %} block made. A plain str in the interpreter is text of the template that no turn has used yet.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

OWN, OUTSIDE = "\0", "\1"
FLAG = 1 << 19


def template_mark(turn: int) -> str:
    """The mark of what the template writes in a message's turn."""
    return chr(2 * turn + 2)


def message_mark(turn: int) -> str:
    """The mark of what a message says."""
    return chr(2 * turn + 3)


class Text(str):
    """A string with a mark for each character; `safe` is Jinja's flag of text that is HTML already."""

    __slots__ = ("marks", "safe")
    marks: str
    safe: bool

    def __new__(cls, value: str, marks: str, safe: bool = False) -> Text:
        made = super().__new__(cls, value)
        made.marks = marks
        made.safe = safe
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return Text, (str(self), self.marks, self.safe)


class MarkedDict(dict[Any, Any]):
    """A dict from outside: the mark of what it says, and the message it is (-1: only a part of one)."""

    __slots__ = ("mark", "turn")
    mark: str
    turn: int


class MarkedList(list[Any]):
    """A list from outside, with the mark of what it says."""

    __slots__ = ("mark",)
    mark: str


def marks_of(text: str, mark: str) -> str:
    """A string's marks; those of plain text are the mark of whoever uses it."""
    return text.marks if isinstance(text, Text) else mark * len(text)


def cut(text: str, part: slice) -> str:
    """A slice of text and marks."""
    if isinstance(text, Text):
        return Text(str.__getitem__(text, part), text.marks[part], text.safe)
    return text[part]


def like(text: str, value: str) -> str:
    """`value`, made from `text` as a whole: marked as coming from the same place."""
    if not isinstance(text, Text):
        return value
    if len(value) == len(text):
        return Text(value, text.marks, text.safe)
    return Text(value, main_mark(text) * len(value), text.safe)


def main_mark(text: Text) -> str:
    """One mark for all of it: the first from outside, if there is one."""
    return next((mark for mark in text.marks if ord(mark) & 1), text.marks[:1] or OWN)


def concat(parts: Iterable[str], mark: str) -> str:
    """Join strings; plain text among them is marked as of the turn it is used in."""
    parts = list(parts)
    if mark == OWN and not any(isinstance(part, Text) for part in parts):
        return "".join(parts)
    return Text("".join(parts), "".join([marks_of(part, mark) for part in parts]))


def flagged(text: str, mark: str) -> Text:
    """The text as made by a {% generation %} block."""
    marks = marks_of(text, mark)
    return Text(text, marks.translate({ord(m): ord(m) | FLAG for m in set(marks)}))


def take_in(value: Any, mark: str, turn: int = -1) -> Any:
    """A copy of a value from outside, of plain JSON types only, every string in it marked.

    Dataclasses and pydantic models become dicts; anything else that is no JSON value becomes a string that names its type.
    """
    if value is None or type(value) in (bool, int, float):
        return value
    if isinstance(value, str):
        value = "".join(value) if type(value) is not str else value
        return Text(value, mark * len(value))
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        return float.__float__(value)
    if is_dataclass(value) and not isinstance(value, type):
        value = {field.name: getattr(value, field.name) for field in fields(value)}
    elif not isinstance(value, Mapping) and callable(dump := getattr(value, "model_dump", None)):
        value = dump()
    if isinstance(value, Mapping):
        table = MarkedDict((take_in(key, mark), take_in(item, mark)) for key, item in value.items())
        table.mark, table.turn = mark, turn
        return table
    if isinstance(value, list | tuple):
        row = MarkedList(take_in(item, mark) for item in value)
        row.mark = mark
        return row
    if getattr(value, "shape", None) == () and callable(getattr(value, "item", None)):
        return take_in(value.item(), mark)  # a number of an array library
    name = f"<{type(value).__name__}>"
    return Text(name, mark * len(name))


def characters(value: Any) -> int:
    """How much was put in: characters of all strings, and one for every other value."""
    total, todo = 0, [value]
    while todo:
        item = todo.pop()
        if isinstance(item, str):
            total += len(item)
        elif isinstance(item, Mapping):
            todo += [*item.keys(), *item.values()]
        elif isinstance(item, Sequence):
            todo += item
        total += 1
    return total
