"""Small jobs on words, asked in words. Level 1: capitals, length, first letter; 2: last letters, counting; 3: reversing, replacing;
4: two words; 5: two jobs after each other. What is executed is the Python expression that does the job."""

from __future__ import annotations

import random
from collections.abc import Callable

from orrery.evaluate.generators.problem import WORDS, Problem

Drawn = tuple[tuple[str, ...], str, str]  # ways to ask, expression, kind
Maker = Callable[[random.Random], Drawn]


def draw(generator: random.Random, difficulty: int) -> Problem:
    """One question; the answer is a word, a number or a list of words."""
    ways, expression, kind = generator.choice(_LEVELS[difficulty])(generator)
    return Problem(generator.choice(ways), expression, kind)


def _word(g: random.Random) -> str:
    return g.choice(WORDS)


def _upper(g: random.Random) -> Drawn:
    w = _word(g)
    return (f'Write "{w}" in capital letters.', f'What is "{w}" in upper case?'), f'"{w}".upper()', "upper"


def _length(g: random.Random) -> Drawn:
    w = _word(g)
    return (f'How many letters does "{w}" have?', f'How long is the word "{w}"?'), f'len("{w}")', "length"


def _first(g: random.Random) -> Drawn:
    w = _word(g)
    at, name = g.choice(((0, "first"), (-1, "last"), (1, "second")))
    return (
        (f'What is the {name} letter of "{w}"?', f'Give the {name} letter of "{w}".'),
        f'"{w}"[{at}]',
        "letter",
    )


def _join(g: random.Random) -> Drawn:
    a, b = g.sample(WORDS, 2)
    return (
        (f'Put "{a}" and "{b}" together.', f'What do you get when you join "{a}" and "{b}"?'),
        f'"{a}" + "{b}"',
        "join",
    )


def _ends(g: random.Random) -> Drawn:
    w, n = _word(g), g.randint(2, 3)
    if g.random() < 0.5:
        return (f'What are the first {n} letters of "{w}"?',), f'"{w}"[:{n}]', "letters"
    return (f'What are the last {n} letters of "{w}"?',), f'"{w}"[-{n}:]', "letters"


def _count(g: random.Random) -> Drawn:
    w = _word(g)
    c = g.choice(w) if g.random() < 0.7 else g.choice("aeiorst")
    return (
        (f'How many times does "{c}" occur in "{w}"?', f'Count the letter "{c}" in "{w}".'),
        f'"{w}".count("{c}")',
        "count",
    )


def _repeat(g: random.Random) -> Drawn:
    w, n = _word(g), g.randint(2, 4)
    return (f'Write "{w}" {n} times without spaces.',), f'"{w}" * {n}', "repeat"


def _reverse(g: random.Random) -> Drawn:
    w = _word(g)
    return (f'Reverse the word "{w}".', f'What is "{w}" spelled backwards?'), f'"{w}"[::-1]', "reverse"


def _replace(g: random.Random) -> Drawn:
    w = _word(g)
    c, d = g.choice(w), g.choice("xyzkq")
    return (f'Replace every "{c}" in "{w}" by "{d}".',), f'"{w}".replace("{c}", "{d}")', "replace"


def _remove(g: random.Random) -> Drawn:
    w = _word(g)
    c = g.choice(w)
    return (f'Remove every "{c}" from "{w}".',), f'"{w}".replace("{c}", "")', "remove"


def _spell(g: random.Random) -> Drawn:
    w = _word(g)
    return (f'Spell "{w}" with a dash between the letters.',), f'"-".join(list("{w}"))', "spell"


def _earlier(g: random.Random) -> Drawn:
    words = g.sample(WORDS, 2)
    a, b = words
    return (f'Which comes first in the alphabet, "{a}" or "{b}"?',), f'min("{a}", "{b}")', "order"


def _longer(g: random.Random) -> Drawn:
    a, b = g.sample(WORDS, 2)
    while len(a) == len(b):
        b = _word(g)
    return (
        (f'Which word is longer, "{a}" or "{b}"?',),
        f'"{a}" if len("{a}") > len("{b}") else "{b}"',
        "longer",
    )


def _both(g: random.Random) -> Drawn:
    a, b = g.sample(WORDS, 2)
    return (f'How many letters do "{a}" and "{b}" have together?',), f'len("{a}") + len("{b}")', "length"


def _title(g: random.Random) -> Drawn:
    phrase = " ".join(g.sample(WORDS, 3))
    return (f'Write every word of "{phrase}" with a capital first letter.',), f'"{phrase}".title()', "upper"


def _pick(g: random.Random) -> Drawn:
    words = g.sample(WORDS, 4)
    phrase = " ".join(words)
    at, name = g.choice(((0, "first"), (1, "second"), (2, "third"), (-1, "last")))
    return (f'What is the {name} word of "{phrase}"?',), f'"{phrase}".split()[{at}]', "word"


def _reverse_upper(g: random.Random) -> Drawn:
    w = _word(g)
    return (f'Reverse "{w}" and write it in capital letters.',), f'"{w}"[::-1].upper()', "two jobs"


def _sort_letters(g: random.Random) -> Drawn:
    w = _word(g)
    return (f'Put the letters of "{w}" in alphabetical order.',), f'"".join(sorted("{w}"))', "sort"


def _sort_words(g: random.Random) -> Drawn:
    phrase = " ".join(g.sample(WORDS, 3))
    return (
        (f'Put the words of "{phrase}" in alphabetical order.',),
        f'" ".join(sorted("{phrase}".split()))',
        "sort",
    )


def _initials(g: random.Random) -> Drawn:
    phrase = " ".join(g.sample(WORDS, 3))
    ask = f'Take the first letter of every word of "{phrase}" and write them as one word in capital letters.'
    return (ask,), f'"".join([word[0] for word in "{phrase}".split()]).upper()', "two jobs"


def _swap_reverse(g: random.Random) -> Drawn:
    a, b = g.sample(WORDS, 2)
    return (f'Join "{b}" and "{a}", then reverse the result.',), f'("{b}" + "{a}")[::-1]', "two jobs"


_LEVELS: dict[int, tuple[Maker, ...]] = {
    1: (_upper, _length, _first, _join),
    2: (_ends, _count, _repeat, _first),
    3: (_reverse, _replace, _remove, _spell),
    4: (_earlier, _longer, _both, _title, _pick),
    5: (_reverse_upper, _sort_letters, _sort_words, _initials, _swap_reverse),
}
