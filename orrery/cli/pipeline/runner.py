"""Run a list of stages; do again only what changed; go on where an interrupted run was.

A stage's folder is named by the hash of its resolved settings and of its inputs' ids, and is finished when its
receipt is there. So there is no state to keep: the same recipe finds the same folders, a changed setting names new
ones, and a run killed at any moment is continued by the same command.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orrery.cli.common import live
from orrery.cli.pipeline import stages
from orrery.cli.pipeline.recipe import RunRecipe, Stage, find_recipe
from orrery.kit.artifact import RECEIPT, Receipt, read_receipt
from orrery.kit.config import digest, override, read_yaml, resolve, to_dict
from orrery.kit.errors import OrreryError, suggest
from orrery.kit.files import atomic_write, sweep
from orrery.kit.log import console
from orrery.serve.demo import GEMMA
from orrery.serve.find import find_model, identity_of, run_stages

RUN, LOCK = "run.json", ".lock"


@dataclass
class Run:
    """A recipe being run: where, and which finished artifact each stage made."""

    recipe: RunRecipe
    out: Path
    folders: dict[str, Path] = field(default_factory=dict)
    receipts: dict[str, Receipt] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    reused: set[str] = field(default_factory=set)

    def stage(self, kind: str) -> str | None:
        """Name of the last stage of this kind, if any."""
        return next((s.name for s in reversed(self.recipe.stages) if s.kind == kind), None)


def run_recipe(source: str | Path | dict[str, Any], overrides: list[str], *, out: Path | None = None) -> Path:
    """Run every stage of a recipe and return the run folder.

    Raises:
        OrreryError: a setting is wrong, an input is missing, another process is at work in the folder ...
        KeyboardInterrupt: stopped by Ctrl-C after putting things in order; the same call goes on.
    """
    where = "the recipe" if isinstance(source, dict) else str(source)
    data = source if isinstance(source, dict) else read_yaml(find_recipe(source))
    data = override(data, overrides)
    if out is not None:
        data["out"] = str(out)
    recipe: RunRecipe = resolve(RunRecipe, data, where=where)
    run = Run(recipe=recipe, out=Path(recipe.out))
    with locked(run.out):
        sweep(run.out)
        for stage in recipe.stages:
            run_stage(run, stage)
            _remember(run)
        if any(receipt.kind in ("model", "adapter") for receipt in run.receipts.values()):
            from orrery.cli.pipeline.report import write_report

            write_report(run)
    return run.out


def run_stage(run: Run, stage: Stage) -> None:
    """Make one stage's artifact, or find it finished."""
    inputs = {role: find_input(run, stage, role, name) for role, name in stage.inputs().items()}
    identity = {
        "stage": to_dict(stage),
        "inputs": {role: identity_of(folder) for role, folder in inputs.items()},
        "source": stages.source_identity(run.recipe) if stage.reads_source else None,
        "format": stages.FORMAT,
    }
    if (files := stages.file_identity(stage)) is not None:
        identity["files"] = files
    folder = run.out / f"{stage.name}-{digest(identity, 8)}"
    started = time.monotonic()
    if (folder / RECEIPT).is_file():
        run.reused.add(stage.name)
        console.print(
            f"[dim]{stage.name:<11} done before, kept ({folder})[/]", highlight=False, soft_wrap=True
        )
    else:
        with live(stage.name) as progress:
            stages.make(stage, recipe=run.recipe, inputs=inputs, folder=folder, progress=progress)
    run.folders[stage.name] = folder
    run.receipts[stage.name] = read_receipt(folder)
    run.seconds[stage.name] = time.monotonic() - started
    if stage.name not in run.reused:
        line = stages.one_line(run.receipts[stage.name])
        console.print(
            f"[bold]{stage.name:<11}[/] {line} [dim]({run.seconds[stage.name]:.0f} s)[/]",
            highlight=False,
            soft_wrap=True,
        )


def find_input(run: Run, stage: Stage, role: str, name: str) -> Path:
    """An input names an earlier stage, an artifact's folder, a run folder that holds such an artifact; or any model.

    Raises:
        OrreryError: it names none of these.
    """
    if name in run.folders:
        return run.folders[name]
    path = Path(name)
    if (path / RECEIPT).is_file():
        return path
    if (path / RUN).is_file():
        return (
            find_model(path)
            if role in stages.MODELS
            else stage_folder(path, stages.ROLE_KINDS.get(role, "examples"))
        )
    earlier = list(run.folders)
    if role in stages.MODELS and (path.exists() or "/" in name or name == GEMMA):
        return find_model(name)
    raise OrreryError(
        f"the stage '{stage.name}' reads {role} from '{name}', which is neither an earlier stage ({', '.join(earlier) or 'none'}) "
        f"nor a folder made by orrery.{suggest(name, earlier)}"
    )


def stage_folder(out: Path, kind: str) -> Path:
    """The newest artifact of a kind ('tokenizer', 'data', 'model', ...) in a run folder."""
    for name, folder in reversed(run_stages(out)):
        if name == kind and (folder / RECEIPT).is_file():
            return folder
    raise OrreryError(f"the run '{out}' holds no finished {kind} yet; run it to the end first")


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """One process at a time in a run folder; the lock goes when the process does, however it ends."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        handle = open(out / LOCK, "w")  # noqa: SIM115 (held by the block below)
    except OSError as error:
        raise OrreryError(
            f"cannot write in '{out}': {error.strerror}; choose another folder with out=..."
        ) from None
    with handle:
        try:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except ImportError:
            pass  # a system without flock: two runs at once are the person's own care
        except OSError:
            raise OrreryError(
                f"another orrery process is at work in '{out}'; wait for it or choose another out="
            ) from None
        try:
            yield
        finally:
            if os.listdir(out) == [LOCK]:  # it failed before it made anything
                (out / LOCK).unlink()
                out.rmdir()


def _remember(run: Run) -> None:
    """`run.json`: which folder each stage made, for the verbs that are given a run folder; and the whole recipe."""
    data = {
        "name": run.recipe.name,
        "recipe": to_dict(run.recipe),
        "stages": [
            {"name": name, "kind": run.receipts[name].kind, "folder": os.path.relpath(folder, run.out), "id": run.receipts[name].id}
            for name, folder in run.folders.items()
        ],
    }  # fmt: skip
    atomic_write(run.out / RUN, json.dumps(data, indent=2) + "\n")
