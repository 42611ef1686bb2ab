"""Which characters of a rendered conversation the assistant writes: all after its header up to its end-of-turn token.

A template marks them itself with {% generation %}, or they are found from the marks (`jinja/marked.py`):

    start   what stands between the last word said before a turn and its first own word is the end of the turn before, the
            assistant's header, and perhaps markup that the model writes (`<think>`, `<tool_call>`). The prompt for that turn,
            rendered with a generation prompt, ends with the same: as far as both agree, it was given to the model.
    end     after its last own word, what the template wrote in this turn, up to the last control token there.

So the span of a turn is what a model asked with that prompt would have had to generate for this rendering.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise, takewhile

from orrery.kit.errors import OrreryError
from orrery.text.jinja.marked import FLAG, Text
from orrery.text.rendered import Message

Span = tuple[int, int]
Prompt = Callable[[int, bool], Text]
"""Renders the first n messages (-1: a question of our own), with (True) or without a generation prompt."""


@dataclass(frozen=True)
class Run:
    """A stretch of characters with one mark; `turn` is -1 outside messages, `words` are not the template's own."""

    start: int
    end: int
    turn: int
    words: bool


def runs_of(text: Text) -> list[Run]:
    """The stretches of a text."""
    runs, at = [], 0
    for mark, group in groupby(text.marks, key=lambda mark: ord(mark) & ~FLAG):
        end = at + len(list(group))
        runs.append(Run(at, end, (mark - 2) // 2, bool(mark & 1)))
        at = end
    return runs


def assistant_spans(
    text: Text, messages: Sequence[Message], prompt: Prompt, control: re.Pattern[str]
) -> tuple[list[Span], str]:
    """The spans in order, and the method: "generation" or "turns".

    Raises:
        OrreryError: a turn whose borders cannot be told; no mask is better than a wrong one.
    """
    if any(ord(mark) & FLAG for mark in set(text.marks)):
        return _flagged(text), "generation"
    finder = _Finder(text, messages, prompt, control)
    spans = [span for turn in range(len(messages)) if speaks(messages[turn]) for span in finder.spans(turn)]
    if any(a_end > b_start for (_, a_end), (b_start, _) in pairwise(spans)):
        raise OrreryError(
            "the chat template mixes the assistant's turns, so what it writes cannot be told apart"
        )
    return spans, "turns"


def speaks(message: Message) -> bool:
    """Whether a message is the assistant's."""
    return message.get("role") in ("assistant", "model")


def _flagged(text: Text) -> list[Span]:
    spans, at = [], 0
    for inside, group in groupby(text.marks, key=lambda mark: bool(ord(mark) & FLAG)):
        end = at + len(list(group))
        if inside:
            spans.append((at, end))
        at = end
    return spans


class _Finder:
    def __init__(
        self, text: Text, messages: Sequence[Message], prompt: Prompt, control: re.Pattern[str]
    ) -> None:
        self.text, self.messages, self.prompt, self.control = text, messages, prompt, control
        self.runs = runs_of(text)
        self.known: dict[tuple[object, ...], str] = {}

    def spans(self, turn: int) -> list[Span]:
        """What the assistant writes in a turn; nothing where the template leaves the turn out."""
        own = [run for run in self.runs if run.turn == turn]
        words = [run for run in own if run.words]
        if not own:
            return []
        said = [
            run for run in self.runs if run.words and run.turn != turn and run.end <= (words or own)[0].start
        ]
        before = said[-1].end if said else 0
        gap = str(self.text)[before : words[0].start if words else own[-1].end]
        start = before + self._given(turn, before, gap, said[-1].turn if said else None)
        last = max(words[-1].end if words else start, start)
        if foreign := [
            r for r in self.runs if r.words and r.turn not in (turn, -1) and start <= r.start < last
        ]:
            raise OrreryError(
                f"the chat template puts words of message {foreign[0].turn} inside the assistant's message {turn}, so what "
                "the assistant writes cannot be told apart"
            )
        return [(start, self._end(turn, last, tagged=any(not run.words for run in own)))]

    def _given(self, turn: int, before: int, gap: str, speaker: int | None) -> int:
        """How many characters of the gap before the turn's first word are given to the model, not written by it.

        `speaker` is the turn of the last word before the gap.
        """
        kind = self._kind(turn)
        if (known := self.known.get(kind)) is not None and gap.startswith(known):
            return len(known)
        try:
            asked = self.prompt(turn, True)
        except OrreryError:
            return self._header(turn, gap, self.prompt(-1, True), self.prompt(-1, False))
        said = [run for run in runs_of(asked) if run.words]
        if (said[-1].turn if said else None) != speaker:
            return self._header(turn, gap, self.prompt(-1, True), self.prompt(-1, False))
        given = str(asked)[said[-1].end if said else 0 :]
        if str(self.text).startswith(given, before):  # its end may be repeated by the message: <think>
            self.known[kind] = given
            return len(given)
        told = self.prompt(turn, False)
        same = common(given, gap, self.control)
        if same > shared(asked, told) - (len(asked) - len(given)):
            return same  # into what a generation prompt adds
        return self._header(turn, gap, asked, told)

    def _kind(self, turn: int) -> tuple[object, ...]:
        if not turn:
            return (0,)
        last = self.messages[turn - 1]
        return (turn == 1, last.get("role"), bool(last.get("tool_calls")), turn == len(self.messages) - 1)

    def _header(self, turn: int, gap: str, asked: str, told: str) -> int:
        """The end of what a generation prompt adds, where it stands in the gap; the turn before closes otherwise there."""
        header = str(asked)[shared(asked, told) :]
        sign = header[: next(atoms(header, self.control), 0)]
        places = [match.start() for match in re.finditer(re.escape(sign), gap)] if sign else []
        if not places:
            raise OrreryError(
                f"it cannot be told where the assistant begins to write message {turn} in this chat template, so no mask is made"
            )
        return max(place + common(header, gap[place:], self.control) for place in places)

    def _end(self, turn: int, last: int, tagged: bool) -> int:
        """The end of the turn's end-of-turn token, or of its last word where the template closes no turn."""
        end = last
        for run in self.runs:
            if run.start <= end < run.end and (run.turn == turn or (not tagged and not run.words)):
                end = run.end
        tail = str(self.text)[last:end]
        closing = [match.end() for match in self.control.finditer(tail)]
        if closing:
            return last + (closing[-1] if tagged else closing[0])
        return last + len(tail.rstrip())


def atoms(text: str, control: re.Pattern[str]) -> Iterator[int]:
    """Where its control tokens, tags, words and signs end."""
    atom = re.compile(rf"(?:{control.pattern})|<[^<>\s]{{1,80}}>|\[/?[A-Z_]+\]|\w+|\s|.", re.S)
    return (match.end() for match in atom.finditer(text))


def common(a: str, b: str, control: re.Pattern[str]) -> int:
    """How many characters two texts share at their beginning, up to the last whole atom."""
    if b.startswith(a) or a.startswith(b):
        return min(len(a), len(b))
    same = shared(a, b)
    ends = {*atoms(a, control)} & {*atoms(b, control)}
    return max((end for end in ends if end <= same), default=0)


def shared(a: str, b: str) -> int:
    """How many characters two texts share at their beginning."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))
