"""The eval stage: a model's scores on tasks, as an artifact that later stages and the report can read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from orrery.cli.pipeline.recipe import EvalStage
from orrery.cli.strategies import reward_of
from orrery.evaluate.results import TaskResult, put_result
from orrery.evaluate.run_task import run_task
from orrery.evaluate.task import Files, Task, find_task
from orrery.kit.artifact import RECEIPT, write_receipt
from orrery.kit.config import digest
from orrery.kit.files import atomic_folder, ops
from orrery.kit.log import Progress
from orrery.serve.find import identity_of
from orrery.serve.lm import LM


def make_scores(stage: EvalStage, model: Path, folder: Path, progress: Progress) -> None:
    """Measure in `<folder>.work`, where an interrupted stage goes on; then write a folder for each task and the receipt."""
    work = folder.with_name(folder.name + ".work")
    lm, data = LM.load(model), Path(stage.data) if stage.data else None
    results = [
        run_task(
            lm, name, data=data, limit=stage.limit, shots=stage.shots, seed=stage.seed, chat=stage.chat, bos=stage.bos,
            strategy=stage.strategy, reward=reward_of(stage.strategy), out=work, progress=progress,
        )
        for name in stage.tasks
    ]  # fmt: skip
    foreign = not (model / RECEIPT).is_file()
    told: dict[str, Any] = {result.task: dict(result.settings["data"]) for result in results}
    if foreign:
        told["model"] = {"path": str(model.resolve()), "id": identity_of(model)}
    with atomic_folder(folder) as new:
        for result in results:
            (new / result.task).mkdir()
            put_result(_anywhere(result), new / result.task)
        write_receipt(
            new, kind="scores", operation="eval", recipe=stage, parents={} if foreign else {"model": model}, home=folder,
            data=told, effects={"model": stage.model, "tasks": {result.task: _effects(result) for result in results}},
        )  # fmt: skip
    ops.remove(work)


def _anywhere(result: TaskResult) -> TaskResult:
    """The result without what the receipt says already and what differs from machine to machine: equal artifacts are equal bytes."""
    model = {name: value for name, value in result.settings["model"].items() if name not in ("name", "path")}
    kept = {name: value for name, value in result.settings.items() if name != "environment"}
    return replace(result, settings=kept | {"model": model})


def _effects(result: TaskResult) -> dict[str, Any]:
    return {
        "n": result.n,
        "unscored": sum(result.unscored.values()),
        "contamination": result.contamination.status,
        "metrics": {name: estimate.to_dict() for name, estimate in result.metrics.items()},
        **({"tokens_an_answer": spent["tokens"].mean} if (spent := result.spent) else {}),
    }


def state_of_tasks(stage: EvalStage) -> list[Any]:
    """What the tasks are and what the files are that they read, cheaply: each task's hash, each file's size and time of change."""
    told: list[Any] = []
    for name in stage.tasks:
        task = find_task(name)
        stats = [(str(path), path.stat()) for path in _files(task, Path(stage.data))]
        told.append([digest(task, 16), [(path, stat.st_size, stat.st_mtime_ns) for path, stat in stats]])
    return told


def _files(task: Task, folder: Path) -> list[Path]:
    data = task.data
    if not isinstance(data, Files):
        return []
    joins = data.join if isinstance(data.join, tuple) else (data.join,)
    patterns = [*_listed(data.path), *_listed(data.shots), *(join.path for join in joins)]
    return sorted(path for pattern in patterns for path in folder.glob(pattern))


def _listed(paths: str | Sequence[str]) -> Sequence[str]:
    return (paths,) if isinstance(paths, str) else paths
