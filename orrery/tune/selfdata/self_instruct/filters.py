"""What of a model's tasks is not taken: repeats, fragments, and what no model of text can do (Wang et al. 2022, section 2.2)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from orrery.evaluate.metrics.rouge import rouge_l, rouge_words
from orrery.evaluate.metrics.text_pairs import ngrams

KEYWORDS = (
    "image", "images", "picture", "pictures", "photo", "photos", "graph", "graphs", "file", "files", "map", "maps", "draw", "plot",
    "video", "videos", "audio", "music", "diagram", "diagrams", "flowchart", "flowcharts", "go to", "attached",
)  # fmt: skip
"""Words of things that a text cannot hold."""
TORN = re.compile(r"^[^\w\"'“(\[]|\b(?:and|or|the|a|an|of|to|in|with|for)$", re.IGNORECASE)
"""An instruction that begins or ends in the middle."""
WORD = re.compile(r"[\w-]+")
REPEATED = 0.3
"""The share of runs of four words that were there before."""
UNSURE = re.compile(r"^(?:n/?a|none|null|\.+|-+|_+|\?+|output:?|input:?)$", re.IGNORECASE)


class Near(NamedTuple):
    """The likest text of a pool: its ROUGE-L F1 (0: none shares a word) and place."""

    similarity: float
    place: int


class Pool:
    """Texts against which new ones are compared."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._words: list[list[str]] = []
        self._counts: list[Counter[str]] = []
        for text in texts:
            self.add(text)

    def add(self, text: str) -> None:
        """New ones are compared with this too."""
        self._words.append(rouge_words(text))
        self._counts.append(Counter(self._words[-1]))

    def nearest(self, text: str) -> Near:
        """The text of the highest ROUGE-L F1. The longest common subsequence is no longer than the words both have, whatever their
        order; texts that could not reach the best by that are not aligned."""
        words = rouge_words(text)
        count, best = Counter(words), Near(0.0, -1)
        for place, (other, theirs) in enumerate(zip(self._words, self._counts, strict=True)):
            shared = (count & theirs).total()
            if not shared or 2 * shared / (len(words) + len(other)) <= best.similarity:
                continue
            best = max(best, Near(rouge_l(words, other).f1, place), key=lambda near: near.similarity)
        return best


def instruction_fault(
    text: str, *, least: int = 3, most: int = 150, keywords: Sequence[str] = KEYWORDS
) -> str | None:
    """Why an instruction cannot be taken, or None. Lengths in words."""
    words = text.split()
    if len(words) < least:
        return "too short"
    if len(words) > most:
        return "too long"
    if TORN.search(text):
        return "a fragment"
    if sum(letter.isalpha() for letter in text) < len(text) / 2:
        return "hardly any words"
    if len(set(words)) < len(words) / 3:
        return "the same words again and again"
    spoken = " ".join(["", *WORD.findall(text.lower()), ""])
    found = next((word for word in keywords if f" {word} " in spoken), None)
    return None if found is None else f"about what a text cannot hold ({found})"


def instance_fault(instruction: str, given: str, output: str, *, most: int = 400) -> str | None:
    """Why an input with its output cannot be taken, or None. `most`: words of either."""
    if not output.strip() or UNSURE.match(output.strip()):
        return "no output"
    if given.strip() and _same(given, output):
        return "the output repeats the input"
    if _echoes(instruction, output) or (given.strip() and _same(instruction, given)):
        return "the instruction again"
    if max(len(given.split()), len(output.split())) > most:
        return "too long"
    if max(_repeated(given), _repeated(output)) > REPEATED:
        return "the same words again and again"
    if given.rstrip().endswith(":") or output.rstrip().endswith(":"):
        return "unfinished"
    return None


def _echoes(instruction: str, output: str) -> bool:
    """Whether three words or more of output are but a piece of the instruction."""
    words = WORD.findall(output.lower())
    said = " ".join(["", *words, ""])
    return len(words) > 2 and said in " ".join(["", *WORD.findall(instruction.lower()), ""])


def _repeated(text: str) -> float:
    """The share of runs of four words that stood before."""
    runs = ngrams(text.split(), 4)
    return 1 - len(runs) / runs.total() if runs else 0.0


def _same(a: str, b: str) -> bool:
    return " ".join(a.lower().split()) == " ".join(b.lower().split())
