"""Recipes: YAML -> dotted overrides on the plain dict -> one validation into frozen dataclasses.

    @config
    class Train:
        lr: float = 3e-4

    load(Train, "recipe.yaml", ["lr=1e-3"])

Validation is pydantic's with `extra="forbid"`, so a misspelt key is an error that names the right one.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import json
import os
from pathlib import Path
from typing import Any, TypeVar, dataclass_transform, get_args, get_origin, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from orrery.kit.errors import OrreryError, suggest
from orrery.kit.yaml import YamlFault, parse_yaml, read_yaml_file

C = TypeVar("C")
MOST_FAULTS = 10


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(dataclasses.field,))
def config(cls: type[C]) -> type[C]:
    """Class decorator: a frozen keyword-only dataclass that refuses unknown keys when resolved."""
    made = dataclasses.dataclass(frozen=True, kw_only=True)(cls)
    made.__pydantic_config__ = ConfigDict(extra="forbid", arbitrary_types_allowed=True)  # type: ignore[attr-defined]
    return made


def resolve(schema: Any, data: Any, where: str = "the recipe") -> Any:
    """Validate a plain dict into `schema` (a @config class or a union of them).

    Raises:
        OrreryError: names every wrong key or value, with the nearest known key.
    """
    try:
        return _adapter(schema).validate_python(data)
    except ValidationError as error:
        faults = [_sentence(_explain(e, schema, data)) for e in error.errors()[:MOST_FAULTS]]
        more = error.error_count() - len(faults)
        raise OrreryError(f"{where}: " + "; ".join(faults) + (f"; and {more} more" if more else "")) from None


@functools.cache
def _adapter(schema: Any) -> TypeAdapter[Any]:
    """A validator of the schema; making one of a whole run costs a tenth of a second."""
    return TypeAdapter(schema)


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return get_type_hints(cls, include_extras=True)


def _sentence(text: str) -> str:
    """One line, however long or odd the values are that it tells of."""
    text = " ".join(text.split())
    return text if len(text) <= 400 else f"{text[:397]}..."


def load(schema: Any, path: str | Path, overrides: list[str] | None = None) -> Any:
    """Read a YAML file, apply `a.b=value` overrides, validate once."""
    return resolve(schema, override(read_yaml(path), overrides or []), where=str(path))


def read_yaml(path: str | Path) -> dict[str, Any]:
    """The mapping in a YAML file.

    Raises:
        OrreryError: no such file, not YAML within the limits of `kit.yaml`, or not a mapping.
    """
    path = Path(path)
    if not os.path.lexists(path):
        near = suggest(
            path.name, [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        )
        raise OrreryError(f"no recipe at '{path}'.{near}")
    data = read_yaml_file(path)
    if not isinstance(data, dict):
        raise OrreryError(f"'{path}' must hold a mapping of settings, not {type(data).__name__}")
    strange = next((key for key in data if not isinstance(key, str)), None)
    if strange is not None or None in data:
        raise OrreryError(f"'{path}': {strange!r} is no name of a setting; write it as a word")
    return data


def override(data: dict[str, Any], overrides: list[str]) -> dict[str, Any]:
    """Apply `dotted.key=yaml_value` strings to a copy of `data`; list items by index or by their `name`."""
    data = json.loads(json.dumps(data, default=str))
    for text in overrides:
        key, sign, value = text.partition("=")
        if not sign or not key:
            raise OrreryError(
                f"cannot read the setting '{text}'; write it as key=value, for example train.seed=1"
            )
        try:
            parsed = parse_yaml(value)
        except YamlFault:
            raise OrreryError(f"cannot read the value in '{text}'; quote it or write valid YAML") from None
        *parents, leaf = key.split(".")
        node: Any = data
        for part in parents:
            node = _child(node, part, text)
        if isinstance(node, list):
            node[_index(node, leaf, text)] = parsed
        else:
            node[leaf] = parsed
    return data


def _child(node: Any, part: str, text: str) -> Any:
    if isinstance(node, list):
        return node[_index(node, part, text)]
    child = node.get(part)
    if child is None:
        child = node[part] = {}
    if not isinstance(child, dict | list):
        raise OrreryError(f"in '{text}': '{part}' is a single value ({child!r}), it has no settings below it")
    return child


def _index(node: list[Any], part: str, text: str) -> int:
    if part.isdigit() and int(part) < len(node):
        return int(part)
    names = [item.get("name") or item.get("kind") for item in node if isinstance(item, dict)]
    if part in names:
        return names.index(part)
    raise OrreryError(
        f"in '{text}': no item '{part}' in this list of {names}.{suggest(part, map(str, names))}"
    )


_PLAIN = frozenset((str, int, float, bool, type(None)))


def to_dict(value: Any) -> Any:
    """Configs, paths and tuples as plain JSON-able values."""
    if type(value) in _PLAIN:  # a vocabulary has a million of them
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_dict(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {str(k): to_dict(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [to_dict(v) for v in value]
    return str(value) if isinstance(value, Path) else value


def digest(value: Any, length: int = 64, *, plain: bool = False) -> str:
    """SHA-256 (hex, first `length` digits) of the canonical JSON of a config or plain value.

    plain: it is JSON as it stands, of strings, numbers, lists and dictionaries; a vocabulary need not be copied then.
    """
    text = json.dumps(
        value if plain else to_dict(value), sort_keys=True, separators=(",", ":"), ensure_ascii=True
    )
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def _explain(error: Any, schema: Any, data: Any) -> str:
    location = [str(part) for part in error["loc"]]
    name = ".".join(_written(error["loc"], data)) or "the settings"
    if error["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
        return f"unknown setting '{name}'.{suggest(location[-1], _known(schema, location[:-1]))}"
    if error["type"] == "missing" or error["type"].startswith("missing_"):
        return f"the setting '{name}' is missing"
    if error["type"] == "union_tag_invalid":
        context = error["ctx"]
        options = [o.strip().strip("'") for o in str(context["expected_tags"]).split(",")]
        return f"'{name}' cannot be kind '{context['tag']}'; kinds: {', '.join(options)}.{suggest(context['tag'], options)}"
    if error["type"] == "union_tag_not_found":
        return f"'{name}' needs a 'kind'"
    message = error["msg"].removeprefix("Value error, ")
    return f"'{name}': {message[:1].lower()}{message[1:]} (got {error.get('input')!r})"


def _written(location: tuple[int | str, ...], data: Any) -> list[str]:
    """The location as the person wrote it: pydantic also lists the tag of a union, which is no key."""
    parts = []
    for i, part in enumerate(location):
        last = i == len(location) - 1
        if isinstance(data, dict) and part not in data and not last:
            continue
        parts.append(str(part))
        data = (
            data.get(part)
            if isinstance(data, dict)
            else data[part]
            if isinstance(data, list) and isinstance(part, int)
            else None
        )
    return parts


def _known(schema: Any, location: list[str]) -> list[str]:
    """Names of the fields at `location` inside `schema`, for suggestions."""
    frontier = [schema]
    for part in ["", *location]:
        found: list[Any] = []
        for item in frontier:
            for cls in _classes(item):
                hints = _hints(cls)
                if not part:
                    found.append(cls)
                elif part in hints:
                    found.append(hints[part])
                elif part == getattr(cls, "kind", None):
                    found.append(cls)
        frontier = found or frontier
    return sorted({name for item in frontier for cls in _classes(item) for name in _hints(cls)})


def _classes(hint: Any) -> list[type]:
    if dataclasses.is_dataclass(hint):
        return [hint] if isinstance(hint, type) else []  # a union's metadata can be a dataclass's instance
    return (
        [cls for arg in get_args(hint) for cls in _classes(arg)] if get_origin(hint) or get_args(hint) else []
    )
