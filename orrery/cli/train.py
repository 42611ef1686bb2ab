"""`orrery train`: one pre-training run on prepared data, of a model or of a drafter for one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from orrery.cli.common import OVERRIDES


def train(
    recipe: Annotated[
        Path,
        typer.Argument(help="A recipe of kind `train` or `drafter` (YAML), for example recipes/train.yaml."),
    ],
    overrides: Annotated[list[str] | None, typer.Argument(help=OVERRIDES, metavar="[KEY=VALUE]...")] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder (default: the recipe's `out`).")] = None,
) -> None:
    """Pre-train a decoder on prepared data, or a drafter for a model. Stop it any time; the same command goes on, bit for bit.

    Example: orrery train recipes/train.yaml data=runs/quickstart loop.minutes=30 model.n_layers=6

    Example: orrery train recipes/drafter.yaml base=runs/quickstart data=runs/quickstart
    """
    from orrery.cli.pipeline.single import single_stage

    single_stage(recipe, overrides or [], kind=("train", "drafter"), out=out)
