"""Everything `orrery explain TERM` shows, as data."""

from __future__ import annotations

from dataclasses import dataclass

from orrery.glossary import exhibits
from orrery.glossary.entries import Term, areas, index, load_entry, written
from orrery.glossary.find import find
from orrery.glossary.symbols import Location, locate
from orrery.kit.errors import OrreryError, suggest


@dataclass(frozen=True)
class Related:
    slug: str
    term: str
    written: bool


@dataclass(frozen=True)
class ExhibitName:
    name: str
    summary: str


@dataclass(frozen=True, kw_only=True)
class Explanation:
    """A term explained. `written` is False for a term of the index without an entry: then there is no `body`.

    `body` is Markdown with LaTeX between dollars. `note` says when the term was found under another spelling.
    """

    slug: str
    term: str
    area: str
    kind: str
    aliases: tuple[str, ...]
    written: bool
    body: str = ""
    code: tuple[Location, ...] = ()
    related: tuple[Related, ...] = ()
    exhibits: tuple[ExhibitName, ...] = ()
    source: str = ""
    why_no_code: str = ""
    note: str = ""


def explain(words: str) -> Explanation:
    """Look a term up by slug, name, alias or near spelling.

    Raises:
        OrreryError: no term is near; the message names candidates.
    """
    found = find(words)
    term = found.term
    entry = load_entry(term.slug)
    if entry is None:
        return Explanation(
            slug=term.slug, term=term.term, area=term.area, kind=term.kind, aliases=term.aliases, written=False,
            related=tuple(_related(slug) for slug in _neighbours(term)), note=found.note,
        )  # fmt: skip
    return Explanation(
        slug=term.slug,
        term=entry.term,
        area=term.area,
        kind=term.kind,
        aliases=tuple(dict.fromkeys((*entry.aliases, *term.aliases))),
        written=True,
        body=entry.body,
        code=tuple(locate(symbol) for symbol in entry.code),
        related=tuple(_related(slug) for slug in entry.related),
        exhibits=tuple(ExhibitName(name, exhibits.names()[name].summary) for name in entry.exhibits),
        source=entry.source,
        why_no_code=entry.why,
        note=found.note,
    )


def listing(area: str = "") -> list[Term]:
    """The terms of one area, or of all, by area and then by name.

    Raises:
        OrreryError: no such area.
    """
    if area and area not in areas():
        raise OrreryError(f"no area is called '{area}'.{suggest(area, areas())} Areas: {', '.join(areas())}")
    terms = [term for term in index().values() if area in ("", term.area)]
    return sorted(terms, key=lambda term: (term.area, term.slug))


def _related(slug: str) -> Related:
    return Related(slug, index()[slug].term, slug in written())


def _neighbours(term: Term) -> list[str]:
    """For a term that is not written: written terms of its area that share a word with it, else the first few."""
    words = set(term.slug.split("-"))
    near = [slug for slug in written() if index()[slug].area == term.area]
    return sorted(near, key=lambda slug: -len(words & set(slug.split("-"))))[:5]
