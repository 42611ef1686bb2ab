"""A task as a small YAML file: where its rows come from, how a row is asked, and how the answer is scored.

    name: gsm8k
    version: 1
    about: Grade-school maths problems, answered in words.
    data: {path: gsm8k/test.jsonl, shots: gsm8k/train.jsonl.gz, hub: openai/gsm8k}
    kind: generate
    prompt: "Question: {{ question }}\\nAnswer:"
    target: " {{ answer }}"
    shots: 5
    stop: ["\\nQuestion:"]
    score: numeric
    metrics: [exact_match]

Texts are templates in the language of chat templates (Jinja, run by `text.jinja`), whose variables are the row's fields and `chat`
(whether a chat format writes the prompt). A setting that is one expression, such as `choices: "{{ options }}"`, keeps the value: a
list stays a list.

Kinds of task, by what the model is asked for:
    generate   a continuation of the prompt, given to a scorer (`evaluate.scorers`) with the row
    choices    the log-probability of each of `choices` behind the prompt; acc: the right one is the likeliest; acc_norm: the
               same by log-probability a byte; mass: the share of probability that the right ones have among the choices
    pairs      the same of two texts, of which `good` is to be likelier
    rolling    the log-probability of a whole text (`target`)
    answer     the log-probability of a given answer (`target`) behind the prompt
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Tag

from orrery.evaluate.template import check_template
from orrery.kit.config import config, read_yaml, resolve
from orrery.kit.errors import OrreryError, suggest

Kind = Literal["generate", "choices", "pairs", "rolling", "answer"]
TASKS = Path(__file__).parent / "tasks"
METRICS: Mapping[Kind, tuple[str, ...]] = {
    "generate": (),
    "choices": ("acc", "acc_norm", "mass"),
    "pairs": ("acc", "acc_norm", "mass"),
    "rolling": ("bits_per_byte", "byte_perplexity", "word_perplexity"),
    "answer": ("bits_per_byte", "byte_perplexity", "word_perplexity"),
}
"""What the runner itself measures; the metrics of a generate task are the names its scorer gives."""


@config
class Join:
    """Further fields from another file: those of the row whose field `on` has the same value.

    They become one field `name`, a mapping; without a name they are added to the row, whose own fields stay.
    """

    path: str
    on: str
    name: str = ""


@config
class Files:
    """Rows from JSON-lines files (.jsonl, .jsonl.gz) below the folder given by --data.

    path, shots: one path or several, globs allowed; `shots` are the rows that demonstrations come from (without any, other rows of
    the task itself).
    hub: the data set on the Hugging Face hub that the files were made from, told to whoever lacks them.
    fields: new name: old name. join: further fields. shape: a function of `evaluate.shapes` that turns a published row into the fields
    asked with. keep, keep_shots: an expression; rows for which it is false are left out.
    """

    path: str | tuple[str, ...]
    shots: str | tuple[str, ...] = ()
    hub: str = ""
    fields: dict[str, str] = field(default_factory=dict)
    join: Join | tuple[Join, ...] = ()
    shape: str = ""
    keep: str = ""
    keep_shots: str = ""

    def __post_init__(self) -> None:
        check_template(self.keep)
        check_template(self.keep_shots)


@config
class Generated:
    """Rows made by `evaluate.generators`: `n` of them from `seed`; demonstrations are made from another seed."""

    generator: str
    n: int = 200
    seed: int = 0
    difficulty: int = 1
    settings: dict[str, Any] = field(default_factory=dict)


def _source(data: Any) -> str:
    made = "generator" in data if isinstance(data, Mapping) else isinstance(data, Generated)
    return "made" if made else "read"


Data = Annotated[Annotated[Files, Tag("read")] | Annotated[Generated, Tag("made")], Discriminator(_source)]


@config
class Pair:
    """Two texts of which the first is to be likelier; behind the prompt, where the task has one."""

    good: str
    bad: str


@config
class Task:
    """One task. `version` goes up with every change that can change a score.

    Attributes:
        prompt: what is asked, up to where the answer begins. For rolling tasks it is not used.
        follow_ups: further turns of a chat, each asked after the answer to the one before; the last answer is scored and the row's
            field `turns` holds all of them.
        target: the right answer as a demonstration shows it, with the space before it; a generate task's gold; the text of a
            rolling task.
        choices, choice: the possible answers (an expression that gives a list, or a list of templates), and how one of them is
            written as a continuation, with the space before it. answer: the right one, as index or text, or a list of right ones.
        preamble: stands before everything else (in the system message of a chat). system: the system message.
        shots: how many demonstrations; shots_by: a field that they share with the row; shots_from: the first ones, or drawn
            by (seed, row). fixed_shots: demonstrations as text, instead of drawn ones. delimiter: what stands between them.
        chat: whether the model's chat format writes the prompt; auto: for generate and answer tasks, where the model
            has one.
        tools: an expression that gives the tools told to the chat format.
        stop: texts that end a base model's answer; in a chat the end of the turn does, and these are not used.
        max_tokens, temperature, samples: how to generate; `samples` answers a row (pass@k, majority).
        score: the scorer of a generate task. metrics: what is reported (empty: all that there is).
        groups: a field by which results are broken down; their mean, each group counting once, is the macro average.
    """

    name: str
    version: int | str
    about: str
    paper: str = ""
    licence: str = ""
    data: Data
    kind: Kind
    prompt: str = ""
    follow_ups: tuple[str, ...] = ()
    target: str = ""
    choices: str | tuple[str, ...] = ()
    choice: str = "{{ choice }}"
    answer: str = ""
    pair: Pair | None = None
    preamble: str = ""
    system: str = ""
    shots: int = 0
    shots_by: str = ""
    shots_from: Literal["first", "random"] = "first"
    fixed_shots: str = ""
    delimiter: str = "\n\n"
    chat: Literal["auto"] | bool = "auto"
    tools: str = ""
    stop: tuple[str, ...] = ()
    max_tokens: int = 256
    temperature: float = 0.0
    samples: int = 1
    score: str = ""
    metrics: tuple[str, ...] = ()
    groups: str = ""

    def __post_init__(self) -> None:
        needs = {
            "generate": {"prompt": self.prompt, "score": self.score},
            "choices": {"choices": self.choices, "answer": self.answer},
            "pairs": {"pair": self.pair},
            "rolling": {"target": self.target},
            "answer": {"prompt": self.prompt, "target": self.target},
        }[self.kind]
        for name, value in needs.items():
            if not value:
                raise OrreryError(f"a task of kind {self.kind} needs '{name}'")
        if self.shots and not self.target and not self.fixed_shots:
            raise OrreryError("demonstrations (shots) need 'target', the right answer as they show it")
        if self.kind != "generate" and (unknown := set(self.metrics) - set(METRICS[self.kind])):
            name = min(unknown)
            raise OrreryError(
                f"a task of kind {self.kind} has no metric '{name}'.{suggest(name, METRICS[self.kind])}"
            )
        if self.samples > 1 and self.temperature == 0:
            raise OrreryError("several samples of a row need a temperature above 0: they would all be equal")
        if self.samples > 1 and self.follow_ups:
            raise OrreryError("a task with follow_ups goes on from one answer; leave samples at 1")
        texts = [
            self.prompt,
            *self.follow_ups,
            self.target,
            self.choice,
            self.answer,
            self.preamble,
            self.system,
        ]
        choices = [self.choices] if isinstance(self.choices, str) else self.choices
        pair = () if self.pair is None else (self.pair.good, self.pair.bad)
        for text in (*texts, *choices, *pair, self.fixed_shots, self.tools):
            check_template(text)

    @property
    def generated(self) -> bool:
        """Whether its rows are made on the spot and nothing is read."""
        return isinstance(self.data, Generated)


def read_task(path: Path) -> Task:
    """A task file.

    Raises:
        OrreryError: no such file, or it is no task: names every wrong setting.
    """
    return resolve(Task, read_yaml(path), where=str(path))


def find_task(name: str) -> Task:
    """A task by the name of its file in this package, or by the path of a YAML file.

    Raises:
        OrreryError: there is none.
    """
    path = Path(name)
    if path.suffix in (".yaml", ".yml"):
        return read_task(path)
    if name not in (known := task_names()):
        raise OrreryError(f"no task '{name}'; `orrery eval list` shows them.{suggest(name, known)}")
    return read_task(TASKS / f"{name}.yaml")


def task_names() -> list[str]:
    """The tasks of this package."""
    return sorted(path.stem for path in TASKS.glob("*.yaml"))
