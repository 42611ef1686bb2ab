"""What is asked, and what models answered, in the files that MT-Bench has (Zheng et al. 2023, arXiv:2306.05685).

A question has one turn or more; each is asked with the turns before it and the model's own answers to them. Answers are read and
written as `{"question_id", "model_id", "choices": [{"turns": [...]}]}`, so that published answers of other models can be judged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from orrery.kit.chat import ChatModel, ReplySettings
from orrery.kit.errors import OrreryError
from orrery.kit.json_lines import read_rows, write_rows

TEMPERATURES = {
    "writing": 0.7, "roleplay": 0.7, "stem": 0.1, "humanities": 0.1, "extraction": 0.0, "math": 0.0, "coding": 0.0, "reasoning": 0.0,
}  # fmt: skip
"""At what temperature MT-Bench has its categories answered."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """`turns` are asked one after another; `reference` has a right answer to each, or is empty."""

    id: str
    turns: tuple[str, ...]
    category: str = ""
    reference: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What one model answered: by question, a text for each turn. Questions it failed on are missing."""

    model: str
    texts: Mapping[str, tuple[str, ...]]


def read_questions(path: str | Path, references: str | Path | None = None) -> list[Question]:
    """The questions of a JSON-lines file: `turns` (a list), or one turn as `prompt`, `question` or `instruction`.

    Args:
        references: right answers in the format of answers. None: `reference_answer.jsonl` beside the questions, where it is.

    Raises:
        OrreryError: a file that cannot be read, or a line without a question.
    """
    path = Path(path)
    beside = path.with_name("reference_answer.jsonl")
    if references is None and beside.is_file():
        references = beside
    known = read_answers(references).texts if references is not None else {}
    made = []
    for number, row in enumerate(read_rows(path), start=1):
        id = str(row.get("question_id", row.get("id", number)))
        made.append(
            Question(
                id=id,
                turns=_turns(row, f"'{path}' line {number}"),
                category=str(row.get("category", "")),
                reference=known.get(id) or _texts(row.get("reference")),
            )
        )
    if not made:
        raise OrreryError(f"'{path}' holds no question")
    return made


def read_answers(path: str | Path) -> Answers:
    """One model's answers.

    Raises:
        OrreryError: a file that cannot be read, or a line that is no answer.
    """
    rows, texts, model = read_rows(path), {}, Path(path).stem
    for number, row in enumerate(rows, start=1):
        try:
            texts[str(row["question_id"])] = tuple(str(turn) for turn in row["choices"][0]["turns"])
        except (KeyError, IndexError, TypeError):
            raise OrreryError(
                f"'{path}' line {number} is no answer; it needs question_id and choices[0].turns"
            ) from None
        model = str(row.get("model_id", model))
    return Answers(model=model, texts=texts)


def write_answers(path: str | Path, answers: Answers) -> None:
    """Write them as `read_answers` reads them."""
    write_rows(
        path,
        (
            {"question_id": id, "model_id": answers.model, "choices": [{"index": 0, "turns": list(turns)}]}
            for id, turns in answers.texts.items()
        ),
    )


def ask(
    model: ChatModel, questions: Sequence[Question], *, settings: ReplySettings | None = None
) -> tuple[Answers, dict[str, str]]:
    """A model's answers to all turns of all questions, and why for those it could not answer.

    Args:
        settings: None: at most 1024 tokens a turn, at the temperature that MT-Bench gives the category, or greedily.
    """
    made: dict[str, list[str]] = {question.id: [] for question in questions}
    faults: dict[str, str] = {}
    for temperature, group in _by_temperature(questions, settings).items():
        with_it = replace(settings or ReplySettings(), temperature=temperature)
        for turn in range(max(len(question.turns) for question in group)):
            asked = [q for q in group if turn < len(q.turns) and q.id not in faults]
            replies = model.reply([conversation(q.turns[: turn + 1], made[q.id]) for q in asked], with_it)
            for question, reply in zip(asked, replies, strict=True):
                if reply.fault:
                    faults[question.id] = reply.fault
                else:
                    made[question.id].append(reply.text)
    texts = {id: tuple(turns) for id, turns in made.items() if id not in faults}
    return Answers(model=model.name, texts=texts), faults


def conversation(turns: Sequence[str], answers: Sequence[str]) -> list[dict[str, Any]]:
    """The messages of a question up to its last turn, with the answers so far between them."""
    messages = []
    for i, turn in enumerate(turns):
        messages.append({"role": "user", "content": turn})
        if i < len(turns) - 1:
            messages.append({"role": "assistant", "content": answers[i]})
    return messages


def _by_temperature(
    questions: Sequence[Question], settings: ReplySettings | None
) -> dict[float, list[Question]]:
    groups: dict[float, list[Question]] = {}
    for question in questions:
        usual = TEMPERATURES.get(question.category, 0.0)
        groups.setdefault(usual if settings is None else settings.temperature, []).append(question)
    return groups


def _turns(row: Mapping[str, Any], where: str) -> tuple[str, ...]:
    for name in ("turns", "prompt", "question", "instruction"):
        if turns := _texts(row.get(name)):
            return turns
    raise OrreryError(f"{where} asks nothing; give it turns (a list of texts), or prompt")


def _texts(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        return (value,) if value else ()
    return tuple(str(item) for item in value) if isinstance(value, list) else ()
