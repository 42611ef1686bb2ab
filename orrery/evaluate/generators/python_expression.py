"""What a Python expression prints. Level 1: one call or sign; 2: two; 3: slices and lists; 4: conditions; 5: comprehensions, nested calls."""

from __future__ import annotations

import random
from collections.abc import Callable

from orrery.evaluate.generators.problem import WORDS, Problem

_ASKED = ("What is {}?", "What is the value of {}?", "What does print({}) show?", "Evaluate {}.")
Drawn = tuple[str, str]
Maker = Callable[[random.Random], Drawn]


def draw(generator: random.Random, difficulty: int) -> Problem:
    """One question; the answer is what `print` shows."""
    expression, kind = generator.choice(_LEVELS[difficulty])(generator)
    return Problem(generator.choice(_ASKED).format(expression), expression, kind)


def _word(g: random.Random) -> str:
    return f'"{g.choice(WORDS)}"'


def _numbers(g: random.Random, low: int = 0, high: int = 9) -> str:
    return f"[{', '.join(str(g.randint(low, high)) for _ in range(g.randint(3, 5)))}]"


def _letter(g: random.Random, word: str) -> str:
    """A letter of the word, or now and then any letter."""
    return f'"{g.choice(word[1:-1]) if g.random() < 0.7 else g.choice("abcdefghijklmnoprstuw")}"'


def _about_letter(g: random.Random, text: str, kind: str) -> Drawn:
    word = _word(g)
    return text.format(word=word, letter=_letter(g, word)), kind


def _slice(g: random.Random) -> Drawn:
    cut = g.choice(
        (
            f"[:{g.randint(1, 4)}]",
            f"[{g.randint(1, 3)}:]",
            f"[-{g.randint(1, 3)}:]",
            f"[{g.randint(0, 1)}:{g.randint(2, 4)}]",
        )
    )
    return f"{_word(g)}{cut}", "slice"


def _chosen(g: random.Random) -> Drawn:
    a, b = g.sample(WORDS, 2)
    n = g.randint(2, 7)
    return f'"{a}" if len("{a}") > {n} else "{b}"', "condition"


def _looked_up(g: random.Random) -> Drawn:
    names = g.sample(WORDS, 3)
    items = ", ".join(f'"{name}": {g.randint(0, 20)}' for name in names)
    return f'{{{items}}}["{g.choice(names)}"]', "lookup"


def _words(g: random.Random, n: int) -> str:
    return "[" + ", ".join(f'"{word}"' for word in g.sample(WORDS, n)) + "]"


_LEVELS: dict[int, tuple[Maker, ...]] = {
    1: (
        lambda g: (f"len({_word(g)})", "length"),
        lambda g: (f"{_word(g)}.upper()", "upper"),
        lambda g: (f"{_word(g)}[{g.choice((0, -1))}]", "letter"),
        lambda g: (f"{g.randint(0, 20)} + {g.randint(0, 20)}", "sum"),
        lambda g: (f"{g.choice(('max', 'min'))}({g.randint(0, 30)}, {g.randint(0, 30)})", "largest"),
        lambda g: (f"{_word(g)} + {_word(g)}", "join"),
        lambda g: (f"[{', '.join(str(g.randint(0, 30)) for _ in range(3))}][{g.randint(0, 2)}]", "item"),
    ),
    2: (
        lambda g: (f"len({_word(g)}) + {g.randint(1, 9)}", "length"),
        lambda g: (f"len({_word(g)}) * {g.randint(2, 5)}", "length"),
        lambda g: (f"{_word(g)} * {g.randint(2, 3)}", "repeat"),
        lambda g: _about_letter(g, "{word}.count({letter})", "count"),
        lambda g: _about_letter(g, "{letter} in {word}", "contains"),
        lambda g: (f"{g.randint(10, 99)} {g.choice(('%', '//'))} {g.randint(2, 9)}", "division"),
        lambda g: (f"{_word(g)}.capitalize()", "upper"),
        lambda g: (f"sum({_numbers(g)})", "sum"),
    ),
    3: (
        _slice,
        lambda g: (f"{_word(g)}[::-1]", "reverse"),
        lambda g: (f"{g.choice(('sorted', 'max', 'min', 'len'))}({_numbers(g, 0, 20)})", "list"),
        lambda g: (f"len({_word(g)}) + len({_word(g)})", "length"),
        lambda g: _about_letter(g, "{word}.find({letter})", "find"),
        lambda g: _about_letter(g, '{word}.replace({letter}, "x")', "replace"),
        lambda g: (f"{_numbers(g)}[{g.randint(1, 2)}:]", "slice"),
    ),
    4: (
        _chosen,
        _looked_up,
        lambda g: (f"len({_word(g)}) {g.choice(('>', '<', '==', '>='))} len({_word(g)})", "comparison"),
        lambda g: (f'"{g.choice("-_+")}".join({_words(g, 3)})', "join"),
        lambda g: (f"max({_numbers(g, 0, 50)}) - min({_numbers(g, 0, 50)})", "list"),
        lambda g: (f"{_word(g)}[1:].upper()", "upper"),
        lambda g: (f'"{" ".join(g.sample(WORDS, 3))}".split()[{g.randint(0, 2)}]', "item"),
    ),
    5: (
        lambda g: (f"[len(word) for word in {_words(g, 3)}]", "comprehension"),
        lambda g: (
            f"[n * {g.randint(2, 4)} for n in {_numbers(g, 0, 12)} if n > {g.randint(2, 5)}]",
            "comprehension",
        ),
        lambda g: (f"sum([n for n in {_numbers(g, 0, 12)} if n % 2 == {g.randint(0, 1)}])", "comprehension"),
        lambda g: (f"sorted({_words(g, 3)})[{g.choice((0, -1))}]", "sort"),
        lambda g: (f'"".join(sorted({_word(g)}))', "sort"),
        lambda g: (f"{_word(g)}[::-1].upper() + str(len({_word(g)}))", "nested"),
        lambda g: _about_letter(g, "({word} + {word}).count({letter}) * len({word})", "nested"),
    ),
}
