"""The loop: show eight tasks, take what comes, until there are enough; then cases of each.

Nothing is kept but what the model said (`records`): a run that was killed reads that again and so finds the same pool of tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from orrery.kit.config import config
from orrery.kit.errors import OrreryError
from orrery.kit.seeds import key
from orrery.tune.selfdata.account import Account, Made, example, mean
from orrery.tune.selfdata.self_instruct.filters import KEYWORDS, Pool, instance_fault, instruction_fault
from orrery.tune.selfdata.self_instruct.prompts import (
    NO,
    STOPS_INSTANCE,
    STOPS_TASKS,
    YES,
    input_first,
    label_task,
    new_tasks,
    output_first,
    read_instance,
    read_instructions,
)
from orrery.tune.selfdata.self_instruct.tasks import Task, read_tasks
from orrery.tune.selfdata.speaker import NO_ROOM, Ask, Speaker, Speech, question

KNOWN = 32
"""Seed tasks, at most, that are asked about to see how the model says yes and no."""
SHOWN_WORDS = 80
"""Longer cases are not shown before others: they would take the room of the model's context."""


@config
class SelfInstruct:
    """New tasks from old ones.

    Attributes:
        seeds: JSON-lines files of tasks that people wrote, below the stage's `data_root`.
        instructions: how many new ones are wanted. asks: lists that are continued in a round; rounds: at most so many.
        shown, shown_new: tasks in a list, and how many of them the model may have written.
        similarity: ROUGE-L F1 with a task there is, from which on a new one is too like it.
        least_words, most_words: of an instruction. keywords: words whose tasks are left out.
        demonstrations: seed tasks shown before a new task's case is written: the same before all, so that they are read once.
        instances: cases drawn of each task.
        classification: how tasks with labels are found: by the model's own yes or no, or none is one.
    """

    kind: Literal["self-instruct"] = "self-instruct"
    seeds: tuple[str, ...]
    instructions: Annotated[int, Field(ge=1)] = 100
    asks: Annotated[int, Field(ge=1)] = 16
    rounds: Annotated[int, Field(ge=1)] = 50
    shown: Annotated[int, Field(ge=2)] = 8
    shown_new: Annotated[int, Field(ge=0)] = 2
    similarity: Annotated[float, Field(gt=0, le=1)] = 0.7
    least_words: int = 3
    most_words: int = 150
    keywords: tuple[str, ...] = KEYWORDS
    demonstrations: Annotated[int, Field(ge=1)] = 4
    instances: Annotated[int, Field(ge=1)] = 1
    classification: Literal["ask", "none"] = "ask"


def sample_instructions(cfg: SelfInstruct, speaker: Speaker, speech: Speech, *, root: Path) -> Made:
    """Write new tasks and cases of them.

    Raises:
        OrreryError: there are too few seed tasks, or their files cannot be read.
    """
    seeds = [task for path in cfg.seeds for task in read_tasks(root / Path(path).expanduser())]
    if len(seeds) < cfg.shown:
        raise OrreryError(
            f"the seeds are {len(seeds)} tasks; a list shows {cfg.shown}, so write more or set a smaller `shown`"
        )
    account = Account()
    new = grow(cfg, [seed.instruction for seed in seeds], speaker, speech, account)
    labelled = labels(cfg, new, seeds, speaker, account)
    examples = cases(cfg, new, labelled, seeds, speaker, speech, account)
    account.numbers |= {
        "instructions": len(new),
        "classification": mean([float(flag) for flag in labelled]),
    }
    return Made(examples=tuple(examples), account=account)


def grow(cfg: SelfInstruct, seeds: Sequence[str], speaker: Speaker, speech: Speech, account: Account) -> list[str]:  # fmt: skip
    """New instructions, each unlike the seeds and the ones before it."""
    speech = replace(speech, stop=(*speech.stop, *STOPS_TASKS))
    pool, new, nearness = Pool(seeds), list[str](), list[float]()
    for round_ in range(cfg.rounds):
        asks = [
            Ask(("tasks", round_, i), question(new_tasks(_shown(cfg, seeds, new, speaker.seed, round_, i))))
            for i in range(cfg.asks)
        ]
        for (said,) in speaker.answers(asks, speech):
            if said.fault == NO_ROOM:
                raise OrreryError(
                    f"a list of {cfg.shown} tasks fills the model's context of {speaker.subject.context}; set a smaller `shown`"
                )
            for text in read_instructions(said.text, whole=said.whole):
                fault = instruction_fault(
                    text, least=cfg.least_words, most=cfg.most_words, keywords=cfg.keywords
                )
                near = pool.nearest(text).similarity if fault is None else 0.0
                if fault is None and near >= cfg.similarity:
                    fault = "too like one there is"
                if fault is None and len(new) == cfg.instructions:
                    fault = "more than are wanted"
                if fault is not None:
                    account.drop(f"instruction: {fault}")
                    continue
                nearness.append(near)
                pool.add(text)
                new.append(text)
        if len(new) == cfg.instructions:
            break
    account.numbers |= {"rounds": round_ + 1, "nearest_rouge_l": mean(nearness)}
    return new


