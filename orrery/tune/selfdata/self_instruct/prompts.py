"""What the model is shown: lists that it goes on with. A base model continues them; a chat model is asked to.

new tasks      Task 1: ... Task 8: ...  and then  Task 9:
label task?    Task, and Yes or No: by log-probability, nothing is drawn
input first    Task, Input, Output                  what people usually ask
output first   Task, Label, Input                   for classification: asked input first, a model mostly writes inputs of one class
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from orrery.tune.selfdata.self_instruct.tasks import Instance, Task

NONE = "(none)"
YES, NO = "Yes", "No"
STOPS_TASKS = ("\n\n\n", "Task 17:")
STOPS_INSTANCE = ("\nTask:",)
_NUMBER = re.compile(r"^[ \t]*(?:Task[ \t]+)?\d+[ \t]*[:.)][ \t]*", re.MULTILINE | re.IGNORECASE)
_FIELD = re.compile(r"^[ \t]*(Task|Input|Output|Label)[ \t]*:[ \t]*", re.MULTILINE)


def new_tasks(shown: Sequence[str]) -> str:
    """Instructions to be continued by further ones."""
    listed = "\n".join(f"Task {i}: {text}" for i, text in enumerate(shown, start=1))
    return (
        "Below is a list of tasks for an assistant that reads and writes text. All differ in their subject, their form and what they "
        f"ask for. It goes on with new ones, one a line.\n\n{listed}\nTask {len(shown) + 1}:"
    )


def read_instructions(text: str, *, whole: bool) -> list[str]:
    """The instructions of a continued list. whole: the text came to its own end; otherwise its last line is not taken."""
    parts = [" ".join(part.split()) for part in _NUMBER.split(text)]
    parts = parts if whole else parts[:-1]
    return [part for part in parts if part]


def label_task(instruction: str, shown: Sequence[Task]) -> str:
    """Whether the task's outputs are a few labels, by examples."""
    known = "".join(
        f"Task: {task.instruction}\nOnly a few possible outputs: {YES if task.classification else NO}\n\n"
        for task in shown
    )
    return f"Can every output of the task be one of a few labels that are known beforehand?\n\n{known}Task: {instruction}\nOnly a few possible outputs:"


def input_first(instruction: str, shown: Sequence[Task]) -> str:
    """A case of the task, its input first."""
    known = "".join(
        f"Task: {task.instruction}\nInput: {task.instances[0].input or NONE}\nOutput: {task.instances[0].output}\n\n" for task in shown
    )  # fmt: skip
    return f"Each task has an input, where it needs one, and the output that a careful expert writes.\n\n{known}Task: {instruction}\nInput:"


def output_first(instruction: str, shown: Sequence[Task]) -> str:
    """A case of a classification task, its label first."""
    known = "".join(
        f"Task: {task.instruction}\nLabel: {task.instances[0].output}\nInput: {task.instances[0].input or NONE}\n\n" for task in shown
    )  # fmt: skip
    return f"Each task sorts inputs under labels. A label comes first, then an input that belongs to it.\n\n{known}Task: {instruction}\nLabel:"


def read_instance(text: str, *, label_first: bool) -> Instance | None:
    """The input and the output of a continued case; None where one of them is missing."""
    first, second = ("Label", "Input") if label_first else ("Input", "Output")
    parts = _FIELD.split(text)
    fields = dict(zip(parts[1::2], parts[2::2], strict=True)) if parts[1:] else {}
    fields.setdefault(first, parts[0])  # a list that is continued goes on behind its own "Input:"
    if second not in fields:
        return None
    given, output = fields["Input"].strip(), (fields["Label"] if label_first else fields["Output"]).strip()
    return Instance("" if given.lower().strip("().") in ("none", "no input", "n/a", "") else given, output)
