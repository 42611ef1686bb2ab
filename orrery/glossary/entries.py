"""The terms of the field (index.tsv) and the entries written for them (terms/<slug>.md).

An entry is YAML front matter between two `---` lines, then Markdown with LaTeX between dollars; README.md in this
folder says how to write one.
"""

from __future__ import annotations

import csv
import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from orrery.kit.errors import OrreryError, suggest

ROOT = Path(__file__).parent
TERMS = ROOT / "terms"
FIELDS = frozenset(("term", "aliases", "area", "related", "code", "exhibit", "source", "kind", "why"))


@dataclass(frozen=True)
class Term:
    """A row of the index: a term of the field, whether or not its entry is written."""

    slug: str
    term: str
    area: str
    kind: str
    aliases: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A written entry. `code` are import paths `package.module:Name.attribute`; `exhibits` are names of exhibits.

    `kind` is "concept" for a term that has neither code nor exhibit, and then `why` says the reason in one line.
    """

    slug: str
    term: str
    area: str
    body: str
    aliases: tuple[str, ...] = ()
    related: tuple[str, ...] = ()
    code: tuple[str, ...] = ()
    exhibits: tuple[str, ...] = ()
    source: str = ""
    kind: str = ""
    why: str = ""


@functools.cache
def index() -> dict[str, Term]:
    """Every term of the field by slug."""
    with open(ROOT / "index.tsv", encoding="utf-8", newline="") as handle:
        rows = csv.DictReader(handle, delimiter="\t", quoting=csv.QUOTE_NONE)
        return {
            row["slug"]: Term(row["slug"], row["term"], row["area"], row["kind"], _split(row["aliases"]))
            for row in rows
        }


@functools.cache
def areas() -> tuple[str, ...]:
    """The areas in alphabetical order."""
    return tuple(sorted({term.area for term in index().values()}))


def written() -> tuple[str, ...]:
    """Slugs that have an entry file, in alphabetical order."""
    return tuple(sorted(path.stem for path in TERMS.glob("*.md")))


@functools.cache
def load_entry(slug: str) -> Entry | None:
    """The entry of a slug, or None when it is not written yet."""
    path = TERMS / f"{slug}.md"
    return parse_entry(slug, path.read_text(encoding="utf-8")) if path.is_file() else None


def load_entries() -> list[Entry]:
    """Every written entry in alphabetical order of slug."""
    return [entry for slug in written() if (entry := load_entry(slug))]


def parse_entry(slug: str, text: str) -> Entry:
    """Read one entry file.

    Raises:
        OrreryError: no front matter, YAML that does not parse, or a key the format does not have.
    """
    where = f"the entry '{slug}'"
    parts = text.split("---\n", 2)
    if len(parts) != 3 or parts[0].strip():
        raise OrreryError(f"{where} must start with front matter between two lines of ---")
    try:
        head: Any = yaml.load(parts[1], Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError as error:
        raise OrreryError(
            f"{where} has front matter that is not YAML: {' '.join(str(error).split())}"
        ) from None
    if not isinstance(head, dict) or not head.get("term") or not head.get("area"):
        raise OrreryError(f"{where} needs at least 'term:' and 'area:' in its front matter")
    for key in head:
        if key not in FIELDS:
            raise OrreryError(f"{where} has an unknown key '{key}'.{suggest(str(key), FIELDS)}")
    return Entry(
        slug=slug,
        term=str(head["term"]),
        area=str(head["area"]),
        body=parts[2].strip(),
        aliases=_strings(head.get("aliases")),
        related=_strings(head.get("related")),
        code=_strings(head.get("code")),
        exhibits=_strings(head.get("exhibit")),
        source=str(head.get("source") or ""),
        kind=str(head.get("kind") or ""),
        why=str(head.get("why") or ""),
    )


def _strings(value: Any) -> tuple[str, ...]:
    if value is None:
        return ()
    return tuple(str(item) for item in value) if isinstance(value, list) else (str(value),)


def _split(cell: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in cell.split(";") if part.strip())
