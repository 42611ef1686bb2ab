"""What a model is asked: a row as one text with demonstrations before it, or as the messages of a chat.

    text   system, preamble, then for each demonstration prompt + target, then the row's prompt, with delimiters between
    chat   a system message (system and preamble), a turn of user and assistant for each demonstration, the row's prompt

What a task asks with changes its score, so the whole prompt is kept with every answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orrery.evaluate.task import Task
from orrery.evaluate.template import render, value
from orrery.kit.errors import OrreryError

Message = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """One row, asked.

    Attributes:
        text: the whole prompt as text; of a chat, the messages' texts below each other, for reading only.
        messages: of a chat, else None. tools: what the chat format is told of.
        own: the row's own part, without demonstrations. target: the right answer as the task writes it.
        choices: the continuations that are compared, and `bare`, the same without the template around them.
        gold: the places of the right ones. follow_ups: what is said after each answer.
    """

    text: str
    own: str
    target: str = ""
    messages: tuple[Message, ...] | None = None
    tools: tuple[Any, ...] = ()
    choices: tuple[str, ...] = ()
    bare: tuple[str, ...] = ()
    gold: tuple[int, ...] = ()
    follow_ups: tuple[str, ...] = ()


def ask(task: Task, row: Mapping[str, Any], shots: Sequence[Mapping[str, Any]], *, chat: bool) -> Prompt:
    """The prompt for one row after these demonstrations.

    Raises:
        OrreryError: a template needs a field that the row lacks.
    """
    fields = {**row, "chat": chat}
    own = render(task.prompt, fields)
    demonstrations = [
        (render(task.prompt, {**shot, "chat": chat}), render(task.target, {**shot, "chat": chat}))
        for shot in shots
    ]
    system, preamble = render(task.system, fields), render(task.preamble, fields)
    fixed = render(task.fixed_shots, fields)
    if fixed:
        demonstrations, before = [], fixed + task.delimiter
    else:
        before = ""
    choices, bare, gold = _choices(task, fields)
    messages = None
    if chat:
        messages = _messages(system, preamble, demonstrations, before + own)
        text = "\n\n".join(f"[{message['role']}]\n{message['content']}" for message in messages)
    else:
        head = (system + task.delimiter if system else "") + preamble
        shown = "".join(question + answer + task.delimiter for question, answer in demonstrations)
        text = head + shown + before + own
    return Prompt(
        text=text,
        own=own,
        target="" if task.kind != "generate" and not task.target else render(task.target, fields),
        messages=messages,
        tools=tuple(value(task.tools, fields)) if task.tools else (),
        choices=tuple(choice.lstrip() for choice in choices) if chat else choices,
        bare=bare,
        gold=gold,
        follow_ups=tuple(render(turn, fields) for turn in task.follow_ups),
    )


def _messages(
    system: str, preamble: str, demonstrations: Sequence[tuple[str, str]], question: str
) -> tuple[Message, ...]:
    """A chat; what a demonstration answers stands without the space that joins it to a text."""
    told = "\n\n".join(part.strip() for part in (system, preamble) if part.strip())
    turns: list[Message] = [{"role": "system", "content": told}] if told else []
    for asked, answered in demonstrations:
        turns += [
            {"role": "user", "content": asked},
            {"role": "assistant", "content": answered.strip()},
        ]
    return (*turns, {"role": "user", "content": question})


def _choices(
    task: Task, fields: Mapping[str, Any]
) -> tuple[tuple[str, ...], tuple[str, ...], tuple[int, ...]]:
    """What is compared, bare and as continuations, and which of it is right."""
    if task.pair is not None:
        pair = (render(task.pair.good, fields), render(task.pair.bad, fields))
        return pair, pair, (0,)
    if task.kind == "answer":
        target = render(task.target, fields)
        return (target,), (target,), (0,)
    if not task.choices:
        return (), (), ()
    if isinstance(task.choices, str):
        found = value(task.choices, fields)
        if not isinstance(found, list):
            raise OrreryError(f"the task '{task.name}': choices must give a list, not {type(found).__name__}")
        bare = tuple(map(str, found))
    else:
        bare = tuple(render(choice, fields) for choice in task.choices)
    written = tuple(render(task.choice, {**fields, "choice": choice}) for choice in bare)
    right = value(task.answer, fields)
    return written, bare, tuple(_place(one, bare) for one in (right if isinstance(right, list) else [right]))


def _place(answer: Any, bare: Sequence[str]) -> int:
    """Where an answer, an index or a text, stands among the choices; -1 where it does not."""
    if isinstance(answer, str):
        texts = [choice.strip() for choice in bare]
        if answer.strip() in texts:
            return texts.index(answer.strip())
        if not answer.strip().isdigit():
            return -1
    place = int(answer)
    return place if 0 <= place < len(bare) else -1
