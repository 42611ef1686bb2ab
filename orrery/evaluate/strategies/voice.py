"""How strategies ask a model and hear it: questions to ids by its chat format or as plain text, thinking apart from answers."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from orrery.evaluate.boundary import Bos, Unanswerable, alone, beginning
from orrery.evaluate.prompts import Message
from orrery.evaluate.subject import Subject, text_of
from orrery.kit.errors import OrreryError
from orrery.kit.lm import Completion, GenerateRequest, Sampling
from orrery.serve.grammar.syntax import Reasoning, in_reasoning, reasoning_of

Check = Callable[[str], float | None]
Key = Callable[[str], Hashable | None]


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is to be answered.

    Attributes:
        text: the whole prompt of a base model. messages: of a chat, else None.
        own: the question alone, without demonstrations.
        fields: the task's row.
        key: the final answer of a text as votes count it, None where it has none. check: how good an answer is, None where it
            cannot be read; both None where nobody knows.
    """

    text: str
    messages: tuple[Message, ...] | None = None
    own: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    key: Key | None = None
    check: Check | None = None

    def with_instruction(self, instruction: str) -> Question:
        """The instruction at the end of the user's words, or, for a base model, as the beginning of the answer."""
        if not instruction:
            return self
        if self.messages is None:
            space = "" if not self.text or self.text[-1].isspace() else " "
            return replace(self, text=self.text + space + instruction)
        *before, last = self.messages
        asked = {**last, "content": f"{last['content']}\n{instruction}"}
        return replace(self, messages=(*before, asked))

    def asking(self, text: str) -> Question:
        """Another thing to say to the same model, with nothing before it."""
        messages = None if self.messages is None else ({"role": "user", "content": text},)
        return replace(self, text=text, messages=messages)

    def conversation(self, answer: str) -> tuple[Message, ...]:
        """Question and answer as messages, for who scores answers."""
        asked = self.messages or ({"role": "user", "content": self.own or self.text},)
        return (*asked, {"role": "assistant", "content": answer})


@dataclass(frozen=True, kw_only=True)
class Said:
    """One completion, heard: `text` is the answer, `thought` what was thought before it.

    logprob: mean log-probability of a token, in nats. whole: it came to its own end.
    """

    text: str
    thought: str
    logprob: float
    tokens: int
    whole: bool


@dataclass(frozen=True, kw_only=True)
class Voice:
    """A model as strategies ask it. `max_tokens`, `stop`, `bos`: as the task has them; `stop` ends a base model's answers."""

    subject: Subject
    max_tokens: int = 256
    stop: tuple[str, ...] = ()
    bos: Bos = "auto"

    @property
    def context(self) -> int:
        return self.subject.context

    def prompt(self, question: Question) -> list[int]:
        """The ids up to where the answer begins."""
        if question.messages is not None:
            return self.subject.chat_ids(question.messages)
        tokenizer = self.subject.tokenizer
        ids = [*beginning(tokenizer, self.bos), *tokenizer.encode(question.text)]
        return ids or alone(tokenizer)

    def request(
        self,
        ids: Sequence[int],
        *,
        seed: int,
        temperature: float,
        n: int = 1,
        max_tokens: int | None = None,
        stop: Sequence[str] = (),
        stop_ids: tuple[int, ...] | None = None,
    ) -> GenerateRequest:
        """`n` continuations of these ids.

        Raises:
            Unanswerable: they leave no room in the context. Nothing is cut: a strategy that has lost its question is no strategy.
        """
        room = self.context + 1 - len(ids)
        if room < 1:
            raise Unanswerable(
                f"a prompt of this strategy is longer than the model's context of {self.context} tokens"
            )
        return GenerateRequest(
            ids=list(ids), max_tokens=min(max_tokens or self.max_tokens, room), n=n, stop=tuple(stop), stop_ids=stop_ids,
            sampling=Sampling(temperature=temperature, seed=seed),
        )  # fmt: skip

    def ask(
        self, question: Question, *, seed: int, temperature: float, n: int = 1, max_tokens: int | None = None, steps: bool = False,
    ) -> GenerateRequest:  # fmt: skip
        """`n` answers to the question. `steps`: of several lines, so that a task's stop at the end of a line does not hold."""
        stop = self.stop if question.messages is None else ()
        if steps:
            stop = tuple(text for text in stop if text.strip())
        return self.request(
            self.prompt(question), seed=seed, temperature=temperature, n=n, max_tokens=max_tokens, stop=stop
        )

    def hear(self, question: Question, completion: Completion) -> list[Said]:
        """The completion and its others, each taken apart."""
        return [self._said(question, one) for one in (completion, *completion.others)]

    def _said(self, question: Question, completion: Completion) -> Said:
        thought, text = "", text_of(self.subject.tokenizer, completion)
        if question.messages is not None:
            thought, text = self.parts(completion.ids, self.prompt(question))
        logprobs = completion.logprobs
        return Said(
            text=text,
            thought=thought,
            logprob=sum(logprobs) / len(logprobs) if logprobs else 0.0,
            tokens=len(completion.ids),
            whole=completion.finish_reason == "stop",
        )

    def parts(self, ids: Sequence[int], prompt: Sequence[int]) -> tuple[str, str]:
        """Thinking and answer of a chat's completion; thinking that was cut off has no answer behind it."""
        chat = self.subject.chat_format()
        message = chat.parse(ids)
        thought, text = str(message.get("reasoning") or ""), str(message.get("content") or "")
        marks = reasoning_of(chat)
        if marks is not None and not thought:
            whole = self.subject.tokenizer.decode(list(ids))
            begun = in_reasoning(chat, prompt) or whole.lstrip().startswith(marks.opening)
            if begun and marks.closing not in whole:
                return text.strip().removeprefix(marks.opening).strip("\n"), ""
        return thought, text

    def marks(self) -> Reasoning:
        """The marks around the model's thinking.

        Raises:
            OrreryError: its chat format has none.
        """
        found = None if self.subject.chat is None else reasoning_of(self.subject.chat)
        if found is None:
            raise OrreryError(
                f"'{self.subject.name}' has no marks for thinking in its chat format, so its thinking cannot be held to a budget; "
                "choose a reasoning model, or another strategy such as cot"
            )
        return found
