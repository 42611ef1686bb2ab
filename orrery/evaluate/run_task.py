"""One task on one model: rows, prompts, answers, numbers.

    result = run_task(orrery.load("runs/quickstart"), "blimp", data=Path("data"), limit=500, out=Path("runs/eval"))
    print(result.metrics["acc"])

With `out`, each row's record is on disk as soon as there is one. A run that was interrupted goes on where it was; one that is there
already is read and not repeated; a folder that was measured with other settings is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from orrery.evaluate.boundary import Bos
from orrery.evaluate.contamination import contamination
from orrery.evaluate.measure import Asked, How, measure
from orrery.evaluate.prompts import ask
from orrery.evaluate.record import Record
from orrery.evaluate.results import RESULTS, TaskResult, read_result, write_result
from orrery.evaluate.rows import Rows, read_rows, shots_of
from orrery.evaluate.strategies.config import Strategy, slug
from orrery.evaluate.strategies.judging import Reward
from orrery.evaluate.strategies.measuring import check_task
from orrery.evaluate.subject import Subject
from orrery.evaluate.task import Task, find_task
from orrery.kit.artifact import environment
from orrery.kit.config import digest, to_dict
from orrery.kit.errors import OrreryError
from orrery.kit.files import atomic_write, ops
from orrery.kit.json_lines import RowLog
from orrery.kit.json_lines import read_rows as read_lines
from orrery.kit.log import Progress, Silent
from orrery.serve.engine.engine import Engine
from orrery.serve.lm import LM

WORK, SETTINGS, DONE = ".work", "settings.json", "samples.jsonl"


def run_task(
    model: LM | Engine | Subject,
    task: Task | str,
    *,
    data: Path | None = None,
    limit: int | None = None,
    shots: int | None = None,
    seed: int = 0,
    chat: bool | None = None,
    bos: Bos = "auto",
    batch_tokens: int = 2048,
    strategy: Strategy | None = None,
    reward: Reward | None = None,
    out: Path | None = None,
    progress: Progress | None = None,
) -> TaskResult:
    """Measure a task.

    Args:
        task: a task, or its name or path (`find_task`).
        data: the folder that the task's paths begin in; not for generated rows.
        limit: rows to ask, evenly spread. shots: demonstrations instead of the task's own number.
        seed: of drawn demonstrations and sampled answers.
        chat: whether the model's chat format asks; None: as the task says.
        bos: whether BOS stands before a text (`boundary.beginning`).
        strategy: how an answer is made at test time (`strategies`); the result is then called task@strategy.
        reward: the reward model that a strategy may judge by.
        out: results go to out/<task>.

    Raises:
        OrreryError: no such task or data, templates that do not fit the rows, a chat format that is missing, or other settings than
            those `out` was begun with.
    """
    subject = Subject.of(model)
    task = find_task(task) if isinstance(task, str) else task
    task = _with_shots(task, shots)
    if strategy is not None:
        check_task(task)
        task = replace(task, name=f"{task.name}@{slug(strategy)}")
    talks = _chat(task, subject, chat)
    rows = read_rows(task, data, limit=limit)
    how = How(bos=bos, seed=seed, batch_tokens=batch_tokens, strategy=strategy, reward=reward)
    settings = {
        "task": to_dict(task), "limit": limit, "seed": seed, "chat": talks, "bos": bos, "batch_tokens": batch_tokens,
        "model": subject.describe(), "data": dict(rows.files), "rows": digest([row.key for row in rows.rows], 16),
        "environment": environment(), **({} if strategy is None else {"strategy": to_dict(strategy)}),
    }  # fmt: skip
    folder = None if out is None else Path(out) / task.name
    if folder is not None and (folder / RESULTS).is_file():
        return _kept(folder, settings)
    asked = _asked(task, rows, chat=talks, seed=seed)
    records = _run(task, subject, asked, how, folder, settings, progress or Silent())
    records += [Record(id=row.id, key=row.key, unscored=row.unscored) for row in rows.rows if row.unscored]
    questions = {
        one.row.id: f"{one.prompt.own}\n{one.prompt.target or ' '.join(one.prompt.bare[:1])}" for one in asked
    }
    seen = contamination(questions, subject.folder, subject.tokenizer)
    result = TaskResult.of(records, settings=settings, contamination=seen)
    if folder is not None:
        write_result(result, folder)
        ops.remove(_work(folder))
    return result


def _with_shots(task: Task, shots: int | None) -> Task:
    """The task asked with so many demonstrations; 0 leaves fixed ones out too."""
    if shots is None:
        return task
    return replace(task, shots=shots, fixed_shots=task.fixed_shots if shots else "")


def _chat(task: Task, subject: Subject, wanted: bool | None) -> bool:
    """Whether the model's chat format writes the prompts."""
    if task.kind == "rolling":
        return False
    chat = task.chat if wanted is None else wanted
    if chat == "auto":
        return task.kind in ("generate", "answer") and subject.chat is not None
    if chat:
        subject.chat_format()
    return bool(chat)


