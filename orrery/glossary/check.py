"""What a glossary must never be: wrong about its own code. Every entry is checked; exhibits are run on request."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from orrery.glossary import exhibits
from orrery.glossary.entries import TERMS as FOLDER
from orrery.glossary.entries import Entry, index, parse_entry, written
from orrery.glossary.latex_layout import cells, display
from orrery.glossary.latex_line import to_text
from orrery.glossary.render import formulas
from orrery.glossary.symbols import locate, resolve
from orrery.kit.errors import OrreryError

MAX_WORDS = 160
MAX_COLUMNS = 76
CITES = re.compile(r"\b(1[6-9]\d\d|20\d\d)\b")


def check(*, run_exhibits: bool = False) -> list[str]:
    """Every fault of the glossary as a sentence; an empty list when there is none."""
    faults: list[str] = []
    for slug in written():
        try:
            entry = parse_entry(slug, (FOLDER / f"{slug}.md").read_text(encoding="utf-8"))
        except OrreryError as error:
            faults.append(str(error))
            continue
        faults += [f"{slug}: {fault}" for fault in check_entry(entry)]
    counts = Counter(exhibit.name for exhibit in exhibits.listed())
    faults += [f"{n} exhibits are named '{name}'" for name, n in counts.items() if n > 1]
    if run_exhibits:
        faults += [fault for name in exhibits.names() for fault in check_exhibit(name)]
    return faults


def check_entry(entry: Entry) -> Iterator[str]:
    """The faults of one entry, apart from running its exhibits."""
    known = index()
    if entry.slug not in known:
        yield "the file name is not a slug of the index"
    elif entry.area != known[entry.slug].area:
        yield f"area '{entry.area}' should be '{known[entry.slug].area}'"
    words = len(re.sub(r"\$\$.+?\$\$|\$[^$]+\$", " x ", entry.body, flags=re.DOTALL).split())
    if not 25 <= words <= MAX_WORDS:
        yield f"the body has {words} words; between 25 and {MAX_WORDS} are wanted"
    yield from _check_origin(entry)
    for slug in entry.related:
        if slug not in known or slug == entry.slug:
            yield f"related term '{slug}' is not another slug of the index"
    for name in entry.exhibits:
        if name not in exhibits.names():
            yield f"exhibit '{name}' does not exist"
    for symbol in entry.code:
        yield from _check_symbol(symbol)
    for latex, alone in formulas(entry.body):
        yield from _check_formula(latex, alone)


def _check_origin(entry: Entry) -> Iterator[str]:
    if not entry.related:
        yield "it names no related term"
    if entry.source and not CITES.search(entry.source):
        yield f"source '{entry.source}' has no year"
    if entry.kind not in ("", "concept"):
        yield f"kind '{entry.kind}' can only be 'concept' (or left out)"
    if (entry.kind == "concept") != bool(entry.why):
        yield "'kind: concept' and 'why:' (the reason in one line) go together"
    if not entry.source and entry.kind != "concept":
        yield "it has no source"
    if not (entry.code or entry.exhibits or entry.why):
        yield "it has neither code nor exhibit, so it must say 'kind: concept' and why"


def _check_symbol(symbol: str) -> Iterator[str]:
    try:
        resolve(symbol)
        locate(symbol)
    except OrreryError as error:
        yield str(error)


def _check_formula(latex: str, alone: bool) -> Iterator[str]:
    try:
        text = display(latex) if alone else to_text(latex)
    except OrreryError as error:
        yield str(error)
        return
    if not text.strip():
        yield f"the formula '{latex}' shows nothing"
    width = max(cells(line) for line in text.splitlines() or [""])
    if alone and width > MAX_COLUMNS:
        yield f"the formula '{latex.strip()}' is {width} columns wide; {MAX_COLUMNS} fit a terminal"


def check_exhibit(name: str) -> list[str]:
    """Run one exhibit and say what is wrong with its result."""
    result = exhibits.run(name)
    faults = []
    if result.empty() or not result.reads:
        faults.append(f"exhibit '{name}' has nothing to show, or does not say what it shows")
    for series in result.series:
        if len(series.x) != len(series.y) or len(series.x) < 2:
            faults.append(
                f"exhibit '{name}': the curve '{series.name}' has {len(series.x)} x for {len(series.y)} y"
            )
    for row in result.rows:
        if len(row) != len(result.columns):
            faults.append(
                f"exhibit '{name}': a row has {len(row)} cells under {len(result.columns)} headings"
            )
    return faults
