"""From what a person typed to a term: by slug, by name, by alias, by a part of a name, or by the nearest spelling."""

from __future__ import annotations

import difflib
import functools
import re
from dataclasses import dataclass

from orrery.glossary.entries import Term, index, load_entries
from orrery.kit.errors import OrreryError


@dataclass(frozen=True)
class Found:
    """The term, and `note` when it was not found under exactly the words typed."""

    term: Term
    note: str = ""


def find(words: str) -> Found:
    """The term meant by `words`.

    Raises:
        OrreryError: nothing is near enough, or several terms are equally near; the message names candidates.
    """
    key = normal(words)
    if not key:
        raise OrreryError(
            "say which term to explain, for example: orrery explain attention; --list shows them all"
        )
    for names in (index_names(), known_names()):  # the entries are read only for what the index does not have
        for attempt in (key, key.removesuffix("s"), key + "s", key.removesuffix("es")):
            if attempt in names:
                return Found(index()[names[attempt]])
    names = known_names()
    close = difflib.get_close_matches(key, names, n=6, cutoff=0.75)
    slugs = list(dict.fromkeys(names[name] for name in close))
    if len(slugs) == 1 or (slugs and _clear(key, close[0], close[1:], names)):
        return Found(index()[slugs[0]], f"nothing is called '{words}' exactly; this is the nearest")
    candidates = list(dict.fromkeys([*slugs, *_containing(key, names)]))[:6]
    if not candidates:
        raise OrreryError(f"no term is like '{words}'; orrery explain --list shows every term")
    shown = ", ".join(f"'{slug}'" for slug in candidates)
    raise OrreryError(f"no term is called '{words}'. Did you mean {shown}?")


def normal(words: str) -> str:
    """Lower case, letters and digits only, single spaces: 'KV-cache' and 'kv cache' are one."""
    return " ".join(re.findall(r"[^\W_]+", words.casefold()))


@functools.cache
def index_names() -> dict[str, str]:
    """Normalised name -> slug for the index. A slug beats a name, and a name beats an alias."""
    layers: list[list[tuple[str, str]]] = [[], [], []]
    for slug, term in index().items():
        bare = re.sub(r"\([^)]*\)", "", term.term)
        layers[0].append((slug, slug))
        layers[1] += [(term.term, slug), (bare, slug)]
        layers[2] += [(alias, slug) for alias in (*term.aliases, *re.findall(r"\(([^)]*)\)", term.term))]
    names: dict[str, str] = {}
    for name, slug in (pair for layer in layers for pair in layer):
        names.setdefault(normal(name), slug)
    names.pop("", None)
    return names


@functools.cache
def known_names() -> dict[str, str]:
    """`index_names`, and after them the names and aliases that entries give themselves."""
    names = dict(index_names())
    for entry in load_entries():
        for name in (entry.term, *entry.aliases):
            if entry.slug in index() and normal(name):
                names.setdefault(normal(name), entry.slug)
    return names


def _clear(key: str, best: str, others: list[str], names: dict[str, str]) -> bool:
    """Whether the nearest name is so much nearer than any name of another term that it is surely meant."""

    def nearness(name: str) -> float:
        return difflib.SequenceMatcher(None, key, name).ratio()

    rivals = [nearness(name) for name in others if names[name] != names[best]]
    return nearness(best) >= 0.8 and nearness(best) - max(rivals, default=0.0) > 0.05


def _containing(key: str, names: dict[str, str]) -> list[str]:
    """Terms whose name holds every word typed, shortest name first, then those a looser spelling finds."""
    words = key.split()
    holding = sorted((n for n in names if all(word in n for word in words)), key=len)
    loose = difflib.get_close_matches(key, names, n=4, cutoff=0.5)
    return [names[name] for name in (*holding, *loose)]
