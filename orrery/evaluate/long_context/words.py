"""Words to make test items of: small lists, every one a single common word, disjoint so that a key is never a name or a value."""

from __future__ import annotations

from collections.abc import Sequence

from orrery.kit.seeds import numpy_generator

_ADJECTIVES = """
amber bitter brave bright broken bronze calm careful clever cold copper crimson curious dusty eager early faded famous fierce
foggy forgotten frozen gentle golden green heavy hollow humble ivory jolly kind lazy little lonely loud lucky marble mellow modest
narrow noble old pale patient plain polite proud purple quick quiet rapid rough rusty scarlet serene sharp shy silent silver simple
sleepy slow smooth solemn steady stormy strange strong sudden sunny sweet swift tall thin tidy tiny tired velvet violet warm wild
"""
_NOUNS = """
anchor apple arrow badger barrel basket beacon bell bird boat bottle bridge bucket button candle canyon carpet castle cedar chair
clock cloud coin comet corner cottage dragon drum eagle engine falcon farmer feather fiddle forest fountain fox galaxy garden gate
hammer harbor harvest helmet hill horse island jacket kettle ladder lamp lantern lemon lighthouse lion magnet maple meadow mirror
monkey mountain needle oak ocean otter painter palace parrot pebble pepper piano pillow pirate planet pocket rabbit raven ribbon
river robin rocket saddle sailor salmon school shadow sparrow spoon stable statue storm teapot temple thunder tiger tower trumpet
tulip turtle valley violin wagon walnut whale willow window winter wizard wolf
"""
_NAMES = """
Adela Alaric Anouk Armin Astrid Baltasar Beatriz Bodil Cosima Cyprian Dagmar Dmitri Edda Eluned Emeric Fabiola Ferenc Fiona Gideon
Giulia Gunnar Hedwig Henrik Ilario Imogen Ingrid Isidro Jarmila Joaquim Jorunn Kasimir Katya Klaas Lavinia Leopold Linnea Lorcan
Magda Marius Mirela Nadia Nikolai Octavia Odile Oskar Paloma Perpetua Quentin Ramona Renzo Rosalind Rufus Sabine Selma Sigurd Solveig
Tamsin Thaddeus Tobias Ulrika Valentin Viola Wanda Wilfred Xenia Yannick Yusuf Zelda Zoltan
"""
ADJECTIVES: tuple[str, ...] = tuple(_ADJECTIVES.split())
NOUNS: tuple[str, ...] = tuple(_NOUNS.split())
NAMES: tuple[str, ...] = tuple(_NAMES.split())


def draw(words: Sequence[str], n: int, seed: int, *parts: int | str) -> list[str]:
    """`n` different words, or names joined of two words where the list is too short, by (seed, parts)."""
    rng = numpy_generator(seed, "words", *parts)
    if n <= len(words):
        return [words[i] for i in rng.permutation(len(words))[:n]]
    pairs = rng.permutation(len(words) ** 2)[:n]
    return [f"{words[p // len(words)]}-{words[p % len(words)]}" for p in pairs]


def keys(n: int, seed: int, *parts: int | str) -> list[str]:
    """`n` different keys of an adjective and a noun ("quiet lantern"), no noun and no adjective twice while there are enough."""
    rng = numpy_generator(seed, "keys", *parts)
    if n <= min(len(ADJECTIVES), len(NOUNS)):
        first, second = rng.permutation(len(ADJECTIVES))[:n], rng.permutation(len(NOUNS))[:n]
        return [f"{ADJECTIVES[i]} {NOUNS[j]}" for i, j in zip(first, second, strict=True)]
    pairs = rng.permutation(len(ADJECTIVES) * len(NOUNS))[:n]
    return [f"{ADJECTIVES[p // len(NOUNS)]} {NOUNS[p % len(NOUNS)]}" for p in pairs]


def numbers(n: int, seed: int, *parts: int | str, digits: int = 7) -> list[str]:
    """`n` different numbers of so many digits, as text."""
    rng = numpy_generator(seed, "numbers", *parts)
    found: dict[str, None] = {}
    while len(found) < n:
        found[str(rng.integers(10 ** (digits - 1), 10**digits))] = None
    return list(found)
