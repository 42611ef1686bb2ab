"""Asking: prompts in, a record for each as it becomes ready, in the order that costs least."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from orrery.evaluate.boundary import Bos, Unanswerable, beginning, fit, split
from orrery.evaluate.converse import answers
from orrery.evaluate.likelihood import Likelihood
from orrery.evaluate.prompts import Prompt
from orrery.evaluate.record import Record, weights_of
from orrery.evaluate.rows import Row
from orrery.evaluate.scorers import ScoreContext, Unscored, find
from orrery.evaluate.strategies.config import Strategy
from orrery.evaluate.strategies.judging import Reward
from orrery.evaluate.strategies.measuring import strategic_answers
from orrery.evaluate.subject import Subject
from orrery.evaluate.task import METRICS, Task

ROWS, TEXTS = 128, 16
"""Rows that are scored, and whole texts that are read, before their records are handed over."""
NOT_FINITE = "the model gave a probability that is no number"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A row and how it is asked."""

    row: Row
    prompt: Prompt

    def record(self, task: Task) -> Record:
        """What is known of the outcome before there is one."""
        group = str(self.row.fields[task.groups]) if task.groups else ""
        return Record(
            id=self.row.id, key=self.row.key, group=group, prompt=self.prompt.text, own=self.prompt.own
        )


@dataclass(frozen=True, kw_only=True)
class How:
    """What is the same for all rows of a run. `strategy`: how answers are made, by one call where None; `reward`: what it may judge by."""

    bos: Bos = "auto"
    seed: int = 0
    batch_tokens: int = 2048
    strategy: Strategy | None = None
    reward: Reward | None = None


def measure(task: Task, subject: Subject, asked: Sequence[Asked], how: How) -> Iterator[Record]:
    """The records of all rows, as they become ready.

    Raises:
        OrreryError: the model cannot be asked like this at all.
    """
    match task.kind:
        case "generate":
            yield from _generated(task, subject, asked, how)
        case "rolling":
            yield from _rolling(task, subject, asked, how)
        case _:
            yield from _compared(task, subject, asked, how)


# --- continuations compared


def _compared(task: Task, subject: Subject, asked: Sequence[Asked], how: How) -> Iterator[Record]:
    """Rows in the order of their prompts, so that what begins alike is read once."""
    scorer = subject.scorer(how.batch_tokens)
    start = beginning(subject.tokenizer, how.bos)
    order = sorted(asked, key=lambda one: (one.prompt.text, one.prompt.choices))
    for begin in range(0, len(order), ROWS):
        together: list[tuple[Asked, int, int]] = []
        requests: list[tuple[list[int], list[int]]] = []
        for one in order[begin : begin + ROWS]:
            try:
                mine, cut = _requests(subject, one.prompt, start)
            except Unanswerable as error:
                yield replace(one.record(task), unscored=str(error))
                continue
            together.append((one, len(mine), cut))
            requests += mine
        found = iter(subject.likelihoods(scorer, requests) if requests else ())
        for one, count, cut in together:
            yield compare_choices(task, one, [next(found) for _ in range(count)], truncated=cut)


def _requests(
    subject: Subject, prompt: Prompt, start: list[int]
) -> tuple[list[tuple[list[int], list[int]]], int]:
    """(context, continuation) for every choice, and how many tokens of the context could not be kept."""
    tokenizer = subject.tokenizer
    if prompt.messages is None:
        context, continuations = split(tokenizer, prompt.text, prompt.choices, start=start)
    else:
        context = subject.chat_ids(prompt.messages, prompt.tools)
        continuations = [tokenizer.encode(choice) for choice in prompt.choices]
        start = [id for id in context[:1] if id == tokenizer.bos_id]
    longest = max(
        continuations, key=len
    )  # one context for all, so that they are compared behind the same tokens
    context, cut = fit(context, longest, limit=subject.context, start=start)
    return [(context, continuation) for continuation in continuations], cut


