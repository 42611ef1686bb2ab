"""Who answers and who judges, as a person names them on the command line: a model, an endpoint, or a file of answers.

runs/sft                                   a model opened here
http://127.0.0.1:8000                      the first model of an OpenAI-compatible endpoint; URL#NAME another one
answers.jsonl                              what some model answered before
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from orrery.evaluate.judge.questions import Answers, Question
    from orrery.kit.chat import ChatModel

WHO = "A model (folder, .gguf, hub id in the local cache), an endpoint's URL (URL#NAME for one of its models)"
ANSWERER = f"{WHO}, or a .jsonl file of answers."


def chat_model(who: str) -> ChatModel:
    """Somebody who replies.

    Raises:
        OrreryError: no such model or endpoint.
    """
    from orrery.kit.log import console

    if who.startswith(("http://", "https://")):
        from orrery.serve.remote import RemoteChat

        url, _, name = who.partition("#")
        return RemoteChat(url, model=name or None)
    import orrery
    from orrery.serve.chat_model import LocalChat

    with console.status(f"opening {who} ..."):
        path = Path(who)
        return LocalChat(orrery.load(path), name=path.name.removesuffix(".gguf") or path.resolve().name)


def answers_of(whose: Sequence[str], questions: Sequence[Question], *, max_tokens: int) -> list[Answers]:
    """What each of them answers, one after another; two of the same name are told apart by a number.

    Raises:
        OrreryError: one cannot be opened, or answers nothing.
    """
    made: list[Answers] = []
    for who in whose:
        answers = _answers(who, questions, max_tokens)
        taken = {other.model for other in made}
        names = [answers.model, *(f"{answers.model}-{n}" for n in range(2, len(whose) + 2))]
        made.append(replace(answers, model=next(name for name in names if name not in taken)))
    return made


def _answers(who: str, questions: Sequence[Question], max_tokens: int) -> Answers:
    from orrery.evaluate.judge.questions import ask, read_answers
    from orrery.kit.chat import ReplySettings
    from orrery.kit.errors import OrreryError
    from orrery.kit.log import console

    if who.endswith((".jsonl", ".jsonl.gz")):
        return read_answers(who)
    model = chat_model(who)
    with console.status(f"{model.name} answers {len(questions)} questions ..."):
        made, faults = ask(model, questions, settings=ReplySettings(max_tokens=max_tokens))
    if not made.texts:
        raise OrreryError(f"{model.name} answered no question: {next(iter(faults.values()))}")
    if faults:
        console.print(
            f"{model.name} could not answer {len(faults)} of {len(questions)} questions: {next(iter(faults.values()))}",
            highlight=False,
        )
    return made
