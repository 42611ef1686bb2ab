r"""What word vectors are asked: which words are near, and what is to c as b is to a.

$$ \text{answer} = \text{argmax}_{w \ne a, b, c} \cos(w, \hat b - \hat a + \hat c) $$

is 3CosAdd (Mikolov, Yih & Zweig 2013; named by Levy & Goldberg 2014), with vectors of length one.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orrery.kit.errors import OrreryError, suggest

Matrix = NDArray[np.float32]
Question = tuple[str, str, str, str]
"""(a, b, c, d): a is to b as c is to d."""


@dataclass(frozen=True, eq=False)
class WordVectors:
    """`matrix[i]` (V, d) is the vector of `words[i]`."""

    words: tuple[str, ...]
    matrix: Matrix

    @functools.cached_property
    def ids(self) -> dict[str, int]:
        """The row of each word."""
        return {word: i for i, word in enumerate(self.words)}

    @functools.cached_property
    def unit(self) -> Matrix:
        """(V, d) the rows scaled to length one; a row of zeros stays."""
        length = np.linalg.norm(self.matrix, axis=1, keepdims=True)
        return (self.matrix / np.where(length > 0, length, 1)).astype(np.float32)

    def row(self, word: str) -> int:
        """Raises OrreryError: the word has no vector."""
        if word not in self.ids:
            raise OrreryError(f"'{word}' has no vector here.{suggest(word, self.words[:20_000])}")
        return self.ids[word]

    def vector(self, word: str) -> Matrix:
        """(d,)."""
        return self.matrix[self.row(word)]

    def similarity(self, a: str, b: str) -> float:
        """The cosine of two words, in [-1, 1]."""
        return float(self.unit[self.row(a)] @ self.unit[self.row(b)])

    def nearest(self, vector: Matrix, *, k: int = 10, without: Iterable[str] = ()) -> list[tuple[str, float]]:
        """The k words whose cosine with `vector` (d,) is largest, best first; equal ones in the order of `words`."""
        scores = self.unit @ (vector / max(float(np.linalg.norm(vector)), 1e-12))
        scores[[self.row(word) for word in without]] = -np.inf
        best = np.argsort(-scores, kind="stable")[:k]
        return [(self.words[i], float(scores[i])) for i in best if scores[i] > -np.inf]

    def neighbours(self, word: str, *, k: int = 10) -> list[tuple[str, float]]:
        """The k words nearest to a word, itself left out."""
        return self.nearest(self.vector(word), k=k, without=[word])

    def analogy(
        self, a: str, b: str, c: str, *, k: int = 1, leave_out_question: bool = True
    ) -> list[tuple[str, float]]:
        """a is to b as c is to ...? The three words of the question are no answers, unless asked for."""
        unit = self.unit
        query = unit[self.row(b)] - unit[self.row(a)] + unit[self.row(c)]
        return self.nearest(query, k=k, without=(a, b, c) if leave_out_question else ())


@dataclass(frozen=True)
class AnalogyScore:
    """`left_out` questions have a word without a vector; they are neither right nor wrong."""

    correct: int
    asked: int
    left_out: int

    @property
    def accuracy(self) -> float:
        """Share of the questions asked that were answered right; 0 when none was asked."""
        return self.correct / max(self.asked, 1)


def score_analogies(
    vectors: WordVectors, questions: Sequence[Question], *, leave_out_question: bool = True
) -> AnalogyScore:
    """Answer every question by 3CosAdd and count the right ones."""
    known = [q for q in questions if all(word in vectors.ids for word in q)]
    right = 0
    for start in range(0, len(known), 256):
        ids = np.array([[vectors.ids[word] for word in q] for q in known[start : start + 256]])  # (Q, 4)
        a, b, c, d = ids.T
        scores = (vectors.unit[b] - vectors.unit[a] + vectors.unit[c]) @ vectors.unit.T  # (Q, V)
        if leave_out_question:
            np.put_along_axis(scores, ids[:, :3], -np.inf, axis=1)
        best = scores.argmax(1)
        right += int(((best == d) & np.isfinite(scores.max(1))).sum())
    return AnalogyScore(right, len(known), len(questions) - len(known))


def read_questions(text: str) -> dict[str, list[Question]]:
    """Questions by section, in the format of Mikolov et al. 2013a: `: section`, then four words a line.

    Raises:
        OrreryError: a line that is neither.
    """
    sections: dict[str, list[Question]] = {}
    current = sections.setdefault("", [])
    for number, line in enumerate(text.split("\n"), 1):
        fields = line.split()
        if fields[:1] == [":"]:
            current = sections.setdefault(" ".join(fields[1:]), [])
        elif len(fields) == 4:
            current.append((fields[0], fields[1], fields[2], fields[3]))
        elif fields:
            raise OrreryError(
                f"line {number} of the questions has {len(fields)} words; write four, or ': section'"
            )
    return {name: questions for name, questions in sections.items() if questions}
