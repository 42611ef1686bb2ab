"""A corpus with structure put in: a word is a role and a topic, and stands near words of both."""

from __future__ import annotations

from orrery.kit.seeds import numpy_generator

COUNTRIES = ["france", "italy", "spain", "japan", "egypt", "peru", "kenya", "norway"]
CAPITALS = ["paris", "rome", "madrid", "tokyo", "cairo", "lima", "nairobi", "oslo"]
ROLES = {
    "country": ["border", "treaty", "army", "flag", "law"],
    "capital": ["street", "tower", "metro", "mayor", "museum"],
}


def sentences(n: int = 3000, *, seed: int = 0) -> list[list[str]]:
    """Three words of the role, three of the topic, and the name, in any order, with one of any kind.

    The stray word makes every two words meet sometimes: GloVe learns nothing from pairs that never do.
    """
    anything = [word for words in ROLES.values() for word in words]
    anything += [f"topic{i}{letter}" for i in range(len(COUNTRIES)) for letter in "abcd"]
    generator = numpy_generator(seed, "planted")
    made = []
    for _ in range(n):
        topic, role = int(generator.integers(len(COUNTRIES))), ("country", "capital")[generator.integers(2)]
        name = (COUNTRIES if role == "country" else CAPITALS)[topic]
        words = [
            name,
            *generator.choice(ROLES[role], 3, replace=False),
            *(f"topic{topic}{letter}" for letter in generator.choice(list("abcd"), 3, replace=False)),
        ]
        words.append(str(generator.choice(anything)))
        made.append([str(words[i]) for i in generator.permutation(len(words))])
    return made


QUESTIONS = [
    (a, b, c, d)
    for a, b in zip(COUNTRIES, CAPITALS, strict=True)
    for c, d in zip(COUNTRIES, CAPITALS, strict=True)
    if a != c
]
