"""How a strategy runs: a generator that asks for completions and is given them, so that many questions share the engine's batches.

    def play(...):
        (draft,) = yield [request]               # what this step asks for; comes back in the same order
        ...
        return Found(text, trace)

`side_by_side` takes a step of all plays that are under way, sends what they ask for as one batch, and goes on with each play as soon as
its own completions are there. Tokens are counted here, so that no strategy can forget any.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from orrery.evaluate.boundary import Unanswerable
from orrery.kit.lm import Completion, GenerateRequest

Generate = Callable[[Sequence[GenerateRequest]], Iterator[tuple[int, Completion]]]
Trace = list[dict[str, Any]]


@dataclass(frozen=True)
class Found:
    """What a strategy came to: the answer, and how it came there, step by step."""

    text: str
    trace: Trace = field(default_factory=list)


Play = Generator[Sequence[GenerateRequest], Sequence[Completion], Found]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One question answered.

    Attributes:
        text: the answer, without thinking.
        tokens: made by the model for it, in all calls. read: tokens of the prompts of these calls, cached or not. calls: completions.
        trace: the steps of the strategy.
        fault: why there is no answer (a prompt beyond the context); else empty.
    """

    text: str
    tokens: int = 0
    read: int = 0
    calls: int = 0
    trace: tuple[Mapping[str, Any], ...] = ()
    fault: str = ""


@dataclass
class _Under:
    """A play under way and what it has cost."""

    place: int
    play: Play
    asked: Sequence[GenerateRequest] = ()
    got: dict[int, Completion] = field(default_factory=dict)
    tokens: int = 0
    read: int = 0
    calls: int = 0

    def count(self) -> list[Completion]:
        """The completions in order, counted."""
        done = [self.got[i] for i in range(len(self.asked))]
        for request, first in zip(self.asked, done, strict=True):
            every = (first, *first.others)
            self.tokens += sum(len(one.ids) for one in every)
            self.read += len(request.ids)
            self.calls += len(every)
        self.got = {}
        return done

    def step(self, given: list[Completion] | None) -> Answer | None:
        """Go on with what came; the answer, if it is the end."""
        try:
            self.asked = next(self.play) if given is None else self.play.send(given)
        except StopIteration as end:
            return self._answer(end.value.text, end.value.trace)
        except Unanswerable as error:
            return self._answer("", [], fault=str(error))
        return None

    def _answer(self, text: str, trace: Trace, fault: str = "") -> Answer:
        return Answer(
            text=text, tokens=self.tokens, read=self.read, calls=self.calls, trace=tuple(trace), fault=fault
        )


def side_by_side(plays: Sequence[Play], generate: Generate) -> Iterator[tuple[int, Answer]]:
    """The answer of every play with its place, as they become ready."""
    left = [_Under(place, play) for place, play in enumerate(plays)]
    for one in list(left):
        if (answer := one.step(None)) is not None:
            left.remove(one)
            yield one.place, answer
    while left:
        owners = [(one, i) for one in left for i in range(len(one.asked))]
        going: list[_Under] = []
        for at, completion in generate([one.asked[i] for one, i in owners]):
            one, i = owners[at]
            one.got[i] = completion
            if len(one.got) < len(one.asked):
                continue
            if (answer := one.step(one.count())) is None:
                going.append(one)
            else:
                yield one.place, answer
        left = sorted(going, key=lambda one: one.place)