def compare_choices(task: Task, one: Asked, found: Sequence[Likelihood], *, truncated: int = 0) -> Record:
    """The record of a row whose choices have these log-probabilities; of equals the first counts as chosen."""
    prompt, record = one.prompt, replace(one.record(task), truncated=truncated)
    logprobs = np.array([likelihood.logprob for likelihood in found])
    sizes = np.array([max(len(choice.strip().encode()), 1) for choice in prompt.bare])
    record = replace(
        record,
        answer=prompt.bare[int(logprobs.argmax())],
        gold=[prompt.bare[place] for place in prompt.gold if place >= 0],
        detail={"logprobs": logprobs.tolist(), "tokens": [len(likelihood.logprobs) for likelihood in found]},
    )
    if not np.isfinite(logprobs).all():
        return replace(record, detail={}, unscored=NOT_FINITE)
    if task.kind == "answer":
        return _surprise(record, prompt.choices[0], float(logprobs[0]))
    if not prompt.gold or min(prompt.gold) < 0:
        return replace(record, unscored="the right answer is not among the choices")
    shares = np.exp(logprobs - logprobs.max())
    scores = {
        "acc": float(int(logprobs.argmax()) in prompt.gold),
        "acc_norm": float(int((logprobs / sizes).argmax()) in prompt.gold),
        "mass": float(shares[list(prompt.gold)].sum() / shares.sum()),
    }
    record = replace(record, scores=_wanted(task, scores))
    if not task.score:
        return record
    said = find(task.score)(record.answer, one.row.fields, ScoreContext(answers=(record.answer,)))
    if isinstance(said, Unscored):
        return replace(record, scores={}, unscored=said.reason)
    also = {name: float(score) for name, score in said.items()}  # what else the choice says of the model
    return replace(record, scores={**record.scores, **also}, weights=weights_of(said))


# --- whole texts


def _rolling(task: Task, subject: Subject, asked: Sequence[Asked], how: How) -> Iterator[Record]:
    tokenizer = subject.tokenizer
    start = (
        beginning(tokenizer, how.bos)
        or [i for i in (tokenizer.bos_id, tokenizer.eos_id) if i is not None][:1]
    )
    for begin in range(0, len(asked), TEXTS):
        together = asked[begin : begin + TEXTS]
        texts = [tokenizer.encode(one.prompt.target) for one in together]
        enough = [i for i, ids in enumerate(texts) if len(ids) > (not start)]
        nats = dict(
            zip(
                enough,
                subject.rolling([texts[i] for i in enough], start, batch_tokens=how.batch_tokens)
                if enough
                else (),
                strict=True,
            )
        )
        for i, one in enumerate(together):
            yield _text_record(task, one, nats.get(i))


def _text_record(task: Task, one: Asked, logprob: float | None) -> Record:
    """Sizes as lm-evaluation-harness counts them: bytes of UTF-8, words between white space."""
    text, record = (
        one.prompt.target,
        replace(one.record(task), prompt=one.prompt.target, own=one.prompt.target),
    )
    if logprob is None:
        return replace(record, unscored="there is no text to predict")
    if not math.isfinite(logprob):
        return replace(record, unscored=NOT_FINITE)
    return _surprise(record, text, logprob)


def _surprise(record: Record, text: str, logprob: float) -> Record:
    size, words = len(text.encode()), len(re.split(r"\s+", text))
    scores = {"bits_per_byte": -logprob / math.log(2) / size}
    return replace(record, scores=scores, detail={"nats": -logprob, "bytes": size, "words": words})


# --- generated answers


def _generated(task: Task, subject: Subject, asked: Sequence[Asked], how: How) -> Iterator[Record]:
    score = find(task.score)
    if how.strategy is None:
        heard = answers(task, subject, asked, bos=how.bos, seed=how.seed)
    else:
        heard = strategic_answers(
            task, subject, asked, strategy=how.strategy, reward=how.reward, bos=how.bos, seed=how.seed
        )
    for place, answer in heard:
        one = asked[place]
        record = replace(
            one.record(task),
            prompt=answer.prompt,
            answer=answer.texts[0],
            gold=one.prompt.target,
            truncated=answer.truncated,
            detail=answer.detail,
        )
        if answer.fault:
            yield replace(record, unscored=answer.fault)
            continue
        row = {**one.row.fields, "turns": list(answer.turns)} if task.follow_ups else one.row.fields
        found = score(answer.texts[0], row, ScoreContext(target=one.prompt.target, answers=answer.texts))
        if isinstance(found, Unscored):
            yield replace(record, unscored=found.reason)
        else:
            yield replace(record, scores=_wanted(task, found), weights=weights_of(found))


def _wanted(task: Task, scores: Mapping[str, float]) -> dict[str, float]:
    """Plain numbers, of the metrics that the task reports."""
    wanted = task.metrics or METRICS[task.kind] or tuple(scores)
    return {name: float(scores[name]) for name in wanted if name in scores}
