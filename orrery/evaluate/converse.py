"""Generated answers: a request for each row, further turns behind its answer, and the text that is scored."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from orrery.evaluate.boundary import Bos, alone, beginning, make_room
from orrery.evaluate.prompts import Message, Prompt
from orrery.evaluate.subject import Subject, text_of
from orrery.evaluate.task import Task
from orrery.kit.lm import Completion, GenerateRequest, Sampling
from orrery.kit.seeds import key

if TYPE_CHECKING:
    from orrery.evaluate.measure import Asked


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a model said to one row.

    Attributes:
        prompt: the text it saw last. texts: its last answer, and the further samples of it. turns: its answer to each turn.
        truncated: tokens of the prompt that it could not see. detail: tokens made, and how the answers ended.
        fault: why there is no answer; else empty.
    """

    prompt: str
    texts: tuple[str, ...]
    turns: tuple[str, ...]
    truncated: int
    detail: Mapping[str, Any]
    fault: str = ""


@dataclass
class _Talk:
    """A row under way: its place, what has been said, and the ids to go on from."""

    place: int
    prompt: Prompt
    text: str
    messages: tuple[Message, ...] | None
    turns: tuple[str, ...] = ()
    truncated: int = 0


def answers(
    task: Task, subject: Subject, asked: Sequence[Asked], *, bos: Bos, seed: int
) -> Iterator[tuple[int, Answer]]:
    """The answer to each row, by its place, as they become ready. A row's randomness is its own: (seed, row).

    Raises:
        OrreryError: the model has no chat format where one is wanted, or a request is refused.
    """
    talks = [_Talk(i, one.prompt, one.prompt.text, one.prompt.messages) for i, one in enumerate(asked)]
    start = beginning(subject.tokenizer, bos)
    turns = len(task.follow_ups) + 1
    for turn in range(turns):
        requests = [
            _request(task, subject, talk, start, key(seed, asked[talk.place].row.key)) for talk in talks
        ]
        for i, completion in subject.generate(requests):
            talk = talks[i]
            texts = tuple(_said(subject, talk, one) for one in (completion, *completion.others))
            talk.turns = (*talk.turns, texts[0])
            if turn + 1 == turns:
                yield talk.place, _answer(talk, texts, completion)
            else:
                _go_on(task, talk, texts[0], talk.prompt.follow_ups[turn])


def _request(task: Task, subject: Subject, talk: _Talk, start: list[int], seed: int) -> GenerateRequest:
    """The request for the next turn; a prompt longer than the context loses its beginning."""
    if talk.messages is None:
        ids = [*start, *subject.tokenizer.encode(talk.text)]
    else:
        ids = subject.chat_ids(talk.messages, talk.prompt.tools)
        start = [id for id in ids[:1] if id == subject.tokenizer.bos_id]
    ids = ids or alone(subject.tokenizer)
    ids, max_tokens, cut = make_room(ids, task.max_tokens, limit=subject.context, start=start)
    talk.truncated += cut
    return GenerateRequest(
        ids=ids,
        max_tokens=max_tokens,
        sampling=Sampling(temperature=task.temperature, seed=seed),
        stop=task.stop if talk.messages is None else (),
        n=task.samples,
    )


def _said(subject: Subject, talk: _Talk, completion: Completion) -> str:
    """The answer as text: of a chat without its reasoning; calls of tools, where there are any, as a JSON list."""
    if talk.messages is None:
        return text_of(subject.tokenizer, completion)
    message = subject.chat_format().parse(completion.ids)
    calls = [_call(call) for call in message.get("tool_calls") or ()]
    text = str(message.get("content") or "")
    return (
        text if not calls else (text + "\n" if text.strip() else "") + json.dumps(calls, ensure_ascii=False)
    )


def _call(call: Mapping[str, Any]) -> dict[str, Any]:
    called = call.get("function", call)
    arguments = called["arguments"]
    return {
        "name": called["name"],
        "arguments": json.loads(arguments) if isinstance(arguments, str) else arguments,
    }


def _go_on(task: Task, talk: _Talk, said: str, more: str) -> None:
    talk.text += said + task.delimiter + more
    if talk.messages is not None:
        spoken = {"role": "assistant", "content": said}
        talk.messages = (*talk.messages, spoken, {"role": "user", "content": more})


def _answer(talk: _Talk, texts: tuple[str, ...], completion: Completion) -> Answer:
    every = (completion, *completion.others)
    detail: dict[str, Any] = {
        "tokens": sum(len(one.ids) for one in every),
        "finish": [one.finish_reason for one in every],
    }
    if len(texts) > 1:
        detail["samples"] = list(texts)
    if len(talk.turns) > 1:
        detail["turns"] = list(talk.turns)
    return Answer(prompt=talk.text, texts=texts, turns=talk.turns, truncated=talk.truncated, detail=detail)