def _asked(task: Task, rows: Rows, *, chat: bool, seed: int) -> list[Asked]:
    count = 0 if task.fixed_shots else task.shots
    asked = []
    for row in rows.rows:
        if not row.unscored:
            shown = shots_of(task, rows, row, count=count, seed=seed) if count else []
            asked.append(Asked(row=row, prompt=ask(task, row.fields, shown, chat=chat)))
    return asked


def _run(
    task: Task,
    subject: Subject,
    asked: list[Asked],
    how: How,
    folder: Path | None,
    settings: dict[str, Any],
    progress: Progress,
) -> list[Record]:
    """The records of all rows: those an earlier run has finished, and the rest, each on disk before the next is asked for."""
    records: list[Record] = []
    log: RowLog | None = None
    if folder is not None:
        work = _work(folder)
        records = _begun(work, settings)
        log = RowLog(work / DONE)
    done, tally = {record.id for record in records}, _Tally(records)
    left = [one for one in asked if one.row.id not in done]
    try:
        progress.update(len(done), len(asked), task=task.name, **tally.fields)
        for record in measure(task, subject, left, how):
            records.append(record)
            tally.add(record)
            if log is not None:
                log.append(record.to_dict())
            progress.update(len(records), len(asked), task=task.name, **tally.fields)
    finally:
        if log is not None:
            log.close()
    return records


class _Tally:
    """What a progress bar tells: the mean of the first metric so far, and how many could not be scored."""

    def __init__(self, records: list[Record]) -> None:
        self.name, self.sum, self.n, self.unscored = "", 0.0, 0, 0
        for record in records:
            self.add(record)

    def add(self, record: Record) -> None:
        self.unscored += bool(record.unscored)
        self.name = self.name or next(iter(record.scores), "")
        if self.name in record.scores:
            self.sum, self.n = self.sum + record.scores[self.name], self.n + 1

    @property
    def fields(self) -> dict[str, Any]:
        told: dict[str, Any] = {self.name: self.sum / self.n} if self.n else {}
        return told | ({"unscored": self.unscored} if self.unscored else {})


# --- folders


def _work(folder: Path) -> Path:
    return folder.with_name(folder.name + WORK)


def identity(settings: Mapping[str, Any]) -> str:
    """A hash of all that can change a score: not of where a model lies, nor of versions."""
    model = {name: value for name, value in settings["model"].items() if name not in ("name", "path")}
    kept = {name: value for name, value in settings.items() if name != "environment"}
    return digest(kept | {"model": model}, 16)


def _begun(work: Path, settings: dict[str, Any]) -> list[Record]:
    """What an interrupted run has finished."""
    if not (work / SETTINGS).is_file():
        atomic_write(work / SETTINGS, json.dumps(settings, indent=2, ensure_ascii=False) + "\n")
        return []
    if identity(json.loads((work / SETTINGS).read_text(encoding="utf-8"))) != identity(settings):
        raise OrreryError(
            f"'{work}' holds an unfinished run with other settings; choose another --out, or remove that folder"
        )
    rows = read_lines(work / DONE, torn=True) if (work / DONE).is_file() else []
    return list({record.id: record for record in map(Record.from_dict, rows)}.values())


def _kept(folder: Path, settings: dict[str, Any]) -> TaskResult:
    """A finished result of the same settings."""
    result = read_result(folder)
    if identity(result.settings) != identity(settings):
        raise OrreryError(
            f"'{folder}' holds a result with other settings; choose another --out, or remove that folder"
        )
    return result
