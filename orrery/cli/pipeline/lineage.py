"""What a model was made from, read from receipts; and which documents a training step read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from orrery.kit.artifact import RECEIPT, Ancestor, read_receipt
from orrery.kit.config import resolve
from orrery.kit.errors import OrreryError


def find_artifact(path: Path) -> Path:
    """The artifact meant by `path`: itself, or the newest model of a run folder."""
    from orrery.cli.pipeline.runner import RUN, stage_folder

    if (path / RECEIPT).is_file():
        return path
    if (path / RUN).is_file():
        return stage_folder(path, "model")
    if not path.exists():
        raise OrreryError(f"nothing at '{path}'; give a model folder or a run folder such as runs/quickstart")
    read_receipt(path)
    return path


def documents_of_step(folder: Path, step: int) -> list[dict[str, Any]]:
    """The pieces of documents in the batch of one training step, from the receipt's own data parent and settings.

    Raises:
        OrreryError: the artifact was not trained on prepared data, its data is gone, or it has no such step.
    """
    from orrery.cli.pipeline.recipe import TrainStage
    from orrery.data.loader import Loader
    from orrery.data.shard import Shards

    receipt = read_receipt(folder)
    data = next((folder / p.path for p in receipt.parents if p.role == "data"), None)
    if data is None or not (data / RECEIPT).is_file():
        raise OrreryError(
            f"the data that '{folder}' was trained on is not there any more, so its batches cannot be listed"
        )
    total = receipt.effects.get("steps", 0)
    if step >= total:
        raise OrreryError(
            f"'{folder}' was trained for {total} steps (0 to {total - 1}); there is no step {step}"
        )
    stage: TrainStage = resolve(TrainStage, receipt.recipe, where=str(folder))
    loader = Loader(Shards(data, "train"), stage.loader)
    return [vars(origin) for origin in loader.lineage(step)]


def print_tree(tree: list[Ancestor], documents: list[dict[str, Any]] | None, step: int | None) -> None:
    """The lineage as an indented tree on stdout."""
    from rich.console import Console
    from rich.table import Table
    from rich.tree import Tree

    console = Console()
    branches: dict[int, Tree] = {}
    for item in tree:
        style = "green" if item.state == "here" else "red"
        label = f"[bold]{item.operation}[/] {item.role and f'({item.role})'} [cyan]{item.id[:12]}[/] {item.path} [{style}]{item.state}[/]"
        if item.receipt:
            label += f"\n[dim]{summary(item)}[/]"
        branch = Tree(label) if item.depth == 0 else branches[item.depth - 1].add(label)
        branches[item.depth] = branch
    console.print(branches[0])
    if documents is not None:
        table = Table(title=f"documents read by step {step}", title_justify="left")
        for column in documents[0] if documents else ():
            table.add_column(column)
        for row in documents:
            table.add_row(*(str(value) for value in row.values()))
        console.print(table)


def summary(item: Ancestor) -> str:
    """When and with what an artifact was made, and its main numbers."""
    receipt = item.receipt
    if receipt is None:
        return ""
    versions = receipt.environment.get("versions", {})
    numbers = ", ".join(
        f"{k} {v:,.4g}" if isinstance(v, float) else f"{k} {v:,}"
        for k, v in receipt.effects.items()
        if isinstance(v, int | float)
    )
    made = f"{receipt.created} · orrery {versions.get('orrery-lm', '?')} · torch {versions.get('torch', '?')} · commit {receipt.environment.get('commit', '?')}"
    return made + (f"\n{numbers}" if numbers else "")
