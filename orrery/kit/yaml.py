"""YAML as plain data: maps, lists, strings, numbers, true/false and null, within limits.

Built from the parser's events, not by PyYAML's constructors, so that a tag can name nothing, an alias cannot multiply, a
key cannot be given twice, and depth costs no stack. Words are read as YAML 1.2's core schema reads them: `no`, `on` and
`2024-01-01` are strings, `3e-4` is a number. Source: yaml.org/spec/1.2.2, chapter 10.3.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from orrery.kit.errors import OrreryError
from orrery.kit.untrusted import read_regular

MAX_BYTES = 1 << 20
MAX_DEPTH = 64
MAX_NODES = 100_000
"""Values in a file, with what its aliases repeat."""
DIGITS = 64

_PARSER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the one in C where PyYAML was built with it
_TAG = "tag:yaml.org,2002:"
_NULL = {"", "~", "null", "Null", "NULL"}
_BOOL = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}
_INT = re.compile(r"[-+]?[0-9]+(_[0-9]+)*|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NO_NUMBER = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")


class YamlFault(OrreryError):
    """A text that is no YAML as wanted here; the message says why and at which line, without naming a file."""


def read_yaml_file(path: str | Path) -> Any:
    """The value in a YAML file.

    Raises:
        OrreryError: missing, not a regular file, too large, not UTF-8, or not YAML within the limits; names the file, the
            line and the rule.
    """
    data = read_regular(path, "a recipe", max_bytes=MAX_BYTES)
    try:
        return parse_yaml(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise OrreryError(f"'{path}' is not UTF-8 text (at byte {error.start}); save it as UTF-8") from None
    except YamlFault as error:
        raise OrreryError(f"'{path}' is not valid YAML: {error}") from None


def parse_yaml(text: str) -> Any:
    """The value of one YAML document; None when it is empty.

    Raises:
        YamlFault: it is no YAML, or uses what is not plain data (tags, NaN), or is beyond a limit.
    """
    try:
        return _Builder().build(yaml.parse(text, Loader=_PARSER))
    except yaml.YAMLError as error:
        raise YamlFault(
            " ".join(str(error).replace('in "<unicode string>", ', "at ").split())[:300]
        ) from None
    except (RecursionError, ValueError) as error:
        if isinstance(error, OrreryError):
            raise
        raise YamlFault(" ".join(str(error).split())[:300] or "nested too deep") from None


class _Open:
    """A list or map under way; `key` waits for its value."""

    __slots__ = ("anchor", "key", "line", "size", "value")

    def __init__(self, value: Any, anchor: str | None, line: int) -> None:
        self.value, self.anchor, self.line = value, anchor, line
        self.key: Any = _NO_KEY
        self.size = 1


_NO_KEY = object()


class _Builder:
    """Turns events into values. `anchors` maps a name to (value, nodes in it with all that its aliases repeat)."""

    def __init__(self) -> None:
        self.open: list[_Open] = []
        self.anchors: dict[str, tuple[Any, int]] = {}
        self.nodes = 0
        self.documents = 0
        self.result: Any = None

    def build(self, events: Iterator[Any]) -> Any:
        for event in events:
            line = event.start_mark.line + 1
            match event:
                case yaml.ScalarEvent():
                    self._add(_scalar(event, line), 1, event.anchor, line)
                case yaml.SequenceStartEvent() | yaml.MappingStartEvent():
                    is_list = isinstance(event, yaml.SequenceStartEvent)
                    self._begin([] if is_list else {}, event, line)
                case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                    ended = self.open.pop()
                    self._add(ended.value, ended.size, ended.anchor, ended.line)
                case yaml.AliasEvent():
                    if event.anchor not in self.anchors:
                        raise YamlFault(
                            f"line {line}: the alias *{event.anchor} names nothing that is complete before it"
                        )
                    value, size = self.anchors[event.anchor]
                    self._add(value, size, None, line)
                case yaml.DocumentStartEvent():
                    self.documents += 1
                    if self.documents > 1:
                        raise YamlFault(f"line {line}: a second document begins; keep one a file")
        return self.result

    def _begin(self, value: Any, event: Any, line: int) -> None:
        wanted = _TAG + ("seq" if isinstance(value, list) else "map")
        if event.tag not in (None, "!", wanted):
            raise YamlFault(f"line {line}: the tag {event.tag[:80]!r} is not plain data; remove it")
        if len(self.open) >= MAX_DEPTH:
            raise YamlFault(f"line {line}: nested more than {MAX_DEPTH} deep")
        self.open.append(_Open(value, event.anchor, line))

    def _add(self, value: Any, size: int, anchor: str | None, line: int) -> None:
        self.nodes += 1
        if size > MAX_NODES or self.nodes > MAX_NODES:
            raise YamlFault(
                f"line {line}: more than {MAX_NODES:,} values, those that aliases repeat counted each time"
            )
        if anchor is not None:
            self.anchors[anchor] = (value, size)
        if not self.open:
            self.result = value
            return
        top = self.open[-1]
        top.size += size
        if isinstance(top.value, list):
            top.value.append(value)
        elif top.key is _NO_KEY:
            top.key = self._key(value, top.value, line)
        else:
            top.value[top.key] = value
            top.key = _NO_KEY

    @staticmethod
    def _key(key: Any, taken: dict[Any, Any], line: int) -> Any:
        if isinstance(key, list | dict):
            raise YamlFault(f"line {line}: a list or map cannot be a key")
        if key in taken:
            raise YamlFault(f"line {line}: the key {str(key)[:80]!r} is given twice")
        return key


def _scalar(event: Any, line: int) -> Any:
    text, tag = event.value, event.tag
    if tag not in (None, "!", _TAG + "str"):
        kinds = {"int": int, "float": float, "bool": bool, "null": type(None)}
        kind = kinds.get(tag.removeprefix(_TAG))
        if kind is None:
            raise YamlFault(f"line {line}: the tag {tag[:80]!r} is not plain data; remove it")
        value = _plain(text, line)
        value = float(value) if kind is float and type(value) is int else value
        if type(value) is not kind:
            raise YamlFault(f"line {line}: {text[:80]!r} is no {tag.removeprefix(_TAG)}")
        return value
    return _plain(text, line) if event.implicit[0] and tag is None else text


def _plain(text: str, line: int) -> Any:
    """A word without quotes: null, a boolean, a number, or itself."""
    if text in _NULL:
        return None
    if text in _BOOL:
        return _BOOL[text]
    if _INT.fullmatch(text):
        if len(text) > DIGITS:
            raise YamlFault(f"line {line}: a whole number of {len(text):,} digits (limit {DIGITS})")
        return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
    if _FLOAT.fullmatch(text):
        value = float(text) if len(text) <= 1024 else math.inf
        if math.isinf(value):
            raise YamlFault(f"line {line}: the number {text[:40]} is beyond what a float holds")
        return value
    if _NO_NUMBER.fullmatch(text):
        raise YamlFault(f"line {line}: {text} is no number a setting can have; quote it if it is a word")
    return text
