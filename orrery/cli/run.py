"""`orrery run`: every stage of a recipe, only what changed, with a report at the end."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orrery.cli.common import OVERRIDES


def run(
    recipe: Annotated[
        Path, typer.Argument(help="A recipe of stages (YAML), for example recipes/quickstart.yaml.")
    ],
    overrides: Annotated[list[str] | None, typer.Argument(help=OVERRIDES, metavar="[KEY=VALUE]...")] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder (default: the recipe's `out`).")] = None,
) -> None:
    """Run every stage of a recipe: text -> tokenizer -> data -> model -> evaluation -> samples -> report.

    Stages that are finished and unchanged are kept; an interrupted run goes on where it was.

    Example: orrery run recipes/quickstart.yaml stages.train.loop.minutes=10 out=runs/longer
    """
    from orrery.cli.pipeline.runner import run_recipe

    run_recipe(recipe, overrides or [], out=out)
