"""The hay: running text cut into sentences, from which a context of any number of words is made.

A context begins at a sentence drawn by the seed and goes on in the text's order, round and round where the text is too short. Sentences
that hold a needle's answer are left out, so that nothing but the needle can give it.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from orrery.evaluate.long_context.words import ADJECTIVES, NOUNS
from orrery.kit.errors import OrreryError
from orrery.kit.seeds import key, numpy_generator

_SENTENCE = re.compile(r"(?<=[.!?…])[\"'”’)\]]*\s+|\n\s*\n")
_WORD = re.compile(r"\w+")
_VERBS = ["stood", "waited", "rested", "turned", "slept", "shone", "lay", "faded", "grew", "stayed"]
_PLACES = ["behind", "before", "beside", "above", "below", "near", "beyond", "inside", "outside", "past"]


@dataclass(frozen=True)
class Filler:
    """Sentences of hay, in order."""

    sentences: tuple[str, ...]

    @classmethod
    def of(cls, texts: Iterable[str]) -> Filler:
        """The sentences of texts, white space made single spaces.

        Raises:
            OrreryError: there is not a sentence in them.
        """
        found = (" ".join(part.split()) for text in texts for part in _SENTENCE.split(text))
        sentences = tuple(sentence for sentence in found if _WORD.search(sentence))
        if not sentences:
            raise OrreryError("the haystack's texts hold no words; give at least one text with sentences")
        return cls(sentences)

    @classmethod
    def made_up(cls, *, seed: int = 0, sentences: int = 400) -> Filler:
        """Plain sentences of small words ("The pale otter waited near the bridge."), for whoever has no text at hand."""
        rng = numpy_generator(seed, "made-up hay")
        rows = rng.integers(0, 1 << 30, (sentences, 5))
        lists = (ADJECTIVES, NOUNS, _VERBS, _PLACES, NOUNS)
        drawn = ([words[i % len(words)] for words, i in zip(lists, row, strict=True)] for row in rows)
        return cls(tuple(f"The {a} {n} {verb} {where} the {other}." for a, n, verb, where, other in drawn))

    def without(self, values: Iterable[str]) -> Filler:
        """The sentences that hold none of these values, in any case.

        Raises:
            OrreryError: no sentence is left.
        """
        held = [re.compile(rf"(?<!\w){re.escape(value)}(?!\w)", re.IGNORECASE) for value in values]
        kept = tuple(s for s in self.sentences if not any(pattern.search(s) for pattern in held))
        if not kept:
            raise OrreryError("every sentence of the haystack holds an answer; give other texts")
        return Filler(kept)

    def from_seed(self, seed: int, *parts: int | str) -> Filler:
        """The same sentences, beginning elsewhere."""
        start = key(seed, "hay", *parts) % len(self.sentences)
        return Filler(self.sentences[start:] + self.sentences[:start])

    @cached_property
    def words(self) -> tuple[str, ...]:
        """All words, with their punctuation."""
        return tuple(word for sentence in self.sentences for word in sentence.split())

    @cached_property
    def _ends(self) -> list[int]:
        ends = [0]
        for sentence in self.sentences:
            ends.append(ends[-1] + len(sentence.split()))
        return ends

    def boundary(self, n: int) -> int:
        """How many words the sentences have that are over after `n` words: the last place before word n where one may insert."""
        rounds, rest = divmod(n, len(self.words))
        return rounds * len(self.words) + self._ends[bisect_right(self._ends, rest) - 1]

    def context(self, n: int, inserts: Sequence[tuple[float, str]] = ()) -> str:
        """The first `n` words with sentences put in, each at its depth from 0 to 1: where the last sentence is over by then, so that at
        depth 1 no more than a part of a sentence follows. Inserts at one place keep their order."""
        places = [(self.boundary(round(depth * n)), text) for depth, text in inserts]
        parts: list[str] = []
        done = 0
        for place, text in sorted(places, key=lambda pair: pair[0]):
            parts += [*self._slice(done, place), text]
            done = place
        return " ".join([*parts, *self._slice(done, n)])

    def _slice(self, start: int, end: int) -> list[str]:
        size = len(self.words)
        out: list[str] = []
        while start < end:
            first = start % size
            taken = self.words[first : first + end - start]
            out += taken
            start += len(taken)
        return out
