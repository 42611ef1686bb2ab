"""Answers with a verdict on every step, and how files spell them.

stepwise        {"prompt", "steps" or "completions": [...], "labels": [...]}: true and false, or shares     TRL
Math-Shepherd   {"input": "... Step 1: ... MARK\nStep 2: ... MARK", "label": the same with + or - for the mark}
PRM800K         {"question": {"problem"}, "label": {"steps": [{"completions": [{"text", "rating"}]}]}}: -1, 0, 1

Lightman et al. 2023, arXiv:2305.20050; Wang et al. 2023, arXiv:2312.08935.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orrery.kit.errors import OrreryError
from orrery.tune.dialogue import Dialogue, fingerprint, kind_of
from orrery.tune.preference.pairs import PreferenceSet
from orrery.tune.preference.records import Messages
from orrery.tune.rows import Row, read_rows
from orrery.tune.shapes import renamed
from orrery.tune.turns import openai_turns

MARK = "ки"
"""What Math-Shepherd writes where a step is to be judged."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stepped:
    """An answer to `messages` in steps. `labels` are in [0, 1]: right, wrong, or the share of continuations that came out right."""

    messages: Messages
    steps: tuple[str, ...]
    labels: tuple[float, ...]
    where: str

    def question(self) -> bytes:
        """Names what is asked, for the split."""
        answer = {"role": "assistant", "content": ""}
        return fingerprint(
            Dialogue((*self.messages, answer), self.where, (), frozenset(range(len(self.messages))))
        )

    def row(self) -> dict[str, Any]:
        """As a line of a file."""
        return {"messages": list(self.messages), "steps": list(self.steps), "labels": list(self.labels)}


def read_stepped(cfg: PreferenceSet, root: Path) -> list[Stepped]:
    """The rows of a set.

    Raises:
        OrreryError: a row of no known shape, or with another number of labels than of steps (names the place).
    """
    found: list[Stepped] = []
    for row in (row for file in cfg.files(root) for row in read_rows(file)):
        try:
            found.append(stepped(renamed(row, cfg.fields)))
        except OrreryError:
            if cfg.bad_rows == "error":
                raise
    if not found:
        raise OrreryError(f"the set '{cfg.called}' has no answer with labelled steps; look at its files")
    return found[: cfg.limit]


def stepped(row: Row) -> Stepped:
    """A row of any of the shapes.

    Raises:
        OrreryError: it is none of them.
    """
    fields, where = row.fields, row.where
    if isinstance(fields.get("input"), str) and isinstance(fields.get("label"), str):
        question, steps, labels = _marked(fields["input"], fields["label"], where)
    elif isinstance(fields.get("question"), Mapping) and isinstance(fields.get("label"), Mapping):
        question, steps, labels = _rated(fields, where)
    else:
        question, steps, labels = _stepwise(fields, where)
    if not steps or len(steps) != len(labels):
        raise OrreryError(f"{where}: {len(steps)} steps and {len(labels)} labels; give each step one label")
    if not all(step.strip() for step in steps):
        raise OrreryError(f"{where}: a step is empty; write it or remove it with its label")
    if not all(0 <= label <= 1 for label in labels):
        raise OrreryError(f"{where}: labels of steps are true or false, or shares between 0 and 1")
    if isinstance(question, str):
        messages: Messages = ({"role": "user", "content": question},)
    else:
        messages = openai_turns(question, where, "messages")[0]
    return Stepped(messages=messages, steps=tuple(steps), labels=tuple(map(float, labels)), where=where)


Read = tuple[Any, Sequence[str], Sequence[float]]


def _stepwise(fields: Mapping[str, Any], where: str) -> Read:
    asked = next((name for name in ("prompt", "messages", "question") if name in fields), None)
    given = next((name for name in ("steps", "completions") if isinstance(fields.get(name), list)), None)
    labels = fields.get("labels")
    if asked is None or given is None or not isinstance(labels, list):
        raise OrreryError(
            f"{where}: no answer with labelled steps (its fields are {', '.join(map(str, fields)) or 'none'}); give prompt, steps and labels"
        )
    if not all(isinstance(label, bool | int | float) for label in labels):
        raise OrreryError(f"{where}: 'labels' holds something that is no label; give true, false or a number")
    if not all(isinstance(step, str) for step in fields[given]):
        raise OrreryError(f"{where}: '{given}' holds something that is no text")
    return fields[asked], fields[given], labels


def _marked(text: str, labels: str, where: str) -> Read:
    parts = text.split(MARK)
    question, found, first = parts[0].partition("Step 1:")
    if len(parts) < 2 or not found:
        raise OrreryError(f"{where}: 'input' has no 'Step 1:' or no mark '{MARK}' behind a step")
    steps = [f"Step 1:{first}".strip(), *(part.strip() for part in parts[1:])]
    steps = [step for step in steps if step]
    lines = [line.rstrip() for line in re.split(r"\n(?=Step \d+:)", labels)]
    signs = [line[-1:] for line in lines]
    if any(sign not in ("+", "-") for sign in signs):
        raise OrreryError(f"{where}: a step of 'label' ends with neither + nor -")
    return question.strip(), steps, [float(sign == "+") for sign in signs]


def _rated(fields: Mapping[str, Any], where: str) -> Read:
    """PRM800K: the completion that was gone on with, or the first; steps stop at the first that is wrong, neutral counts as right."""
    steps: list[str] = []
    labels: list[float] = []
    given = fields["label"].get("steps")
    if not isinstance(given, list):
        raise OrreryError(f"{where}: 'label.steps' is {kind_of(given)}; a list is needed")
    for step in given:
        choices, chosen = step.get("completions") or [], step.get("chosen_completion")
        if not choices:
            break
        completion = choices[chosen if isinstance(chosen, int) else 0]
        if completion.get("rating") is None:
            break
        steps.append(str(completion["text"]))
        labels.append(float(completion["rating"] >= 0))
        if completion["rating"] < 0:
            break
    return str(fields["question"].get("problem", "")), steps, labels
