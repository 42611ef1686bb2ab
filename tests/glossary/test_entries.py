from __future__ import annotations

import dataclasses

import pytest

from orrery.glossary import check as checks
from orrery.glossary.coverage import coverage, total
from orrery.glossary.entries import Entry, areas, index, load_entries, load_entry, parse_entry, written
from orrery.glossary.exhibits import names
from orrery.kit.errors import OrreryError

GOOD = """---
term: Momentum
aliases: [heavy ball]
area: optimization
related: [nesterov, sgd]
code: [orrery.train.optim.sgd:SGD]
exhibit: momentum-on-a-ravine
source: Polyak 1964
---
A velocity that collects gradients, so that steady directions add up and alternating ones cancel; the price is one number
a weight, and a system that can overshoot when the velocity remembers too much.

$$ v \\leftarrow \\mu v + g $$
"""


def good(**changes: object) -> Entry:
    return dataclasses.replace(parse_entry("momentum", GOOD), **changes)


def test_an_entry_is_read_field_by_field() -> None:
    entry = parse_entry("momentum", GOOD)
    assert (entry.term, entry.area, entry.source) == ("Momentum", "optimization", "Polyak 1964")
    assert entry.aliases == ("heavy ball",) and entry.related == ("nesterov", "sgd")
    assert entry.exhibits == ("momentum-on-a-ravine",) and entry.code == ("orrery.train.optim.sgd:SGD",)
    assert entry.body.startswith("A velocity") and entry.body.endswith("$$")
    assert list(checks.check_entry(entry)) == []


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("no front matter", "must start with front matter"),
        ("---\nterm: [x\n---\nbody", "not YAML"),
        ("---\nterm: x\n---\nbody", "'area:'"),
        ("---\nterm: x\narea: y\nsuorce: z\n---\nbody", "unknown key 'suorce'. Did you mean 'source'"),
    ],
)
def test_a_broken_entry_says_what_is_wrong(text: str, says: str) -> None:
    with pytest.raises(OrreryError, match=says):
        parse_entry("x", text)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"slug": "no-such-slug"}, "not a slug of the index"),
        ({"area": "decoding"}, "area 'decoding' should be 'optimization'"),
        ({"body": "too short"}, "2 words"),
        ({"body": "word " * 200}, "200 words"),
        ({"related": ()}, "no related term"),
        ({"related": ("momentum",)}, "not another slug"),
        ({"related": ("no-such-slug",)}, "not another slug"),
        ({"source": ""}, "no source"),
        ({"source": "somebody"}, "no year"),
        ({"code": (), "exhibits": ()}, "neither code nor exhibit"),
        ({"kind": "concept"}, "go together"),
        ({"kind": "component"}, "can only be 'concept'"),
        ({"exhibits": ("no-such-exhibit",)}, "does not exist"),
        ({"code": ("orrery.train.optim.sgd:Nothing",)}, "no 'Nothing'"),
        ({"code": ("orrery.train.optim.nothing",)}, "does not resolve"),
        ({"body": "word " * 30 + r"$\frac{a}$"}, "formula"),
        ({"body": "word " * 30 + "$$" + "x + " * 40 + "x$$"}, "columns wide"),
    ],
)
def test_the_check_finds_each_fault(changes: dict[str, object], says: str) -> None:
    faults = list(checks.check_entry(good(**changes)))
    assert any(says in fault for fault in faults), faults


def test_a_term_without_code_says_why() -> None:
    assert (
        list(
            checks.check_entry(
                good(code=(), exhibits=(), kind="concept", why="a name for a habit, not a mechanism")
            )
        )
        == []
    )


def test_the_glossary_has_no_fault() -> None:
    assert checks.check() == []


def test_the_index_has_every_term_once_with_its_columns() -> None:
    assert len(index()) == 767
    assert index()["kv-cache"].area == "inference"
    assert index()["gqa"].aliases == ("Grouped Query Attention (GQA)", "GQA")
    assert all(term.slug and term.term and term.kind for term in index().values())


def test_coverage_counts_every_term_as_written_or_missing() -> None:
    rows = coverage()
    assert tuple(row.area for row in rows) == areas()
    assert all(row.written + len(row.missing) == row.total for row in rows)
    everything = total(rows)
    assert everything.total == len(index()) and everything.written == len(written()) == len(load_entries())
    assert not set(everything.missing) & set(written())
    assert everything.exhibits == len({name for entry in load_entries() for name in entry.exhibits})


def test_every_exhibit_is_shown_by_some_entry() -> None:
    shown = {name for entry in load_entries() for name in entry.exhibits}
    assert set(names()) - shown == set()


def test_an_unwritten_slug_has_no_entry() -> None:
    assert load_entry("no-such-slug") is None
