"""Training or held out? Decided by each document's own hash and the seed, so never by its place in the input.

Two guarantees hold for any input: a document and its copies are on one side, and with two documents or more neither side is
empty. Input of few documents is first cut into parts, so that what is held out is near the part asked for.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import TypeVar

from orrery.data.cut import Document, cut
from orrery.data.manifest import Split
from orrery.kit.errors import OrreryError
from orrery.kit.seeds import uniform

T = TypeVar("T")
SHORTEST_PART = 256
"""characters below which a part is not worth holding out"""


def parts_of_few(documents: Iterable[Document], heldout: float) -> Iterator[Document]:
    """The documents as they are, or, when they are fewer than 1 / heldout, cut into about twice that many parts.

    One book alone could not be split, and holding out one book of three would take a third of the text.
    """
    stream = iter(documents)
    few = round(1 / heldout) if heldout else 0
    first = list(itertools.islice(stream, few))
    if len(first) < few:
        limit = max(SHORTEST_PART, sum(len(document.text) for document in first) // (2 * few))
        first = [part for document in first for part in cut(document, limit)]
    return itertools.chain(first, stream)


def split(items: Iterable[tuple[bytes, T]], heldout: float, *, seed: int) -> Iterator[tuple[Split, T]]:
    """(hash, item) pairs in; (side, item) pairs out, every item once.

    While all items so far fell on one side, the one nearest to the other side waits: should the other side stay empty to
    the end, it goes there.

    Raises:
        OrreryError: `heldout` is not in [0, 1).
    """
    if not 0 <= heldout < 1:
        raise OrreryError(f"the part held out must be at least 0 and below 1, not {heldout}")
    only: Split | None = None
    waiting: tuple[float, T] | None = None
    both, passed = heldout == 0, 0
    for hash, item in items:
        at = uniform(seed, "heldout", hash.hex())
        side: Split = "heldout" if at < heldout else "train"
        if both:
            yield side, item
            continue
        if only is None or waiting is None:
            only, waiting = side, (at, item)
            continue
        if side != only:
            both = True
            yield only, waiting[1]
            yield side, item
            continue
        nearer = at < waiting[0] if side == "train" else at > waiting[0]
        released, waiting = (waiting[1], (at, item)) if nearer else (item, waiting)
        passed += 1
        yield side, released
    if not both and only and waiting:
        other: Split = "heldout" if only == "train" else "train"
        yield (other if passed else "train"), waiting[1]
