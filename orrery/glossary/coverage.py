"""How much of the field is explained: per area, terms written of terms known, and the exhibits they show."""

from __future__ import annotations

from dataclasses import dataclass

from orrery.glossary.entries import areas, index, load_entries


@dataclass(frozen=True, kw_only=True)
class AreaCoverage:
    """`exhibits` counts different exhibits named by the area's entries; `missing` are slugs without an entry."""

    area: str
    written: int
    total: int
    exhibits: int
    missing: tuple[str, ...]


def coverage() -> list[AreaCoverage]:
    """One row an area, in alphabetical order. Written and missing together are exactly the index."""
    entries = {entry.slug: entry for entry in load_entries()}
    rows = []
    for area in areas():
        slugs = [slug for slug, term in index().items() if term.area == area]
        there = [entries[slug] for slug in slugs if slug in entries]
        rows.append(
            AreaCoverage(
                area=area,
                written=len(there),
                total=len(slugs),
                exhibits=len({name for entry in there for name in entry.exhibits}),
                missing=tuple(slug for slug in slugs if slug not in entries),
            )
        )
    return rows


def total(rows: list[AreaCoverage]) -> AreaCoverage:
    """The sum over areas; an exhibit that entries of several areas share counts once."""
    return AreaCoverage(
        area="all",
        written=sum(row.written for row in rows),
        total=sum(row.total for row in rows),
        exhibits=len({name for entry in load_entries() for name in entry.exhibits}),
        missing=tuple(slug for row in rows for slug in row.missing),
    )
