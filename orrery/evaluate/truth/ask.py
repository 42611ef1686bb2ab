"""Questions asked of a model, closed-book or with a passage to read, and what it answered with which confidence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from orrery.evaluate.roles import Generates
from orrery.kit.lm import Completion, GenerateRequest, Sampling
from orrery.text.chat import ChatFormat
from orrery.text.tokenizer import Tokenizer

INSTRUCTION = "Answer in a few words. If you do not know the answer, say: I don't know."


@dataclass(frozen=True, kw_only=True)
class Question:
    """`answers` are all spellings of the right answer; none: nobody can know it, and only silence is right. `passage`: given to read."""

    question: str
    answers: tuple[str, ...] = ()
    passage: str = ""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """`confidence` in (0, 1]: the geometric mean of the answer's token probabilities, exp(mean log p)."""

    question: Question
    text: str
    confidence: float


@dataclass(frozen=True, kw_only=True)
class Asking:
    """How a question becomes ids: by the chat format, or as plain text for a base model."""

    tokenizer: Tokenizer
    chat: ChatFormat | None = None
    instruction: str = INSTRUCTION

    def ids(self, question: Question) -> list[int]:
        """The prompt; the passage, where there is one, stands first."""
        parts = [question.passage, self.instruction, f"Question: {question.question}"]
        body = "\n\n".join(part for part in parts if part)
        if self.chat is not None:
            return self.chat.prompt([{"role": "user", "content": body}])
        return self.tokenizer.encode(f"{body}\nAnswer:", bos=self.tokenizer.bos_id is not None)


def ask(
    lm: Generates, questions: Sequence[Question], *, asking: Asking, max_tokens: int = 32
) -> list[Answer]:
    """Greedy answers; a base model's ends with the line."""
    stop = ("\n",) if asking.chat is None else ()
    requests = [
        GenerateRequest(
            ids=asking.ids(question), max_tokens=max_tokens, sampling=Sampling(temperature=0.0), stop=stop
        )
        for question in questions
    ]
    completions = lm.generate(requests)
    return [
        Answer(question=question, text=done.text.strip(), confidence=confidence(done))
        for question, done in zip(questions, completions, strict=True)
    ]


def confidence(done: Completion) -> float:
    """exp(mean log p) of what was generated; 0 of nothing."""
    return math.exp(math.fsum(done.logprobs) / len(done.logprobs)) if done.logprobs else 0.0
