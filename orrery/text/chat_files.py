"""Where a model folder keeps its chat templates and the ids that end an answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orrery.kit.errors import OrreryError
from orrery.kit.json import read_json
from orrery.kit.untrusted import read_regular

TEMPLATE_FILE, FOLDER = "chat_template.jinja", "additional_chat_templates"
MAX_BYTES = 1 << 20


def read_templates(folder: Path) -> dict[str, str]:
    """Templates by name; empty where there is none.

    chat_template.jinja is "default" and additional_chat_templates/NAME.jinja the others; without these, `chat_template` in
    tokenizer_config.json (or chat_template.json), one string or a list of {"name", "template"}.

    Raises:
        OrreryError: a file that is no text, or settings of another shape.
    """
    found = {}
    if (folder / TEMPLATE_FILE).exists():
        found["default"] = _read(folder / TEMPLATE_FILE)
    if (folder / FOLDER).is_dir():
        found |= {path.stem: _read(path) for path in sorted((folder / FOLDER).glob("*.jinja"))}
    if found:
        return found
    for name in ("tokenizer_config.json", "chat_template.json"):
        if (folder / name).exists():
            settings = _settings(folder / name)
            if settings.get("chat_template") is not None:
                return _named(settings["chat_template"], folder / name)
    return {}


def generation_stops(folder: Path, vocab_size: int) -> tuple[int, ...]:
    """The ids in generation_config.json's eos_token_id, one or a list.

    Raises:
        OrreryError: no ids, or ids the tokenizer does not have.
    """
    path = folder / "generation_config.json"
    stops = _settings(path).get("eos_token_id") if path.exists() else None
    ids = stops if isinstance(stops, list) else [] if stops is None else [stops]
    for i in ids:
        if type(i) is not int or i < 0:
            raise OrreryError(f"'{path}': eos_token_id is {stops!r}; it must be an id or a list of ids")
    return tuple(i for i in ids if i < vocab_size)


def _read(path: Path) -> str:
    """The text of a template, its line ends as they are."""
    data = bytes(read_regular(path, "a chat template", max_bytes=MAX_BYTES))
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise OrreryError(f"'{path}' is no UTF-8 text at byte {error.start}; copy the file again") from None


def _settings(path: Path) -> Mapping[str, Any]:
    value = read_json(path)
    if not isinstance(value, dict):
        raise OrreryError(f"'{path}' holds a {type(value).__name__}; it must be a JSON object")
    return value


def _named(value: Any, path: Path) -> dict[str, str]:
    if isinstance(value, str):
        return {"default": value}
    entries = [{"name": k, "template": v} for k, v in value.items()] if isinstance(value, dict) else value
    if isinstance(entries, list) and all(
        isinstance(entry, dict)
        and isinstance(entry.get("template"), str)
        and re.fullmatch(r"\w[\w-]{0,63}", str(entry.get("name")))  # it becomes a file name
        for entry in entries
    ):
        return {entry["name"]: entry["template"] for entry in entries}
    raise OrreryError(f"'{path}': chat_template must be a text, or a list of {{name, template}}")
