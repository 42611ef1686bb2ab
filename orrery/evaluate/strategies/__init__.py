"""Test-time strategies: more tokens for a better answer, by the same model.

direct              one answer                                       self-consistency   the majority of n
cot                 steps, then the answer                           best-of-n          the best of n by a score
beam                steps kept by a score of steps                   tree               thoughts proposed, judged, searched
budget-forcing      thinking held between a least and a most         self-refine        draft, critique, revision
program-aided       the model's program, run in the sandbox

    answer("self-consistency:n=8", lm, "What is 12 * 13?")           orrery eval MODEL --tasks gsm8k --strategy "cot;self-consistency:n=8"
"""

from __future__ import annotations

from orrery.evaluate.strategies.ask import answer, answers
from orrery.evaluate.strategies.config import EFFORTS, KINDS, Strategy, label, parse
from orrery.evaluate.strategies.play import Answer
from orrery.evaluate.strategies.voice import Question, Voice

__all__ = [
    "EFFORTS",
    "KINDS",
    "Answer",
    "Question",
    "Strategy",
    "Voice",
    "answer",
    "answers",
    "label",
    "parse",
]