def labels(
    cfg: SelfInstruct, new: Sequence[str], seeds: Sequence[Task], speaker: Speaker, account: Account
) -> list[bool]:
    """Whether each task sorts under labels: by the share of yes, against what the model says of seeds that it was not shown, whose labels
    are known. A small model may say yes to everything, and still say it louder where it is true."""
    if cfg.classification == "none":
        return [False] * len(new)
    shown = _mixed(seeds, 2 * cfg.demonstrations, speaker.seed)
    known = _mixed([seed for seed in seeds if seed not in shown], KNOWN, speaker.seed)
    texts = [*new, *(task.instruction for task in known)]
    asks = [Ask(("labels", text), question(label_task(text, shown))) for text in texts]
    shares = [0.0 if said is None else said[0] for said in speaker.choice(asks, (YES, NO))]
    judged = list(zip(shares[len(new) :], (task.classification for task in known), strict=True))
    means = [mean([share for share, flag in judged if flag == which]) for which in (False, True)]
    low, high = means
    between = 0.5 if low is None or high is None else (low + high) / 2
    account.numbers["label_accuracy"] = mean([float((share > between) == flag) for share, flag in judged])
    return [share > between for share in shares[: len(new)]]


def cases(
    cfg: SelfInstruct, new: Sequence[str], labelled: Sequence[bool], seeds: Sequence[Task], speaker: Speaker, speech: Speech,
    account: Account,
) -> list[dict[str, Any]]:  # fmt: skip
    """Rows of the tasks, inputs and outputs as the model writes them."""
    speech = replace(speech, stop=(*speech.stop, *STOPS_INSTANCE))
    usable = [seed for seed in seeds if seed.instances and _size(seed) <= SHOWN_WORDS] or list(seeds)
    shown = {
        flag: _some([s for s in usable if s.classification == flag] or usable, cfg.demonstrations, speaker.seed)
        for flag in (False, True)
    }  # fmt: skip
    asks = [
        Ask(("case", text), question((output_first if flag else input_first)(text, shown[flag])), n=cfg.instances)
        for text, flag in zip(new, labelled, strict=True)
    ]  # fmt: skip
    rows = []
    for text, flag, answers in zip(new, labelled, speaker.answers(asks, speech), strict=True):
        inputs: set[str] = set()
        for said in answers:
            found = read_instance(said.text, label_first=flag) if said.fault is None else None
            if found is None:
                fault = said.fault or "not in its form"
            elif found.input in inputs:
                fault = "an input there is"
            else:
                fault = instance_fault(text, found.input, found.output)
            if found is None or fault is not None:
                account.drop(f"instance: {fault}")
                continue
            inputs.add(found.input)
            account.keep()
            asked = f"{text}\n\n{found.input}" if found.input else text
            rows.append(example(question(asked), {"content": found.output}))
    return rows


def _shown(cfg: SelfInstruct, seeds: Sequence[str], new: Sequence[str], seed: int, *place: int) -> list[str]:
    """The tasks of one list: some of the model's own among people's, in an order of its own."""
    own = _some(new, min(cfg.shown_new, len(new)), seed, "own", *place)
    both = [*own, *_some(seeds, cfg.shown - len(own), seed, "seed", *place)]
    return _some(both, len(both), seed, "order", *place)


def _mixed(seeds: Sequence[Task], n: int, seed: int) -> list[Task]:
    """Tasks with labels and without, as many of each as there are, at most n in all."""
    halves = [_some([s for s in seeds if s.classification == flag], n // 2, seed) for flag in (True, False)]
    return _some([task for half in halves for task in half], n, seed, "mixed")


def _size(task: Task) -> int:
    """Words of its first case."""
    return len(f"{task.instances[0].input} {task.instances[0].output}".split())


def _some(of: Sequence[Any], n: int, seed: int, *parts: int | str) -> list[Any]:
    """n of them, by the seed."""
    order = sorted(range(len(of)), key=lambda i: key(seed, "shown", *parts, i))
    return [of[i] for i in order[:n]]
